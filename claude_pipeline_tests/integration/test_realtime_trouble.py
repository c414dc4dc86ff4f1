"""Real time in trouble: dead letters by the error table, stops of the account, cancel, retry, and faults over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.controller import decide, survey
from claude_pipeline.errors import AccountStopped, ClaudePipelineError, KeyRefused
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.cancel import cancel
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.retry import retry
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import PARTITION, asked, note, states, workload_over
from claude_pipeline_tests.integration.hand_case import reasons
from claude_pipeline_tests.integration.realtime_case import (
    QUICK,
    ask_now,
    bill,
    check_cost,
    check_delivered,
    chunks_of,
    fast,
    fast_options,
    to_rest,
)

ROWS = [note(number) for number in range(25)]
CREDIT = "Your credit balance is too low to access the Anthropic API."


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options()) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    return replace(fast(desk, tmp_path), waits=replace(QUICK, calm=0.05, growth=0.05))


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """25 records in three chunks."""
    return workload_over(tmp_path, ROWS, lane="realtime")


def messages(simulator: Simulator) -> dict[str, int]:
    """Calls of messages by their answer."""
    found: dict[str, int] = simulator.invoice()["calls"].get("messages", {})
    return found


# Dead letters.


def test_what_would_fail_again_is_asked_once(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="line_error", endpoint="messages", error_type="invalid_request_error", share=0.2)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    refused = messages(simulator)["400"]
    assert reasons(desk) == {"invalid_request_error": refused}
    assert bill(simulator) == (len(ROWS) - refused, 0)
    assert {chunk.round for chunk in chunks_of(desk)} == {1}


def test_what_may_pass_is_tried_again_and_then_asked_in_another_round(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload.model_copy(update={"max_rounds": 2})
    simulator.faults.add(kind="line_error", endpoint="messages", error_type="overloaded_error", share=0.12)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    dead = reasons(desk)
    assert list(dead) == ["overloaded_error"]
    assert {chunk.round for chunk in chunks_of(desk)} == {1, 2}
    assert bill(simulator) == (len(ROWS) - dead["overloaded_error"], 0)
    assert max(messages(simulator).values()) <= len(ROWS) + 8 * 2 * dead["overloaded_error"]
    check_cost(desk, simulator)


def test_dead_letters_are_retried_in_real_time_on_a_persons_word(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="line_error", endpoint="messages", error_type="invalid_request_error", share=0.2)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    simulator.faults.clear()

    retried = retry(desk, workload)
    to_rest(desk, workload, simulator, clock)

    assert retried.requests == messages(simulator)["400"]
    check_delivered(desk, len(ROWS))
    assert bill(simulator) == (len(ROWS), 0)
    check_cost(desk, simulator)


def test_an_answer_that_was_lost_for_good_is_asked_again_only_when_it_is_named(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload_over(tmp_path, ROWS[:1], lane="realtime")
    simulator.faults.add(kind="lost_after", endpoint="messages")
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    assert reasons(desk) == {"lost_answer": 1}
    (chunk,) = chunks_of(desk)
    assert chunk.lost == 3 == bill(simulator)[0]
    simulator.faults.clear()
    with pytest.raises(ClaudePipelineError, match="may have been paid"):
        retry(desk, workload)
    assert retry(desk, workload, reason="lost_answer").requests == 1
    to_rest(desk, workload, simulator, clock)
    check_delivered(desk, 1)


# The account.


STOPS: list[Any] = [
    pytest.param({"kind": 401}, KeyRefused, "key", id="401"),
    pytest.param({"kind": 403}, KeyRefused, "key", id="403"),
    pytest.param({"kind": 402}, AccountStopped, "account", id="402"),
    pytest.param({"kind": 400, "message": CREDIT}, AccountStopped, "account", id="low-credit"),
    pytest.param(
        {"kind": 429, "error_code": "enforced_spend_limit_reached"}, AccountStopped, "account", id="spend-cap"
    ),
]


@pytest.mark.parametrize(("fault", "error", "kind"), STOPS)
def test_a_stop_of_the_account_keeps_what_was_answered_and_sends_nothing_more(
    desk: Desk,
    workload: Workload,
    simulator: Simulator,
    clock: MovableClock,
    fault: dict[str, Any],
    error: type[Exception],
    kind: str,
) -> None:
    simulator.faults.add(endpoint="messages", after=12, **fault)
    prepare(desk, workload, PARTITION)
    with pytest.raises(error):
        ask_now(desk, workload)

    stop = desk.ledger.stop()
    assert stop is not None
    assert stop.kind == kind
    calls = sum(messages(simulator).values())
    assert decide(survey(desk, workload)) == []
    assert ask_now(desk, workload).waiting is not None
    assert sum(messages(simulator).values()) == calls
    assert bill(simulator) == (12, 0)

    simulator.faults.clear()
    clock.advance(60)
    to_rest(desk, workload, simulator, clock)
    assert desk.ledger.stop() is None
    assert bill(simulator) == (len(ROWS), 0)
    check_delivered(desk, len(ROWS))


def test_one_request_at_a_time_shows_whether_a_stop_is_over(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind=402, endpoint="messages")
    prepare(desk, workload, PARTITION)
    for tries in range(3):
        before = sum(messages(simulator).values())
        with pytest.raises(AccountStopped):
            ask_now(desk, workload)
        sent = sum(messages(simulator).values()) - before
        assert sent == 1 if tries else sent >= 1
        stop = desk.ledger.stop()
        assert stop is not None
        assert stop.tries == tries
        clock.at = stop.retry_at


def test_a_stop_that_is_over_is_known_at_once(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    # A session that was done within two seconds never told that its question had been answered.
    workload = workload_over(tmp_path, ROWS[:3], lane="realtime")
    prepare(desk, workload, PARTITION)
    desk.ledger.account_stopped("account", "no money", at=clock())
    clock.advance(61)
    done = ask_now(desk, workload)
    assert desk.ledger.stop() is None
    assert (done.waiting or "").startswith("the time") or done.requests == 3


# Cancel.


def test_a_snapshot_that_is_canceled_while_it_is_asked_ends_with_what_is_out(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(400)], lane="realtime", chunk={"requests": 200})
    simulator.faults.add(kind="hang", endpoint="messages", seconds=0.05)
    desk = replace(desk, settings=replace(desk.settings, realtime_in_flight=4))
    prepare(desk, workload, PARTITION)
    session = threading.Thread(target=ask_now, args=(desk, workload))
    session.start()
    while simulator.invoice()["messages"]["requests"] < 20:
        session.join(0.02)
    cancel(desk, workload, f"{PARTITION}.1")
    session.join(60)
    assert not session.is_alive()
    paid, twice = bill(simulator)
    assert 20 <= paid < 400
    assert twice == 0
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (paid, 0)
    outcomes = dict(asked(desk, "SELECT outcome, count(*) FROM notes.results GROUP BY 1"))
    assert outcomes == {"succeeded": paid, "canceled": 400 - paid}
    assert set(states(desk, workload)) <= {"done", "canceled"}
    simulator.faults.clear()
    retry(desk, workload)
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (400, 0)
    check_delivered(desk, 400)


def test_a_chunk_left_half_asked_is_closed_when_its_snapshot_was_canceled(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(endpoint="messages", after=12, kind=402)
    prepare(desk, workload, PARTITION)
    with pytest.raises(AccountStopped):
        ask_now(desk, workload)
    simulator.faults.clear()
    cancel(desk, workload, f"{PARTITION}.1")
    clock.advance(60)
    to_rest(desk, workload, simulator, clock)
    assert bill(simulator) == (12, 0)
    assert asked(desk, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'") == [(12,)]


# Faults over HTTP.


FAULTS: list[Any] = [
    pytest.param([{"kind": "lost_after", "count": 5}], 5, id="lost-answers"),
    pytest.param([{"kind": "reset_before", "count": 5}], 0, id="resets"),
    pytest.param([{"kind": "bad_body", "form": "html", "count": 2}], 2, id="html-for-an-answer"),
    pytest.param([{"kind": "bad_body", "form": "cut", "count": 2}], 2, id="cut-bodies"),
    pytest.param([{"kind": "bad_body", "form": "empty", "count": 2}], 2, id="empty-bodies"),
    pytest.param([{"kind": "529", "count": 40}], 0, id="529-storm"),
    pytest.param([{"kind": "529", "count": 10}, {"kind": "500", "count": 10}], 0, id="529-then-500"),
    pytest.param([{"kind": "429", "retry_after": 0.05, "count": 10}], 0, id="429s"),
    pytest.param([{"kind": "slow_bytes", "bytes_per_second": 3000, "count": 10}], 0, id="slow"),
    pytest.param([{"kind": "redirect", "location": "http://127.0.0.1:9/", "count": 2}], 0, id="redirects"),
    pytest.param([{"kind": "html_413", "count": 1}], 0, id="413-of-the-edge"),
]


@pytest.mark.parametrize(("faults", "twice_at_most"), FAULTS)
def test_no_row_is_lost_or_delivered_twice(
    desk: Desk,
    workload: Workload,
    simulator: Simulator,
    clock: MovableClock,
    faults: list[dict[str, Any]],
    twice_at_most: int,
) -> None:
    for fault in faults:
        simulator.faults.add(endpoint="messages", **fault)
    prepare(desk, workload, PARTITION)
    to_rest(desk, workload, simulator, clock)
    paid, twice = bill(simulator)
    rows, records = asked(desk, "SELECT count(*), count(DISTINCT record_id) FROM notes.results")[0]
    assert (rows, records) == (len(ROWS), len(ROWS))
    answered = asked(desk, "SELECT count(*) FROM notes.results WHERE outcome = 'succeeded'")[0][0]
    lost = sum(chunk.lost for chunk in chunks_of(desk))
    assert paid - answered <= lost
    assert twice <= twice_at_most
    assert answered + sum(reasons(desk).values()) == len(ROWS)
