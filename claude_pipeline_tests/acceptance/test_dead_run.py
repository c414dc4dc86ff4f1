"""A run whose process was killed, code server and all, stays STARTED in Dagster: the controller ends it by its lock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from claude_pipeline.components.desk_resource import LOCK_TAG, lock_name
from claude_pipeline.components.key import ACTION_TAG, WORKLOAD_TAG
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Options, running
from claude_pipeline_tests.acceptance.test_flow import PARTITION, Miniature
from claude_pipeline_tests.factory import note, workload_over


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Miniature]:
    """One prepared workload, ready to be sent."""
    with running(Options(paused=True)) as simulator, dg.instance_for_test() as instance:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)
        workload = workload_over(tmp_path, [note(n) for n in range(10)], start_date="2026-11-01")
        mini = Miniature([workload], tmp_path / "home", instance)
        assert mini.run("notes_requests", PARTITION)
        yield mini


def started_run(mini: Miniature) -> str:
    """A submit run that Dagster believes to be at work."""
    job = mini.repository.get_job("notes_submit")
    tags = {WORKLOAD_TAG: "notes", ACTION_TAG: "submit"}
    run: dg.DagsterRun = mini.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    mini.instance.add_run_tags(run.run_id, {LOCK_TAG: lock_name(run.run_id)})
    return run.run_id


def status_of(mini: Miniature, run_id: str) -> str:
    run = mini.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def test_a_started_run_that_holds_its_lock_is_left_alone(miniature: Miniature) -> None:
    run_id = started_run(miniature)

    with Ledger.open(None, path=Home(miniature.home).ledger) as ledger, ledger.lock(lock_name(run_id)):
        assert miniature.turn() == []

    assert status_of(miniature, run_id) == "STARTED"


def test_a_started_run_whose_lock_is_free_is_ended_and_its_work_is_next(miniature: Miniature) -> None:
    run_id = started_run(miniature)

    assert miniature.turn() == []
    assert status_of(miniature, run_id) == "FAILURE"
    reason = miniature.last_reason or ""
    assert reason.startswith(
        f"ended run {run_id[:8]}, whose process was killed; notes: the last submit failed; next try"
    )


def test_a_run_leaves_no_lock_behind(miniature: Miniature) -> None:
    assert miniature.turn() == [("notes_submit", True)]

    assert list(Home(miniature.home).lock("x").parent.glob("run-*")) == []
