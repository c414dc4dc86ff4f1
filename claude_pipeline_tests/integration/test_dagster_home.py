"""The instance that the product makes under a home."""

from __future__ import annotations

from pathlib import Path

from dagster._core.run_coordinator import QueuedRunCoordinator  # what the daemon asks for its intervals

from claude_pipeline.cli.dagster_home import dagster_home, open_instance
from claude_pipeline.home import Home


def test_queued_runs_start_within_a_second_side_by_side_and_no_more_than_four(tmp_path: Path) -> None:
    with open_instance(Home(tmp_path)) as instance:
        queue = instance.run_coordinator
        assert isinstance(queue, QueuedRunCoordinator)
        assert (queue.dequeue_interval_seconds, queue.dequeue_use_threads) == (1, True)
        limit = instance.get_concurrency_config().run_queue_config
    assert limit is not None
    assert limit.max_concurrent_runs == queue.dequeue_num_workers == 4


def test_a_persons_own_settings_stay_as_they_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.dagster.mkdir()
    settings = home.dagster / "dagster.yaml"
    settings.write_text("run_queue: {dequeue_interval_seconds: 30}\n", encoding="utf-8")
    assert dagster_home(home) == home.dagster
    with open_instance(home) as instance:
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert instance.run_coordinator.dequeue_interval_seconds == 30
    assert settings.read_text(encoding="utf-8") == "run_queue: {dequeue_interval_seconds: 30}\n"
