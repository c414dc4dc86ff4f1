"""Key, credit and spend limits: nothing is sent while a stop stands, one chunk shows when it is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.controller import Kind, decide, describe, survey
from claude_pipeline.errors import AccountStopped, KeyRefused
from claude_pipeline.lane.access import connect
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    asked,
    collected_chunks,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
)
from claude_pipeline_tests.integration.command_case import CommandLine, workload_file
from claude_pipeline_tests.integration.submit_case import after_settling, creates

both_databases = pytest.mark.both_databases
FIRST_WAIT = 60.0  # seconds until one chunk is sent to see
CREDIT = "Your credit balance is too low to access the Anthropic API."
STOPS: list[Any] = [
    pytest.param({"kind": 401, "endpoint": "list"}, KeyRefused, "refused the key", id="401-at-list"),
    pytest.param({"kind": 401, "endpoint": "create"}, KeyRefused, "check ANTHROPIC_API_KEY", id="401"),
    pytest.param({"kind": 403, "endpoint": "create"}, KeyRefused, "check ANTHROPIC_API_KEY", id="403"),
    pytest.param({"kind": 402, "endpoint": "create"}, AccountStopped, "mend the account", id="402"),
    pytest.param(
        {"kind": 429, "endpoint": "create", "error_code": "enforced_spend_limit_reached", "message": "spend limit"},
        AccountStopped, "spend limit", id="spend-cap",
    ),
    pytest.param(
        {"kind": 400, "endpoint": "create", "message": CREDIT}, AccountStopped, "credit balance is too low", id="low-credit"
    ),
]  # fmt: skip


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Thirty records in three chunks."""
    return workload_over(tmp_path, [note(n) for n in range(30)])


def at_create(simulator: Simulator) -> int:
    """How often a create was asked for, whatever its answer."""
    return sum(creates(simulator).values())


def stopped(desk: Desk, workload: Workload, simulator: Simulator, **fault: Any) -> None:
    """A snapshot whose first create met a stop that goes on."""
    simulator.faults.add(**({"kind": 402, "endpoint": "create"} | fault))
    with pytest.raises((KeyRefused, AccountStopped)):
        sent_chunks(desk, workload)


