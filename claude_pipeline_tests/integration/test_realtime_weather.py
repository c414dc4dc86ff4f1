"""Real time in bad weather over HTTP: limits that change, long pauses, storms, hanging connections; and its end in good order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from claude_pipeline.controller import decide, describe, survey
from claude_pipeline.errors import LedgerUnreachable
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.ask import Asked, interrupted
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, asked, note, states, workload_over
from claude_pipeline_tests.integration.realtime_case import (
    QUICK,
    ask_now,
    bill,
    check_delivered,
    chunks_of,
    fast,
    fast_options,
    to_rest,
)

ROWS = [note(number) for number in range(40)]


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options()) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    return fast(desk, tmp_path)


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """40 records in four chunks."""
    return workload_over(tmp_path, ROWS, lane="realtime")


def in_flight(simulator: Simulator) -> int:
    found: int = simulator.invoice()["messages"]["requests"]
    return found


def messages(simulator: Simulator) -> dict[str, int]:
    """Calls of messages by their answer."""
    found: dict[str, int] = simulator.invoice()["calls"].get("messages", {})
    return found


def in_a_thread(desk: Desk, workload: Workload) -> tuple[threading.Thread, list[Asked | BaseException]]:
    """A session whose end the test does not wait for."""
    found: list[Asked | BaseException] = []

    def session() -> None:
        try:
            found.append(ask_now(desk, workload))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=session)
    thread.start()
    return thread, found


def test_a_long_pause_ends_the_session_and_the_chunk_goes_on_after_it(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind=429, endpoint="messages", retry_after=3600, count=1, after=15)
    prepare(desk, workload, PARTITION)

    done = ask_now(desk, workload)

    assert "the API asked to wait until 15:" in (done.waiting or "")
    calls = sum(messages(simulator).values())
    for _ in range(3):
        for action in decide(survey(desk, workload)):
            ask_now(desk, workload)
            assert action.workload == "notes"
    assert sum(messages(simulator).values()) == calls  # not one more before its time
    assert decide(survey(desk, workload)) == []
    assert "asking" in states(desk, workload)
    clock.advance(3590)
    assert decide(survey(desk, workload)) == []
    clock.advance(20)
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (len(ROWS), 0)
    check_delivered(desk, len(ROWS))


def test_a_pause_begins_no_chunk_that_was_not_begun(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    # Each session of a long pause began two more chunks, reserved them, and left.
    workload = workload_over(tmp_path, ROWS, lane="realtime", chunk={"requests": 4})
    simulator.faults.add(kind=429, endpoint="messages", retry_after=3600, count=1)
    prepare(desk, workload, PARTITION)
    ask_now(desk, workload)
    begun = states(desk, workload).count("asking")

    for _ in range(3):
        for _action in decide(survey(desk, workload)):
            ask_now(desk, workload)
    assert states(desk, workload).count("asking") == begun
    assert decide(survey(desk, workload)) == []
    assert "asked to wait until" in describe(survey(desk, workload), clock())


def test_halved_limits_hold_at_once(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    rows = 1_200
    workload = workload_over(tmp_path, [note(n) for n in range(rows)], lane="realtime", chunk={"requests": 400})
    prepare(desk, workload, PARTITION)
    session, found = in_a_thread(desk, workload)
    while in_flight(simulator) < 200:
        session.join(0.02)
    simulator.limit(0.01)  # of 100,000 requests a minute
    session.join(0.5)  # what is out, and answers that tell of it
    before, began = in_flight(simulator), time.monotonic()
    session.join(3)
    sent, seconds = in_flight(simulator) - before, time.monotonic() - began
    simulator.limit(1.0)
    session.join(60)
    assert sent <= 1000 / 60 * (seconds + 1) + 2
    assert not session.is_alive()
    assert isinstance(found[0], Asked)
    assert messages(simulator) == {"200": rows}
    assert bill(simulator) == (rows, 0)


def test_headers_that_tell_no_limits_do_no_harm(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.limit(1.0, told=False)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    assert desk.ledger.rates() == {}
    assert bill(simulator) == (len(ROWS), 0)
    check_delivered(desk, len(ROWS))


def test_half_of_the_connections_hang(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    desk = replace(desk, waits=replace(QUICK, answer_least=0.4, answer_most=0.8))
    simulator.faults.add(kind="hang", endpoint="messages", seconds=20, probability=0.5, count=25)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    rows, records = asked(desk, "SELECT count(*), count(DISTINCT record_id) FROM notes.results")[0]
    assert (rows, records) == (len(ROWS), len(ROWS))
    answered = asked(desk, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'")[0][0]
    given_up = asked(desk, "SELECT count(*) FROM notes.dead_letters WHERE error_type = 'lost_answer'")[0][0]
    assert answered + given_up == len(ROWS)
    assert bill(simulator) == (answered, 0)
    assert sum(chunk.lost for chunk in chunks_of(desk)) >= 3 * given_up


# The end of a session.


@pytest.fixture
def _interrupted() -> Iterator[None]:
    yield
    interrupted.clear()


@pytest.mark.usefixtures("_interrupted")
def test_an_interrupt_awaits_what_is_in_flight(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="hang_after", endpoint="messages", seconds=0.4)
    prepare(desk, workload, PARTITION)
    session, found = in_a_thread(desk, workload)
    while in_flight(simulator) < 4:
        session.join(0.02)
    interrupted.set()
    session.join(10)
    assert not session.is_alive()
    assert isinstance(found[0], Asked)
    paid = bill(simulator)[0]
    assert 4 <= paid < len(ROWS)
    interrupted.clear()
    simulator.faults.clear()
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (len(ROWS), 0)
    assert sum(chunk.lost for chunk in chunks_of(desk)) == 0
    check_delivered(desk, len(ROWS))


@pytest.mark.usefixtures("_interrupted")
def test_what_hangs_at_the_end_is_given_up_in_good_order_and_counts_as_lost(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    # The loop's cancellation came out of the session as if somebody had cancelled its caller.
    simulator.faults.add(kind="hang_after", endpoint="messages", seconds=20, count=2, after=6)
    prepare(desk, workload, PARTITION)
    desk = replace(desk, waits=replace(QUICK, drain=0.3), settings=replace(desk.settings, realtime_in_flight=4))
    session, found = in_a_thread(desk, workload)
    while ("hang_after", 2) not in [(rule["kind"], rule["struck"]) for rule in simulator.faults.as_json()]:
        session.join(0.02)
    interrupted.set()
    session.join(10)
    assert not session.is_alive()
    assert isinstance(found[0], Asked), found
    assert "interrupted" in (found[0].waiting or "")
    interrupted.clear()
    simulator.faults.clear()
    to_rest(desk, workload, simulator, clock)
    paid, twice = bill(simulator)
    assert sum(chunk.lost for chunk in chunks_of(desk)) == twice == 2
    assert paid == len(ROWS) + 2
    check_delivered(desk, len(ROWS))


def test_a_session_ends_with_its_time_and_the_next_one_goes_on(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="hang", endpoint="messages", seconds=0.3)
    prepare(desk, workload, PARTITION)
    done = ask_now(desk, workload, seconds=0.2)
    assert done.waiting == "the time of this session is over; the next one goes on"
    assert 0 < bill(simulator)[0] < len(ROWS)
    simulator.faults.clear()
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (len(ROWS), 0)


@pytest.mark.usefixtures("_interrupted")
def test_a_session_whose_lock_is_lost_sends_nothing_more(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    # Another process would have taken the lock, and asked and paid the same questions until this one was done.
    desk = replace(desk, waits=replace(QUICK, beat=0.1), settings=replace(desk.settings, realtime_in_flight=2))
    simulator.faults.add(kind="hang", endpoint="messages", seconds=0.3)
    prepare(desk, workload, PARTITION)
    session, found = in_a_thread(desk, workload)
    while in_flight(simulator) < 4:
        session.join(0.02)
    desk.home.lock("ask-notes").unlink()
    session.join(10)
    assert isinstance(found[0], LedgerUnreachable)
    assert "another process may ask by now" in str(found[0])
    assert bill(simulator)[0] < len(ROWS)
    simulator.faults.clear()
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (len(ROWS), 0)
    check_delivered(desk, len(ROWS))
