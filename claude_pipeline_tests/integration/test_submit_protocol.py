"""Exactly once over an API without idempotency keys: the real SDK against the simulator."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from claude_pipeline.chunk import Body
from claude_pipeline.errors import AccountStopped, KeyRefused, LedgerDamaged, UsageError, WorkspaceMismatch
from claude_pipeline.lane.client import BatchClient, Doubtful, connect
from claude_pipeline.lane.reconcile import ForgottenBatch, Reconciliation
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import plan_submission, settle, settle_by_hand
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock, client_of
from claude_pipeline_tests.factory import (
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
)


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


@pytest.fixture
def two_chunks(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(20)])


def creates(simulator: Simulator) -> dict[str, int]:
    """Calls of create by their answer."""
    found: dict[str, int] = simulator.invoice()["calls"].get("create", {})
    return found


def batches_at(simulator: Simulator) -> int:
    found: int = simulator.invoice()["batches"]
    return found


def after_settling(desk: Desk, clock: MovableClock) -> Reconciliation:
    clock.advance(SETTLE_SECONDS)
    return settle(desk)


# Clear answers.


def test_an_accepted_chunk_is_live_under_its_batch(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    done = sent_chunks(desk, workload)
    chunk = desk.ledger.chunks("notes")[0]
    assert (chunk.state, chunk.attempts) == (ChunkState.LIVE, 1)
    assert [(c.id, batch_id) for c, batch_id in done.sent] == [(chunk.id, chunk.batch_id)]
    assert (done.requests, creates(simulator)) == (10, {"200": 1})
    assert desk.ledger.unsettled_intents() == []


def test_custom_ids_begin_with_the_intents_tag(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    done = sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    line = desk.client.first_result(done.sent[0][1])
    assert line is not None
    tag, _, position = str(line["custom_id"]).rpartition("-")
    assert desk.ledger.intent_by_tag(tag) is not None
    assert tag.startswith(f"{desk.ledger.id}-")
    assert 0 <= int(position) < 10


PERMANENT: list[Any] = [(400, "invalid_request_error"), (404, "not_found_error"), (413, "request_too_large")]


@pytest.mark.parametrize(("status", "error_type"), PERMANENT)
def test_a_permanent_refusal_fails_the_chunk_and_the_next_one_goes_out(
    desk: Desk, two_chunks: Workload, simulator: Simulator, status: int, error_type: str
) -> None:
    simulator.faults.add(kind=status, endpoint="create", count=1, error_type=error_type, message="too bad")
    done = sent_chunks(desk, two_chunks)
    assert states(desk, two_chunks) == ["failed", "live"]
    assert "too bad" in done.failed[0][1]
    assert "request-id req_" in done.failed[0][1]
    assert desk.ledger.chunks("notes")[0].error_type == error_type


def test_a_failed_chunk_is_sent_again_only_by_hand(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind=400, endpoint="create", count=1)
    sent_chunks(desk, workload)
    assert send_ready(desk, workload).sent == []
    plan = plan_submission(desk, workload, ["2026-11-22.1|r1-0001"])
    assert [chunk.state for chunk in plan.chunks] == [ChunkState.READY]


@pytest.mark.parametrize("state", ["live", "ended"])
def test_a_chunk_on_its_way_is_not_sent_again_even_by_hand(
    desk: Desk, workload: Workload, simulator: Simulator, state: str
) -> None:
    sent_chunks(desk, workload)
    if state == "ended":
        simulator.clock.advance(BATCH_SECONDS)
        look(desk)
    with pytest.raises(UsageError, match=f"is {state} as batch msgbatch_.*; it is not sent twice"):
        plan_submission(desk, workload, ["2026-11-22.1|r1-0001"])


def test_an_edge_that_answers_413_in_html_is_a_clear_refusal(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="html_413", endpoint="create", count=1)
    sent_chunks(desk, workload)
    assert (states(desk, workload), desk.ledger.chunks("notes")[0].error_type) == (["failed"], "request_too_large")


def test_a_429_waits_as_long_as_the_api_asks(
    desk: Desk, two_chunks: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind=429, endpoint="create", count=1, retry_after=30)
    done = sent_chunks(desk, two_chunks)
    assert states(desk, two_chunks) == ["ready", "ready"]
    assert done.waiting is not None
    assert "429" in done.waiting
    clock.advance(29)
    assert "asked to wait until 14:30:30 UTC" in str(send_ready(desk, two_chunks).waiting)
    clock.advance(1)
    assert len(send_ready(desk, two_chunks).sent) == 2
    assert creates(simulator) == {"200": 2, "429": 1}


def test_429s_without_a_time_are_tried_ever_more_rarely(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind=429, endpoint="create")
    waits = []
    prepared_snapshot(desk, workload)
    for _ in range(12):
        send_ready(desk, workload)
        not_before = desk.ledger.chunks("notes")[0].not_before
        assert not_before is not None
        waits.append((not_before - clock()).total_seconds())
        clock.advance(waits[-1])
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == 2560
    assert max(waits) <= 3600


STOPS: list[Any] = [
    pytest.param({"kind": 401}, KeyRefused, "check ANTHROPIC_API_KEY", id="401"),
    pytest.param({"kind": 403}, KeyRefused, "check ANTHROPIC_API_KEY", id="403"),
    pytest.param({"kind": 402}, AccountStopped, "mend the account", id="402"),
    pytest.param(
        {"kind": 429, "error_code": "enforced_spend_limit_reached"}, AccountStopped, "mend the account", id="spend-cap"
    ),
    pytest.param(
        {"kind": 400, "message": "Your credit balance is too low to access the Anthropic API."},
        AccountStopped,
        "credit balance",
        id="low-credit",
    ),
]


@pytest.mark.parametrize(("fault", "error", "sentence"), STOPS)
def test_money_and_keys_stop_everything_and_the_chunk_stays_ready(
    desk: Desk, two_chunks: Workload, simulator: Simulator, fault: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    simulator.faults.add(endpoint="create", count=1, **fault)
    with pytest.raises(error, match=sentence) as stopped:
        sent_chunks(desk, two_chunks)
    assert "nothing was accepted" in str(stopped.value)
    assert stopped.value.__cause__ is None
    assert states(desk, two_chunks) == ["ready", "ready"]
    assert sum(creates(simulator).values()) == 1


def test_no_error_and_no_row_shows_the_key(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    client = client_of(simulator, "a-very-secret-key")
    simulator.faults.add(kind=401, endpoint="create", count=1)
    with pytest.raises(KeyRefused) as stopped:
        sent_chunks(replace(desk, client=client), workload)
    client.sdk.close()
    told = "".join(traceback.format_exception(stopped.value)) + repr(client) + repr(list(desk.ledger.dump("event")))
    assert "a-very-secret-key" not in told


def test_a_server_that_is_not_there_was_sent_nothing(desk: Desk, workload: Workload) -> None:
    away = BatchClient(connect=lambda: connect({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "k"}))
    done = sent_chunks(replace(desk, client=away), workload)
    assert states(desk, workload) == ["ready"]
    assert done.waiting is not None
    assert "no answer from 127.0.0.1" in done.waiting
    away.sdk.close()


def test_a_changed_params_file_is_never_sent(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    chunk = prepared_snapshot(desk, workload).chunks[0]
    path = desk.path(chunk.params_path)
    path.write_bytes(path.read_bytes().replace(b"note 3", b"note X"))
    with pytest.raises(LedgerDamaged, match="is not what was cut.*sha256 differs"):
        send_ready(desk, workload)
    assert creates(simulator) == {}


# No clear answer.


DOUBTS: list[Any] = [
    pytest.param({"kind": 500}, id="500"),
    pytest.param({"kind": 529}, id="529"),
    pytest.param({"kind": 408}, id="408"),
    pytest.param({"kind": 409}, id="409"),
    pytest.param({"kind": "redirect", "location": "http://127.0.0.1:9/"}, id="redirect"),
    pytest.param({"kind": "reset_before"}, id="reset-before"),
]
ACCEPTED: list[Any] = [
    pytest.param({"kind": "lost_after"}, id="lost-after"),
    pytest.param({"kind": 500, "accepted": True}, id="500-after-accept"),
    pytest.param({"kind": 504, "accepted": True}, id="504-after-accept"),
    *(pytest.param({"kind": "bad_body", "form": form}, id=f"answer-{form}") for form in ("html", "cut", "empty", "no_id")),
]  # fmt: skip


@pytest.mark.parametrize("fault", ACCEPTED)
def test_a_batch_whose_answer_was_lost_is_adopted_and_paid_once(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, fault: dict[str, Any]
) -> None:
    simulator.faults.add(endpoint="create", count=1, **fault)
    done = sent_chunks(desk, workload)
    assert len(done.doubtful) == 1
    assert states(desk, workload) == ["sending"]
    assert send_ready(desk, workload).sent == []  # in doubt: not sent again
    assert "may be it; waiting for its end" in after_settling(desk, clock).waiting[0][1]
    simulator.clock.advance(BATCH_SECONDS)
    adopted = settle(desk).adopted
    assert len(adopted) == 1
    assert states(desk, workload) == ["ended"]
    assert send_ready(desk, workload).sent == []
    invoice = simulator.invoice()
    assert (invoice["batches"], invoice["billed_requests"], invoice["billed_twice"]) == (1, 10, 0)
    assert sum(creates(simulator).values()) == 1


@pytest.mark.parametrize("fault", DOUBTS)
def test_a_batch_that_was_not_accepted_is_absent_and_sent_again(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, fault: dict[str, Any]
) -> None:
    simulator.faults.add(endpoint="create", count=1, **fault)
    sent_chunks(desk, workload)
    assert states(desk, workload) == ["sending"]
    assert sum(creates(simulator).values()) == 1  # the SDK itself sent it once
    assert len(after_settling(desk, clock).absent) == 1
    assert len(send_ready(desk, workload).sent) == 1
    assert (states(desk, workload), batches_at(simulator)) == (["live"], 1)
    assert desk.ledger.chunks("notes")[0].attempts == 2


def test_nothing_is_decided_before_the_settle_time_is_over(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    clock.advance(SETTLE_SECONDS - 1)
    assert "left alone until 14:30:10 UTC" in settle(desk).waiting[0][1]
    clock.advance(1)
    assert len(settle(desk).absent) == 1


def test_other_chunks_go_on_while_one_is_in_doubt(desk: Desk, two_chunks: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    done = sent_chunks(desk, two_chunks)
    assert (len(done.doubtful), len(done.sent)) == (1, 1)
    assert states(desk, two_chunks) == ["sending", "live"]


def test_two_doubtful_creates_of_equal_size_are_told_apart(
    desk: Desk, two_chunks: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, two_chunks)
    assert states(desk, two_chunks) == ["sending", "sending"]
    simulator.clock.advance(BATCH_SECONDS)
    found = after_settling(desk, clock)
    assert (len(found.adopted), len(found.absent)) == (1, 1)
    assert states(desk, two_chunks) == ["ended", "ready"]


def test_a_batch_found_for_another_doubt_is_given_to_that_one(
    desk: Desk, two_chunks: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, two_chunks)
    simulator.clock.advance(BATCH_SECONDS)
    after_settling(desk, clock)
    assert states(desk, two_chunks) == ["ready", "ended"]


def foreign_batch(simulator: Simulator, *, requests: int = 10) -> str:
    """Somebody else's batch in the same workspace."""
    with anthropic.Anthropic(base_url=simulator.base_url, api_key=simulator.api_key) as sdk:
        asked: Any = [
            {"custom_id": f"theirs-{n}", "params": {"model": "claude-haiku-5-5", "max_tokens": 5,
             "messages": [{"role": "user", "content": f"theirs {n}"}]}}
            for n in range(requests)
        ]  # fmt: skip
        return sdk.messages.batches.create(requests=asked).id


