"""Exactly once over an API without idempotency keys: the real SDK against the simulator."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import AccountStopped, KeyRefused, LedgerDamaged, UsageError, WorkspaceMismatch
from claude_pipeline.lane.access import connect
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import plan_submission
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS, MovableClock, client_of
from claude_pipeline_tests.factory import (
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
)
from claude_pipeline_tests.integration.submit_case import creates

pytestmark = pytest.mark.both_databases


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


@pytest.fixture
def two_chunks(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(20)])


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
    simulator.faults.add(kind=404, endpoint="create", count=1)
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
    with pytest.raises(LedgerDamaged, match=r"is not what was cut.*sha256 differs"):
        send_ready(desk, workload)
    assert creates(simulator) == {}


def test_nothing_is_sent_into_another_workspace(desk: Desk, two_chunks: Workload, simulator: Simulator) -> None:
    prepared_snapshot(desk, two_chunks)
    simulator.faults.add(kind="other_workspace", endpoint="list", after=2, count=1)
    with pytest.raises(WorkspaceMismatch):
        send_ready(desk, two_chunks)
    assert states(desk, two_chunks) == ["live", "ready"]
    assert creates(simulator) == {"200": 1}


# One at a time.


def test_a_second_submitter_sends_nothing(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    prepared_snapshot(desk, workload)
    with Ledger.open(desk.settings.ledger_url, path=desk.home.ledger) as other, other.lock("submit"):
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
