"""Workloads that choose their model, and what a test asks of a run of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import PARTITION, asked

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
TOMORROW = "2026-11-23"
Run = Callable[..., Any]


def runner(desk: Desk, simulator: Simulator, clock: MovableClock) -> Run:
    """Bring a workload to rest; both clocks move where nothing else is to be done."""

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(BATCH_SECONDS)

    def until_at_rest(workload: Workload, partition: str = PARTITION) -> None:
        assert drive.run(desk, workload, wait, partition=partition).at_rest

    return until_at_rest


def billed(simulator: Simulator) -> dict[str, int]:
    """Requests billed, by model; none was billed twice."""
    invoice = simulator.invoice()
    assert invoice["billed_twice"] == 0
    return {name: row["billed"] for name, row in invoice["by_model"].items() if row["billed"]}


def accepted(simulator: Simulator) -> int:
    count: int = simulator.invoice()["accepted_requests"]
    return count


def models(desk: Desk, name: str = "notes") -> dict[str, str]:
    """Record -> the model whose answer it got, in the newest snapshot."""
    return dict(asked(desk, f"SELECT record_id, model FROM {name}.latest"))


def check_delivered(desk: Desk, simulator: Simulator, records: int, name: str = "notes") -> None:
    """Each record is there once with an answer, and the costs are the invoice's."""
    found = asked(desk, f"SELECT count(*), count(DISTINCT record_id), sum(cost_usd) FROM {name}.results")[0]
    done = asked(desk, f"SELECT count(*) FROM {name}.results WHERE outcome = 'succeeded'")[0][0]
    assert (found[0], found[1], done) == (records, records, records)
    assert abs(found[2] - float(simulator.invoice()["total_usd"])) < 1e-10 * records
