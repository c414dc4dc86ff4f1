"""A budget's wall as people see it: the check, the skip reason, and going on once it is raised."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.acceptance.test_flow import PARTITION, Miniature, instance, simulator, workload

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