def test_a_foreign_batch_of_equal_size_is_not_adopted(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    theirs = foreign_batch(simulator)
    assert "may be it" in after_settling(desk, clock).waiting[0][1]
    simulator.clock.advance(BATCH_SECONDS)
    found = settle(desk)
    assert (len(found.adopted), len(found.absent)) == (0, 1)
    noted = desk.ledger.batch(theirs)
    assert noted is not None
    assert noted.chunk_id is None


def test_a_foreign_batch_of_another_size_is_not_even_waited_for(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    foreign_batch(simulator, requests=3)
    assert len(after_settling(desk, clock).absent) == 1


def test_only_batches_after_the_watermark_are_looked_at(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    older = foreign_batch(simulator)
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    assert desk.ledger.unsettled_intents()[0].watermark == older
    assert len(after_settling(desk, clock).absent) == 1  # not waiting for the older one to end


UNCLEAR_LISTS: list[Any] = [
    pytest.param({"kind": 500}, id="500"),
    pytest.param({"kind": 429}, id="429"),
    pytest.param({"kind": "reset_before"}, id="reset"),
    pytest.param({"kind": "bad_body", "form": "html"}, id="html"),
    pytest.param({"kind": "bad_body", "form": "cut"}, id="cut"),
    pytest.param({"kind": "empty_list"}, id="empty"),
]


@pytest.mark.parametrize("fault", UNCLEAR_LISTS)
def test_a_list_that_fails_or_contradicts_decides_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, fault: dict[str, Any]
) -> None:
    foreign_batch(simulator)  # the watermark: an empty list contradicts it
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    simulator.faults.add(endpoint="list", count=1, **fault)
    found = after_settling(desk, clock)
    assert (found.adopted, found.absent, len(found.waiting)) == ([], [], 1)
    assert len(settle(desk).adopted) == 1


def test_a_list_without_a_batch_known_to_be_newer_decides_nothing(
    desk: Desk, two_chunks: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    # The first of the workspace has no watermark; the second, which was recorded, must be in the list.
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, two_chunks)
    simulator.faults.add(kind="empty_list", endpoint="list", count=1)
    assert "which exists; decided nothing" in after_settling(desk, clock).waiting[0][1]


def test_results_that_cannot_be_had_decide_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    simulator.faults.add(kind=500, endpoint="results", count=1)
    assert len(after_settling(desk, clock).waiting) == 1
    assert len(settle(desk).adopted) == 1


def test_candidates_are_frozen_so_that_later_batches_cannot_hold_a_doubt_open(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    foreign_batch(simulator)
    after_settling(desk, clock)
    simulator.clock.advance(BATCH_SECONDS / 2)
    foreign_batch(simulator)
    simulator.clock.advance(BATCH_SECONDS / 2)
    assert len(settle(desk).absent) == 1


def test_a_tag_of_this_ledger_that_it_does_not_know_stops_everything(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    chunk = prepared_snapshot(desk, workload).chunks[0]
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    send_ready(desk, workload)
    forgotten = desk.client.create(Body(desk.path(chunk.params_path), f"{desk.ledger.id}-ffffffffffffffff"))
    assert not isinstance(forgotten, Doubtful)
    simulator.clock.advance(BATCH_SECONDS)
    with pytest.raises(ForgottenBatch, match="restored from a backup.*nothing is sent"):
        after_settling(desk, clock)


# Workspaces.


def test_a_key_of_another_workspace_decides_and_sends_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, workload)
    clock.advance(SETTLE_SECONDS)
    other = client_of(simulator, "another")
    stranger = replace(desk, client=other)
    with pytest.raises(WorkspaceMismatch, match="use a key of wrkspc_"):
        settle(stranger)
    assert states(desk, workload) == ["sending"]
    other.sdk.close()


def test_nothing_is_sent_into_another_workspace(desk: Desk, two_chunks: Workload, simulator: Simulator) -> None:
    prepared_snapshot(desk, two_chunks)
    simulator.faults.add(kind="other_workspace", endpoint="list", after=1, count=1)
    with pytest.raises(WorkspaceMismatch):
        send_ready(desk, two_chunks)
    assert states(desk, two_chunks) == ["live", "ready"]
    assert creates(simulator) == {"200": 1}


# By hand.


def test_a_person_names_the_batch_where_the_evidence_is_gone(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="lost_after", endpoint="create", count=1)
    sent_chunks(desk, workload)
    tag = desk.ledger.unsettled_intents()[0].tag
    batch_id = simulator.invoice()["by_batch"][0]["batch_id"]
    with pytest.raises(UsageError, match="is not in doubt"):
        settle_by_hand(desk, "nonsense", batch_id=None)
    other = foreign_batch(simulator, requests=3)
    with pytest.raises(UsageError, match="cannot be .* holds 3 requests, not 10"):
        settle_by_hand(desk, tag, batch_id=other)
    assert settle_by_hand(desk, tag, batch_id=batch_id) == f"{tag}: taken as {batch_id}"
    assert states(desk, workload) == ["live"]


def test_a_person_declares_a_create_absent(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    tag = desk.ledger.unsettled_intents()[0].tag
    assert "its chunk is ready again" in settle_by_hand(desk, tag, batch_id=None)
    assert len(send_ready(desk, workload).sent) == 1


# One at a time.


def test_a_second_submitter_sends_nothing(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    prepared_snapshot(desk, workload)
    with Ledger.open(None, path=desk.home.ledger) as other, other.lock("submit"):
        assert send_ready(desk, workload).waiting == "another process is submitting"
    assert creates(simulator) == {}


def test_the_tiers_queue_and_the_cap_on_batches_hold_chunks_back(
    desk: Desk, two_chunks: Workload, simulator: Simulator
) -> None:
    capped = replace(desk, settings=replace(desk.settings, batches_in_flight=1))
    done = sent_chunks(capped, two_chunks)
    assert states(desk, two_chunks) == ["live", "ready"]
    assert done.waiting is not None
    assert "waits for room" in done.waiting
    simulator.clock.advance(BATCH_SECONDS)
    look(capped)
    assert len(send_ready(capped, two_chunks).sent) == 1
