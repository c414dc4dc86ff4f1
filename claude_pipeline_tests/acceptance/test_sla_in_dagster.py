"""The 24 h in the Dagster UI: the check `sla` written by the sensor, the freshness of what is merged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.acceptance.test_flow import PARTITION, Miniature, workload

CHECK = dg.AssetCheckKey(dg.AssetKey(["reviews", "batches"]), "sla")
HOUR = 3600


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Its clock is twenty hours behind: what is created now is that old already."""
    start = datetime.now(UTC) - timedelta(hours=20)
    with running(Options(paused=True, batch_seconds=(60, 60), seed=3, start=start)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        monkeypatch.setenv("CLAUDE_PIPELINE_SETTLE_SECONDS", "0")
        yield simulator


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def evaluations(instance: dg.DagsterInstance) -> list[tuple[bool, str]]:
    """Passed and severity of each evaluation, oldest first."""
    history: Any = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100)
    return [(record.evaluation.passed, record.evaluation.severity.value) for record in reversed(history)]


def test_the_check_warns_once_fails_once_and_passes_when_nothing_is_late(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    mini = Miniature([workload(tmp_path, lane="batch")], tmp_path / "home", instance)
    simulator.faults.add(endpoint="create", kind="stuck", count=1)
    mini.run("reviews_requests", PARTITION)
    for _ in range(4):
        mini.turn()
    assert evaluations(instance) == [(False, "WARN")]

    simulator.clock.advance(60)  # two of the three batches end, which is no news as long as one is late
    mini.turn()
    assert evaluations(instance) == [(False, "WARN")]

    simulator.clock.advance(25 * HOUR)  # every request of the third expires; they are asked again
    simulator.faults.clear()
    mini.turns(simulator)
    # Said again of the newest batch, in which the expired requests went out a second time.
    assert evaluations(instance) == [(False, "WARN"), (False, "ERROR"), (False, "ERROR")]


def test_a_warning_still_shows_when_more_is_sent(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    """A check counts as not evaluated once its asset was materialized again: the warning was gone with the next batch."""
    mini = Miniature([workload(tmp_path, lane="batch")], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    mini.turn()
    mini.turn()
    assert evaluations(instance) == [(False, "WARN")]

    batches = CHECK.asset_key
    instance.report_runless_asset_event(dg.AssetMaterialization(batches, partition=f"{PARTITION}.1|r1-0001"))
    mini.turn()
    mini.turn()

    assert evaluations(instance) == [(False, "WARN")] * 2
    (shown,) = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=1)
    assert asyncio.run(shown.targets_latest_materialization(LoadingContextForTest(instance)))


def test_a_batch_in_time_passes_the_check(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> None:
    mini = Miniature([workload(tmp_path, lane="batch", sla_warn_share=0.95)], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    for _ in range(3):
        mini.turn()

    assert evaluations(instance) == [(True, "WARN")]


def test_a_person_may_run_the_check(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> None:
    mini = Miniature([workload(tmp_path, lane="batch")], tmp_path / "home", instance)
    mini.run("reviews_requests", PARTITION)
    mini.turn()
    selection = dg.AssetSelection.checks(CHECK)
    job = dg.define_asset_job("check", selection=selection).resolve(asset_graph=mini.repository.asset_graph)
    assert job.execute_in_process(instance=instance).success
    before = evaluations(instance)
    mini.turn()

    assert before == evaluations(instance) == [(False, "WARN")]


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        pytest.param({}, None, id="nothing-says-when-the-next-one-is-due"),
        pytest.param({"schedule": "0 2 * * *"}, (48, 42), id="daily"),
        pytest.param({"schedule": "0 2 * * 1-5", "deadline_hours": 8}, (80, 78), id="rests-at-weekends"),
        pytest.param({"schedule": "0 * * * *", "deadline_hours": 1}, (2, 1.75), id="hourly"),
        pytest.param(
            {"schedule": "0 * * * *", "partition": "daily", "deadline_hours": 1}, (25, 24.75), id="within-a-day"
        ),
    ],
)
def test_what_is_merged_is_fresh_for_a_tick_and_its_deadline(
    tmp_path: Path, changes: dict[str, object], windows: tuple[float, float] | None
) -> None:
    mini = Miniature([workload(tmp_path, **changes)], tmp_path / "home", dg.DagsterInstance.ephemeral())
    policy: Any = (
        mini.repository.assets_defs_by_key[dg.AssetKey(["reviews", "merged"])]
        .specs_by_key[dg.AssetKey(["reviews", "merged"])]
        .freshness_policy
    )

    hours = policy and tuple(
        window.to_timedelta() / timedelta(hours=1) for window in (policy.fail_window, policy.warn_window)
    )
    assert hours == windows
