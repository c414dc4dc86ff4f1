"""A budget's wall as people see it: the check, the skip reason, and going on once it is raised."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.acceptance.test_flow import PARTITION, QUIET, Miniature, instance, simulator, workload

__all__ = ["instance", "simulator"]  # fixtures
CHECK = dg.AssetCheckKey(dg.AssetKey(["reviews", "requests"]), "within_budget")


def last_check(of: dg.DagsterInstance) -> tuple[bool, str]:
    """Whether the newest evaluation passed, and its words."""
    record = of.event_log_storage.get_asset_check_execution_history(CHECK, limit=1)[0]
    assert record.event is not None
    assert record.event.dagster_event is not None
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    return evaluation.passed, evaluation.description or ""


def test_a_wall_is_said_alike_by_the_check_and_the_sensor_and_a_raised_one_is_gone_on_with(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance
) -> None:
    tight = Miniature([workload(tmp_path, budget_usd=1e-6)], tmp_path / "home", instance)
    tight.materialize("reviews", "requests", PARTITION)
    passed, before = last_check(instance)
    assert (passed, "would pass budget_usd" in before) == (False, True)

    assert tight.turn() == [("reviews_submit", True)]
    passed, sentence = last_check(instance)
    assert (passed, "would pass budget_usd" in sentence) == (False, True)
    assert tight.turn() == []  # it waits, and says why
    assert tight.last_reason == f"reviews: {sentence}"
    assert "raise budget_usd to go on" in sentence
    assert simulator.invoice()["batches"] == 0

    raised = Miniature([workload(tmp_path, budget_usd=1.0)], tmp_path / "home", instance)
    assert raised.turn() == [("reviews_submit", True)]
    assert last_check(instance) == (True, "no chunk is held by the budget any more")
    raised.turns(simulator)
    assert raised.rows("SELECT count(*) FROM reviews.results WHERE outcome = 'succeeded'") == [(40,)]


@pytest.mark.parametrize("resource", ["desk", "io_manager", "warehouse"])
def test_a_forged_run_cannot_name_another_home(
    tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance, resource: str
) -> None:
    """There the ledger would know of no budget spent, and of nothing sent."""
    mini = Miniature([workload(tmp_path)], tmp_path / "home", instance)
    field = "database" if resource == "warehouse" else "home"
    forged = {"resources": {resource: {"config": {field: str(tmp_path / "another")}}}}

    with pytest.raises(dg.DagsterInvalidConfigError, match=f'Received unexpected config entry "{field}"'):
        mini.repository.get_job("reviews_requests").execute_in_process(
            instance=instance, partition_key=PARTITION, run_config=forged
        )


def test_a_forged_run_has_no_say_in_money(tmp_path: Path, simulator: Simulator, instance: dg.DagsterInstance) -> None:
    """The wall stands in the workload's file, the environment and the ledger; config and tags are not looked at."""
    mini = Miniature([workload(tmp_path, budget_usd=1e-6)], tmp_path / "home", instance)
    for job in ("reviews_requests", "reviews_submit"):
        partition = PARTITION if job == "reviews_requests" else None
        forged = QUIET | {"ops": {"reviews__requests": {"config": {"budget_usd": 1_000}}}} if partition else QUIET
        result = mini.repository.get_job(job).execute_in_process(
            instance=instance, partition_key=partition, run_config=forged, tags={"claude/budget_usd": "1000"}
        )
        assert result.success

    assert simulator.invoice()["batches"] == 0
