"""A create given up as not accepted, and accepted all the same: adopted, or told as paid twice; never merged twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from claude_pipeline import crash
from claude_pipeline.cli.status import gather
from claude_pipeline.lane.stranger import meet_strangers
from claude_pipeline.ledger import ChunkState, IntentState
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import asked, note, prepared_snapshot, send_ready, sent_chunks, states, workload_over
from claude_pipeline_tests.integration.hand_case import calmly
from claude_pipeline_tests.integration.submit_case import after_settling, batches_at


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


def check_paid_once(desk: Desk, simulator: Simulator, *, records: int) -> None:
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (records, 0)
    assert asked(desk, "SELECT count(answer), count(DISTINCT record_id) FROM notes.latest") == [(records, records)]


def accepted_late(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    """A chunk whose create was found absent before the API accepted it."""
    simulator.faults.add(kind="accept_late", endpoint="create", seconds=1.0, count=1)
    prepared_snapshot(desk, workload)
    assert len(send_ready(desk, workload).doubtful) == 1
    assert len(after_settling(desk, clock).absent) == 1


def until_accepted(simulator: Simulator, batches: int) -> None:
    until = time.monotonic() + 20
    while batches_at(simulator) < batches:
        assert time.monotonic() < until
        time.sleep(0.05)  # the simulator's own real seconds: no clock to move
    simulator.clock.advance(BATCH_SECONDS)


def test_a_batch_accepted_after_it_was_given_up_is_adopted_where_it_was_not_sent_again(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)])
    accepted_late(desk, workload, simulator, clock)
    until_accepted(simulator, 1)

    sent = send_ready(desk, workload).sent

    assert (sent, states(desk, workload), batches_at(simulator)) == ([], ["ended"], 1)
    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=10)


def test_a_batch_accepted_after_its_chunk_was_sent_again_is_reported_and_not_merged(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(10)])
    accepted_late(desk, workload, simulator, clock)
    send_ready(desk, workload)
    until_accepted(simulator, 2)
    look(desk)
    collected = collect(desk, workload).done

    other = workload_over(tmp_path / "other", [note(n) for n in range(50, 60)], name="other")
    twice = sent_chunks(desk, other).paid_twice

    assert len(twice) == 1
    assert [batch.id for batch in desk.ledger.paid_twice()] == twice
    assert len(collected) == 1
    calmly(desk, workload, simulator, clock)
    assert asked(desk, "SELECT count(answer), count(DISTINCT batch_id) FROM notes.results") == [(10, 1)]
    assert [each["batch"] for each in gather(desk)["paid_twice"]] == twice


@pytest.mark.both_databases
def test_an_open_intent_of_a_dead_process_is_never_taken_for_a_second_payment(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    class Died(BaseException):
        pass

    def die(name: str) -> None:
        if name == "submit.after_post":
            raise Died

    prepared_snapshot(desk, workload)
    with crash.told(die), pytest.raises(Died):
        send_ready(desk, workload)
    assert desk.ledger.unsettled_intents()[0].state is IntentState.OPEN
    simulator.clock.advance(BATCH_SECONDS)

    with desk.ledger.lock("submit"):  # as a submitter that settled its doubts just before the other one died
        assert meet_strangers(desk.ledger, desk.client, clock=clock) == []

    assert desk.ledger.chunks("notes")[0].state is ChunkState.ENDED
    calmly(desk, workload, simulator, clock)
    check_paid_once(desk, simulator, records=30)
