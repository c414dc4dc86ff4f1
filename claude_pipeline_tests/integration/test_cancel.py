"""A canceled snapshot: nothing more is sent, the API is asked to stop, what it had answered is kept and billed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from claude_pipeline.errors import UsageError
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.cancel import cancel
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.retry import retry
from claude_pipeline.stage.submit import settle, settle_by_hand
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    PARTITION,
    asked,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
)
from claude_pipeline_tests.integration.hand_case import calmly, check_costs, reasons
from claude_pipeline_tests.integration.submit_case import after_settling, creates

both_databases = pytest.mark.both_databases
SNAPSHOT = f"{PARTITION}.1"


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


def one_sent(desk: Desk, workload: Workload) -> None:
    """One chunk is at the API, two wait for room."""
    sent_chunks(replace(desk, settings=replace(desk.settings, batches_in_flight=1)), workload)


@both_databases
def test_what_was_not_sent_is_withdrawn_and_what_was_is_canceled_at_the_api(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    one_sent(desk, workload)
    simulator.clock.advance(BATCH_SECONDS / 6)  # a cancel takes half a minute

    done = cancel(desk, workload, SNAPSHOT)

    assert (done.withdrawn, done.asked, done.unasked) == (2, 1, 0)
    assert states(desk, workload) == ["live", "canceled", "canceled"]
    assert send_ready(desk, workload).sent == []
    calmly(desk, workload, simulator, clock)
    invoice = simulator.invoice()
    answered = invoice["billed_requests"]
    assert 0 < answered < 10
    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(answered,)]
    assert reasons(desk) == {"canceled": 30 - answered}
    check_costs(desk, simulator)
    assert creates(simulator) == {"200": 1}  # no further round


def test_what_it_cost_and_may_cost_is_said(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    one_sent(desk, workload)
    done = cancel(desk, workload, SNAPSHOT)
    assert (done.spent_units, done.reserved_units) == (0, desk.ledger.chunks("notes")[0].reserve_units)


def test_canceling_again_changes_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    one_sent(desk, workload)
    cancel(desk, workload, SNAPSHOT)

    again = cancel(desk, workload, SNAPSHOT)

    assert (again.withdrawn, again.asked) == (0, 0)
    assert sum(simulator.invoice()["calls"]["cancel"].values()) == 1
    calmly(desk, workload, simulator, clock)
    assert cancel(desk, workload, SNAPSHOT).withdrawn == 0
    calmly(desk, workload, simulator, clock)


def test_an_unknown_snapshot_is_refused_with_those_there_are(desk: Desk, workload: Workload) -> None:
    prepared_snapshot(desk, workload)
    with pytest.raises(UsageError, match=rf"has no snapshot nonsense \(the newest: {SNAPSHOT}\)"):
        cancel(desk, workload, "nonsense")


@both_databases
def test_a_create_in_doubt_is_canceled_once_it_is_adopted(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    one_sent(desk, workload)
    assert cancel(desk, workload, SNAPSHOT).unasked == 1
    tag = desk.ledger.unsettled_intents()[0].tag
    settle_by_hand(desk, tag, batch_id=simulator.invoice()["by_batch"][0]["batch_id"])  # else: at its end
    look(desk)

    simulator.clock.advance(BATCH_SECONDS)
    calmly(desk, workload, simulator, clock)
    assert sum(reasons(desk).values()) == 30 - simulator.invoice()["billed_requests"]
    check_costs(desk, simulator)
    assert simulator.invoice()["batches"] == 1


@both_databases
def test_a_create_that_was_not_accepted_is_not_made_again_for_a_canceled_snapshot(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    one_sent(desk, workload)
    cancel(desk, workload, SNAPSHOT)

    after_settling(desk, clock)

    assert states(desk, workload)[0] == "canceled"
    calmly(desk, workload, simulator, clock)
    assert sum(creates(simulator).values()) == 1
    assert reasons(desk) == {"canceled": 30}


def test_a_cancel_that_finds_no_api_is_asked_again_at_the_next_look(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    one_sent(desk, workload)
    simulator.faults.add(kind=500, endpoint="cancel", count=1)

    assert cancel(desk, workload, SNAPSHOT).unasked == 1
    look(desk)

    assert desk.ledger.chunks("notes")[0].cancel_asked_at is not None
    assert simulator.invoice()["calls"]["cancel"] == {"200": 1, "500": 1}


def test_a_batch_that_has_ended_meanwhile_is_collected_whole(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    one_sent(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    cancel(desk, workload, SNAPSHOT)
    calmly(desk, workload, simulator, clock)
    assert simulator.invoice()["billed_requests"] == 10
    assert reasons(desk) == {"canceled": 20}


@both_databases
def test_a_snapshot_that_waited_for_its_answers_asks_itself(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    one_sent(desk, workload)
    prepared_snapshot(desk, workload, "2026-11-23")  # the same questions: it waits
    assert len(desk.ledger.chunks("notes")) == 3

    cancel(desk, workload, SNAPSHOT)
    calmly(desk, workload, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.results WHERE snapshot = '2026-11-23.1'") == [(30,)]
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (30, 0)


def test_materializing_unchanged_records_does_not_send_them_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared_snapshot(desk, workload)
    cancel(desk, workload, SNAPSHOT)

    assert prepared_snapshot(desk, workload).new_chunks == 0

    calmly(desk, workload, simulator, clock)
    assert creates(simulator) == {}
    assert reasons(desk) == {"canceled": 30}


@both_databases
def test_a_changed_prompt_asks_a_canceled_snapshot_anew(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    prepared_snapshot(desk, workload)
    cancel(desk, workload, SNAPSHOT)
    changed = workload_over(tmp_path, [note(n) for n in range(30)], prompt="Judge: {{ text }}")

    prepared_snapshot(desk, changed)
    calmly(desk, changed, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(30,)]
    assert "cancel" not in simulator.invoice()["calls"]


@both_databases
def test_a_retry_asks_a_canceled_snapshot_again_without_paying_twice(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    one_sent(desk, workload)
    simulator.clock.advance(BATCH_SECONDS / 6)  # a cancel takes half a minute
    cancel(desk, workload, SNAPSHOT)
    calmly(desk, workload, simulator, clock)
    answered = simulator.invoice()["billed_requests"]

    done = retry(desk, workload)
    assert done.requests == 30 - answered
    calmly(desk, workload, simulator, clock)

    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(30,)]
    assert (simulator.invoice()["billed_requests"], simulator.invoice()["billed_twice"]) == (30, 0)
    check_costs(desk, simulator)


def test_settling_finds_nothing_to_do_for_a_canceled_snapshot(desk: Desk, workload: Workload) -> None:
    prepared_snapshot(desk, workload)
    cancel(desk, workload, SNAPSHOT)
    assert settle(desk).waiting == []
