"""A chunk that the API refuses as too large goes again in halves, until each fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.controller import Kind, decide, survey
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import halve_refused
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import asked, note, prepared_snapshot, sent_chunks, states, workload_over
from claude_pipeline_tests.integration.hand_case import calmly, check_costs, reasons
from claude_pipeline_tests.integration.submit_case import creates

TOO_LARGE: list[Any] = [
    pytest.param({"kind": 413, "error_type": "request_too_large"}, id="413"),
    pytest.param({"kind": "html_413"}, id="413-in-html"),
]


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


def sizes(desk: Desk) -> list[int]:
    return [c.requests for c in desk.ledger.chunks("notes") if c.state != "canceled"]


@pytest.mark.both_databases
@pytest.mark.parametrize("fault", TOO_LARGE)
def test_a_chunk_too_large_is_halved_until_it_fits(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, fault: dict[str, Any]
) -> None:
    simulator.faults.add(endpoint="create", count=2, **fault)
    prepared_snapshot(desk, workload)

    calmly(desk, workload, simulator, clock)

    assert sorted(sizes(desk)) == [2, 3, 5]
    assert asked(desk, "SELECT count(answer), count(DISTINCT record_id) FROM notes.results") == [(10, 10)]
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (10, 0)
    check_costs(desk, simulator)


def test_one_request_that_is_too_large_fails_with_the_apis_sentence(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(3)])
    simulator.faults.add(kind=413, endpoint="create", error_type="request_too_large", message="too large by far")
    prepared_snapshot(desk, workload)

    calmly(desk, workload, simulator, clock)

    assert sizes(desk) == [1, 1, 1]
    assert reasons(desk) == {"request_too_large": 3}
    assert "too large by far" in asked(desk, "SELECT min(error_message) FROM notes.dead_letters")[0][0]
    assert decide(survey(desk, workload)) == []


def test_a_chunk_to_be_halved_is_no_dead_letter_meanwhile(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind=413, endpoint="create", error_type="request_too_large", count=1)
    sent_chunks(desk, workload)

    situation = survey(desk, workload)

    assert not situation.at_rest
    assert [action.kind for action in decide(situation)] == [Kind.SUBMIT]


@pytest.mark.parametrize("moment", ["before", "halfway"])
def test_a_crash_between_refusal_and_split_loses_and_doubles_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, moment: str
) -> None:
    simulator.faults.add(kind=413, endpoint="create", error_type="request_too_large", count=1)
    sent_chunks(desk, workload)
    if moment == "halfway":  # the halves are on disk, the ledger does not know them
        second = desk.home.requests("notes", desk.ledger.snapshots("notes")[0].id, "r1-0003.parquet")
        second.mkdir()  # nothing can be put in its place
        with pytest.raises(OSError, match="r1-0003"):
            halve_refused(desk, workload)
        second.rmdir()

    calmly(desk, workload, simulator, clock)

    assert sizes(desk) == [5, 5]
    assert (simulator.invoice()["billed_requests"], creates(simulator)) == (10, {"200": 2, "413": 1})


def test_a_refused_chunk_of_an_older_plan_is_not_halved(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    simulator.faults.add(kind=413, endpoint="create", error_type="request_too_large", count=1)
    sent_chunks(desk, workload)
    changed = workload_over(tmp_path, [note(n) for n in range(10)], prompt="Judge: {{ text }}")
    prepared_snapshot(desk, changed)

    calmly(desk, changed, simulator, clock)

    assert states(desk, changed) == ["failed", "done"]
    assert decide(survey(desk, changed)) == []