@pytest.mark.parametrize(("fault", "error", "reason"), STOPS)
def test_nothing_is_sent_while_a_stop_stands(
    desk: Desk,
    workload: Workload,
    simulator: Simulator,
    clock: MovableClock,
    fault: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    simulator.faults.add(count=1, **fault)
    with pytest.raises(error, match=reason):
        sent_chunks(desk, workload)
    tried = at_create(simulator)
    clock.advance(FIRST_WAIT - 1)

    waiting = send_ready(desk, workload).waiting or ""

    assert at_create(simulator) == tried
    assert states(desk, workload) == ["ready"] * 3
    assert reason in waiting
    assert "`claude-pipeline resume`" in waiting
    assert "nothing is tried until 14:31:00 UTC" in waiting


@pytest.mark.parametrize(("fault", "error", "reason"), STOPS)
def test_a_stop_is_over_when_the_api_takes_a_batch_again(
    desk: Desk,
    workload: Workload,
    simulator: Simulator,
    clock: MovableClock,
    fault: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    simulator.faults.add(count=1, **fault)
    with pytest.raises(error):
        sent_chunks(desk, workload)
    clock.advance(FIRST_WAIT)

    assert len(send_ready(desk, workload).sent) == 3

    assert desk.ledger.stop() is None


@both_databases
def test_what_is_at_the_api_is_collected_while_a_stop_stands(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind=402, endpoint="create", after=1)
    with pytest.raises(AccountStopped):
        sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)

    assert [action.kind for action in decide(survey(desk, workload))] == [Kind.COLLECT]
    assert len(collect(desk, workload).done) == 1

    assert (states(desk, workload), at_create(simulator)) == (["done", "ready", "ready"], 2)


def test_the_sensor_launches_no_submit_run_while_a_stop_stands(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    stopped(desk, workload, simulator)

    situation = survey(desk, workload)
    assert decide(situation) == []
    assert "mend it, then `claude-pipeline resume`" in describe(situation, clock())
    clock.advance(FIRST_WAIT)

    assert [action.kind for action in decide(survey(desk, workload))] == [Kind.SUBMIT]


@both_databases
@pytest.mark.parametrize("status", [401, 402])
def test_a_stop_that_goes_on_is_tried_ever_more_rarely(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, status: int
) -> None:
    stopped(desk, workload, simulator, kind=status)
    began, waits = clock(), []
    for tried in range(1, 9):
        stop = desk.ledger.stop()
        assert stop is not None
        assert stop.since == began
        assert at_create(simulator) == tried  # one at each time
        waits.append((stop.retry_at - clock()).total_seconds())
        clock.advance(waits[-1])
        with pytest.raises((KeyRefused, AccountStopped)):
            send_ready(desk, workload)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_key_refused_at_the_list_is_tried_ever_more_rarely(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    stopped(desk, workload, simulator, kind=401, endpoint="list")
    clock.advance(FIRST_WAIT)
    with pytest.raises(KeyRefused):
        send_ready(desk, workload)
    clock.advance(FIRST_WAIT)
    assert "refused the key" in (send_ready(desk, workload).waiting or "")


@both_databases
def test_a_stop_goes_on_after_a_restart(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    stopped(desk, workload, simulator)
    with Ledger.open(desk.settings.ledger_url, path=desk.home.ledger) as ledger:
        again = replace(desk, ledger=ledger)
        assert "mend it" in (send_ready(again, workload).waiting or "")
    assert at_create(simulator) == 1


@both_databases
def test_a_person_resumes(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock) -> None:
    stopped(desk, workload, simulator, count=1)

    assert desk.ledger.account_resumed(how="by hand", at=clock())
    assert len(send_ready(desk, workload).sent) == 3

    assert not desk.ledger.account_resumed(how="by hand", at=clock())


def test_a_probe_whose_create_is_in_doubt_is_the_only_one(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    stopped(desk, workload, simulator, count=1)
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    clock.advance(FIRST_WAIT)

    first = send_ready(desk, workload)
    second = send_ready(desk, workload)

    assert (len(first.doubtful), first.sent, second.sent, at_create(simulator)) == (1, [], [], 2)
    assert "one batch" in (second.waiting or "")
    simulator.clock.advance(BATCH_SECONDS)
    after_settling(desk, clock)
    collect(desk, workload)
    assert (desk.ledger.stop(), len(send_ready(desk, workload).sent)) == (None, 2)


def test_a_probe_that_was_not_accepted_is_sent_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    stopped(desk, workload, simulator, count=1)
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    clock.advance(FIRST_WAIT)
    assert len(send_ready(desk, workload).doubtful) == 1
    clock.advance(SETTLE_SECONDS)

    assert len(send_ready(desk, workload).sent) == 3


def test_a_missing_key_is_no_state_of_the_account(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    prepared_snapshot(desk, workload)
    without = BatchClient(connect=lambda: connect({"ANTHROPIC_BASE_URL": simulator.base_url}))

    with pytest.raises(KeyRefused, match="ANTHROPIC_API_KEY is not set"):
        send_ready(replace(desk, client=without), workload)

    assert desk.ledger.stop() is None
    assert len(send_ready(desk, workload).sent) == 3


# Low credit shows in result lines only.


def in_lines(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    """A collected chunk of whose lines some met low credit; the two others wait to be sent."""
    simulator.faults.add(kind="low_credit", share=1.0, attempts=1)
    first = replace(desk, settings=replace(desk.settings, batches_in_flight=1))
    collected_chunks(first, workload, simulator)


def test_low_credit_in_result_lines_stops_too(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    in_lines(desk, workload, simulator)

    waiting = send_ready(desk, workload).waiting or ""

    assert "credit balance is too low" in waiting
    assert "claude-pipeline resume" in waiting
    assert at_create(simulator) == 1


@both_databases
def test_one_batch_is_sent_to_see_whether_the_lines_are_answered_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    in_lines(desk, workload, simulator)
    simulator.faults.clear()
    clock.advance(FIRST_WAIT)

    probe = send_ready(desk, workload)
    assert (len(probe.sent), at_create(simulator)) == (1, 2)
    clock.advance(10 * FIRST_WAIT)
    assert "while one batch shows whether it is over" in (send_ready(desk, workload).waiting or "")
    assert at_create(simulator) == 2
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    assert "while one batch" in (send_ready(desk, workload).waiting or "")  # ended: its lines are not read yet
    collect(desk, workload)

    assert desk.ledger.stop() is None
    assert len(send_ready(desk, workload).sent) == 1


def test_a_probe_that_meets_low_credit_again_makes_the_wait_longer(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    in_lines(desk, workload, simulator)
    clock.advance(FIRST_WAIT)
    send_ready(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    collect(desk, workload)

    stop = desk.ledger.stop()
    assert stop is not None
    assert (stop.retry_at - clock()).total_seconds() == 2 * FIRST_WAIT
    assert stop.probe is None
    assert send_ready(desk, workload).sent == []


@both_databases
def test_lines_that_met_the_stop_cost_no_round(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)], chunk={"requests": 20}, max_rounds=1)
    simulator.faults.add(kind="line_error", error_type="overloaded_error", share=0.3, attempts=1)
    simulator.faults.add(kind="low_credit", share=0.5, attempts=1)

    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(FIRST_WAIT)

    assert drive.run(desk, workload, wait).at_rest

    dead = asked(desk, "SELECT DISTINCT error_type FROM notes.dead_letters")
    first, second = desk.ledger.chunks("notes")
    assert dead == [("overloaded_error",)]
    assert first.stopped == second.requests
    assert 0 < second.requests < 20
    assert simulator.invoice()["billed_twice"] == 0


# Through the command line, by real clocks.


def test_a_run_collects_what_is_at_the_api_then_ends_with_the_stop(
    quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    file = str(workload_file(tmp_path, records=30))
    quick.faults.add(kind=402, endpoint="create", after=1)

    said = line("run", file, "--poll-seconds", "0.1")

    assert said.code == 3
    assert "create was answered 402" in said.last
    assert "`claude-pipeline resume`" in said.last
    assert quick.invoice()["billed_requests"] == 10
    assert "1 batches collected" in said.err


def test_a_run_tries_at_once_and_ends_with_one_sentence_while_the_stop_goes_on(
    quick: Simulator, line: CommandLine, tmp_path: Path
) -> None:
    file = str(workload_file(tmp_path))
    quick.faults.add(kind=401, endpoint="create", count=2)
    assert line("run", file, "--poll-seconds", "0.1").code == 3

    said = line("run", file, "--poll-seconds", "0.1")
    assert (said.code, at_create(quick)) == (3, 2)
    assert said.last.startswith("claude-pipeline: nothing is sent since")
    assert "Traceback" not in said.out + said.err
    assert "STOPPED: nothing is sent since" in line("status").out

    assert line("run", file, "--poll-seconds", "0.1", "--quiet").code == 0  # by now the key is mended
    assert quick.invoice()["billed_requests"] == 20


def test_resume_says_what_stood(quick: Simulator, line: CommandLine, tmp_path: Path) -> None:
    file = str(workload_file(tmp_path))
    quick.faults.add(kind=402, endpoint="create", count=1)
    line("run", file, "--poll-seconds", "0.1")

    said = line("resume")
    assert (said.code, "402" in said.out) == (0, True)
    assert line("resume").out == "nothing is stopped\n"
    assert "STOPPED" not in line("status").out
