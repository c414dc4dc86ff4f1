"""A pilot asks a sample for real; its answers are kept, and the full run asks only the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import UsageError
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast import plan_workload
from claude_pipeline.stage.pilot import read_pilot
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import asked, note, workload_over

RECORDS = 60
ROWS = [note(n, text="word " * (1 + n)) for n in range(RECORDS)]
OUTPUT = {"type": "object", "properties": {"queue": {"type": "string", "enum": ["a", "b"]}}, "required": ["queue"]}


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, ROWS, output=OUTPUT)


def piloted(desk: Desk, workload: Workload, simulator: Simulator, count: int = 12) -> None:
    prepare(desk, workload, drive.PARTITION, pilot=count)
    assert drive.carry_on(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS)).at_rest


def finished(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    drive.run(desk, workload, lambda: simulator.clock.advance(BATCH_SECONDS))


def test_a_pilot_asks_its_sample_and_comes_to_rest(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    assert simulator.invoice()["billed_requests"] == 12
    assert desk.ledger.last_publication() is None


def test_the_sample_has_small_and_large_records(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    rows = [row for chunk in desk.ledger.chunks("notes") for row in rows_of(desk, chunk.index_path)]
    assert [sum(low <= row < low + 20 for row in rows) for low in (0, 20, 40)] == [4, 4, 4]


def rows_of(desk: Desk, index: str) -> list[int]:
    import pyarrow.parquet as pq

    found: list[int] = pq.read_table(desk.path(index), columns=["row"]).column("row").to_pylist()
    return found


def test_the_full_run_asks_only_the_rest(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    finished(desk, workload, simulator)
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (RECORDS, 0)
    found = asked(
        desk,
        "SELECT count(*), count(*) FILTER (answer_source IN ('batch', 'realtime') AND cost_usd > 0) FROM notes.results",
    )
    assert found == [(RECORDS, RECORDS)]
    cost = asked(desk, "SELECT sum(cost_usd) FROM notes.results")[0][0]
    assert cost == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)


def test_the_full_run_may_begin_before_the_pilot_is_answered(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", share=0.5, attempts=1)
    prepare(desk, workload, drive.PARTITION, pilot=12)
    drive.act(desk, workload, drive.Action(drive.Kind.SUBMIT, "notes"))
    finished(desk, workload, simulator)
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (RECORDS, 0)
    assert asked(desk, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'") == [(RECORDS,)]


def test_errors_of_a_pilot_are_asked_again(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_error", share=1.0, attempts=1)
    piloted(desk, workload, simulator)
    found = read_pilot(desk, workload, desk.ledger.snapshots("notes")[0])
    assert (found.asked, found.succeeded, found.valid) == (12, 12, 12)


def test_the_same_pilot_again_asks_nothing(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    piloted(desk, workload, simulator)
    assert simulator.invoice()["billed_requests"] == 12


def test_a_larger_pilot_asks_what_it_lacks(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    piloted(desk, workload, simulator, 20)
    assert simulator.invoice()["billed_twice"] == 0
    finished(desk, workload, simulator)
    assert simulator.invoice()["billed_requests"] == RECORDS


def test_a_pilot_beyond_the_dataset_asks_all_of_it(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator, 1_000)
    assert simulator.invoice()["billed_requests"] == RECORDS
    finished(desk, workload, simulator)
    assert simulator.invoice()["billed_requests"] == RECORDS


def test_a_pilot_of_a_planned_snapshot_is_refused(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    finished(desk, workload, simulator)
    with pytest.raises(UsageError, match="planned in full already"):
        prepare(desk, workload, drive.PARTITION, pilot=5)


def test_its_answers_stand_beside_their_records(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    piloted(desk, workload, simulator)
    found = read_pilot(desk, workload, desk.ledger.snapshots("notes")[0])
    assert found.columns == ("record_id", "text", "outcome", "queue")
    assert len(found.shown) == 10
    shown: dict[str, Any] = dict(zip(found.columns, found.shown[0], strict=True))
    assert shown["queue"] in ("a", "b")
    assert found.cost_usd == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)


def test_the_plan_after_a_pilot_tells_the_rest_within_its_interval(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    piloted(desk, workload, simulator, 20)
    spent = float(simulator.invoice()["total_usd"])
    plan = plan_workload(desk, workload, drive.PARTITION)
    finished(desk, workload, simulator)
    truth = float(simulator.invoice()["total_usd"]) - spent
    assert plan.counts.requests == RECORDS - 20
    assert plan.option("batch").usd.low <= truth <= plan.option("batch").usd.high
