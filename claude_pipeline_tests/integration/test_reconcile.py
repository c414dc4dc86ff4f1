"""Creates without a clear answer: adopted or absent, never guessed, never sent twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from claude_pipeline.chunk import Body
from claude_pipeline.errors import LedgerOutdated, UsageError, WorkspaceMismatch
from claude_pipeline.lane.client import Doubtful
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import settle, settle_by_hand
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
from claude_pipeline_tests.integration.submit_case import after_settling, batches_at, creates

pytestmark = pytest.mark.both_databases


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


@pytest.fixture
def two_chunks(tmp_path: Path) -> Workload:
    return workload_over(tmp_path, [note(n) for n in range(20)])


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
    with pytest.raises(LedgerOutdated, match=r"restored from a backup.*nothing is sent"):
        after_settling(desk, clock)


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
    with pytest.raises(UsageError, match=r"cannot be .* holds 3 requests, not 10"):
        settle_by_hand(desk, tag, batch_id=other)
    assert settle_by_hand(desk, tag, batch_id=batch_id) == f"{tag}: taken as {batch_id}"
    assert states(desk, workload) == ["live"]


def test_a_person_declares_a_create_absent(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="reset_before", endpoint="create", count=1)
    sent_chunks(desk, workload)
    tag = desk.ledger.unsettled_intents()[0].tag
    assert "its chunk is ready again" in settle_by_hand(desk, tag, batch_id=None)
    assert len(send_ready(desk, workload).sent) == 1
