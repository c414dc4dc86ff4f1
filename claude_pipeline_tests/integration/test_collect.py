"""Ended batches become result rows, exactly once, whatever the download is like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow.parquet as pq
import pytest

from claude_pipeline.crash import told
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.ledger import ChunkState
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, collect_chunk, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.raw import unpack
from claude_pipeline.workload import Workload
from claude_pipeline_tests.conftest import BATCH_SECONDS
from claude_pipeline_tests.factory import (
    PARTITION,
    collected_chunks,
    ended_batches,
    note,
    send_ready,
    sent_chunks,
    states,
    token_of,
    workload_over,
)

DAY_SECONDS = 24 * 3600


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """Ten records in one chunk."""
    return workload_over(tmp_path, [note(n) for n in range(10)])


def attempts(desk: Desk, workload: Workload) -> list[dict[str, Any]]:
    """Rows of every collected attempt, in the order of their chunks."""
    parts = desk.ledger.parts(workload.name, kinds=["attempts"])
    return [row for part in parts for row in pq.read_table(desk.path(part.path)).to_pylist()]


def next_round(desk: Desk, workload: Workload, simulator: Simulator, *, seconds: float = BATCH_SECONDS) -> None:
    send_ready(desk, workload)
    simulator.clock.advance(seconds)
    look(desk)
    collect(desk, workload)


def test_each_record_gets_its_own_answer(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    found = collected_chunks(desk, workload, simulator)
    assert (len(found.done), found.unclear) == (1, [])
    rows = attempts(desk, workload)
    assert [row["record_id"] for row in rows] == [f"n{n}" for n in range(10)]
    assert all(row["answer"].startswith(token_of(f"Sort: note {n}")) for n, row in enumerate(rows))


def test_collecting_twice_changes_nothing(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    collected_chunks(desk, workload, simulator)
    chunk = desk.ledger.chunks("notes")[0]
    before = (chunk, list(desk.ledger.dump("spend")), list(desk.ledger.dump("event")), attempts(desk, workload))
    assert collect(desk, workload).done == []
    collect_chunk(desk, workload, chunk)
    after = (desk.ledger.chunk(chunk.id), list(desk.ledger.dump("spend")), list(desk.ledger.dump("event")), attempts(desk, workload))  # fmt: skip
    assert after == before


BROKEN: list[Any] = [
    pytest.param({"kind": "cut_results"}, id="broken-off"),
    pytest.param({"kind": "cut_results", "form": "clean"}, id="cut-as-if-whole"),
    pytest.param({"kind": "cut_results", "share": 0.02, "form": "clean"}, id="cut-in-the-first-line"),
    pytest.param({"kind": "missing_lines", "share": 0.3}, id="missing-lines"),
    pytest.param({"kind": "foreign_lines", "share": 0.3}, id="foreign-lines"),
    pytest.param({"kind": 500}, id="500"),
    pytest.param({"kind": 404}, id="404-for-a-while"),
    pytest.param({"kind": 429}, id="429"),
    pytest.param({"kind": "reset_before"}, id="reset"),
    pytest.param({"kind": "redirect", "location": "http://127.0.0.1:9/"}, id="redirect"),
]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_download_records_nothing_and_is_tried_again(
    desk: Desk, workload: Workload, simulator: Simulator, fault: dict[str, Any]
) -> None:
    ended_batches(desk, workload, simulator)
    simulator.faults.add(endpoint="results", count=1, **fault)
    found = collect(desk, workload)
    assert (found.done, len(found.unclear)) == ([], 1)
    assert states(desk, workload) == ["ended"]
    assert desk.ledger.parts("notes", kinds=["attempts", "answered"]) == []
    assert not [path for path in desk.home.root.glob("downloads/**/*") if path.is_file()]
    assert len(collect(desk, workload).done) == 1
    assert len(attempts(desk, workload)) == 10


HARMLESS: list[Any] = [
    pytest.param({"kind": "blank_lines"}, id="blank-lines"),
    pytest.param({"kind": "duplicate_lines", "share": 0.5}, id="duplicate-lines"),
    pytest.param({"kind": "line_separator"}, id="line-separators"),
]


@pytest.mark.parametrize("fault", HARMLESS)
def test_harmless_oddities_of_a_download_cost_nothing(
    desk: Desk, workload: Workload, simulator: Simulator, fault: dict[str, Any]
) -> None:
    ended_batches(desk, workload, simulator)
    simulator.faults.add(endpoint="results", count=1, **fault)
    collect(desk, workload)
    assert states(desk, workload) == ["done"]
    assert all(token_of(f"Sort: note {n}") in row["answer"] for n, row in enumerate(attempts(desk, workload)))


def test_an_unreadable_line_costs_its_record_only_and_its_raw_text_is_kept(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    ended_batches(desk, workload, simulator)
    simulator.faults.add(kind="malformed_lines", endpoint="results", count=1, share=0.2)
    collect(desk, workload)
    spoiled = [row for row in attempts(desk, workload) if row["outcome"] == "errored"]
    assert 0 < len(spoiled) < 10
    assert {(row["error_type"], row["verdict"]) for row in spoiled} == {("unreadable_result", "permanent")}
    kept = next(iter(desk.home.root.glob("downloads/notes/2026-11-22.1/*.jsonl.zst")))
    unpack(kept.with_suffix(""))
    assert len(kept.with_suffix("").read_bytes().splitlines()) == 10


def test_the_key_never_follows_a_results_url(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="foreign_url", endpoint="retrieve", location="http://127.0.0.1:9/results")
    assert len(collected_chunks(desk, workload, simulator).done) == 1


def test_what_errored_once_is_answered_in_the_next_round(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_error", share=0.4, attempts=1)
    collected_chunks(desk, workload, simulator)
    first = desk.ledger.chunks("notes")[0]
    failed = [row["record_id"] for row in attempts(desk, workload) if row["outcome"] == "errored"]
    assert first.errored == first.retryable == len(failed) > 0
    next_round(desk, workload, simulator)
    second = desk.ledger.chunks("notes")[1]
    assert (second.key, second.requests, second.succeeded) == ("r2-0001", len(failed), len(failed))
    assert [row["record_id"] for row in attempts(desk, workload)[10:]] == failed
    assert finalize(desk, workload, PARTITION)[0].succeeded == 10
    assert simulator.invoice()["billed_twice"] == 0


def test_a_permanent_error_is_a_dead_letter_and_not_asked_again(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", share=0.3, error_type="invalid_request_error", message="too odd")
    collected_chunks(desk, workload, simulator)
    dead = desk.ledger.chunks("notes")[0].errored
    assert dead
    assert send_ready(desk, workload).sent == []
    merged = finalize(desk, workload, PARTITION)[0]
    assert (merged.records, merged.succeeded, merged.dead) == (10, 10 - dead, dead)


def test_expired_requests_go_into_the_next_round_and_cost_nothing(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="expire", count=1, share=0.5)
    ended_batches(desk, workload, simulator, seconds=DAY_SECONDS)
    collect(desk, workload)
    first = desk.ledger.chunks("notes")[0]
    assert (first.succeeded, first.expired, first.retryable) == (5, 5, 5)
    next_round(desk, workload, simulator)
    assert finalize(desk, workload, PARTITION)[0].succeeded == 10
    assert simulator.invoice()["billed_requests"] == 10


def test_after_the_last_round_what_is_left_is_dead(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(4)], max_rounds=2)
    simulator.faults.add(kind="line_error")
    collected_chunks(desk, workload, simulator)
    next_round(desk, workload, simulator)
    assert send_ready(desk, workload).sent == []
    assert [chunk.key for chunk in desk.ledger.chunks("notes")] == ["r1-0001", "r2-0001"]
    assert finalize(desk, workload, PARTITION)[0].dead == 4


def test_a_batch_of_errors_only_has_no_answers_and_no_spend(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="line_error", error_type="invalid_request_error")
    collected_chunks(desk, workload, simulator)
    assert desk.ledger.parts("notes", kinds=["answered"]) == []
    assert list(desk.ledger.dump("spend")) == []
    assert desk.ledger.chunks("notes")[0].cost_units == 0


def test_a_refusal_is_an_answer_and_its_reason_is_kept(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_answer", form="refusal")
    collected_chunks(desk, workload, simulator)
    rows = attempts(desk, workload)
    assert {(row["outcome"], row["stop_reason"], row["answer"]) for row in rows} == {("succeeded", "refusal", None)}


def test_a_batch_without_usage_has_an_unknown_cost(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    simulator.faults.add(kind="line_answer", form="no_usage")
    collected_chunks(desk, workload, simulator)
    assert {row["cost_usd"] for row in attempts(desk, workload)} == {None}
    assert states(desk, workload) == ["done"]


def test_an_unheard_of_status_is_waited_out(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    simulator.faults.add(kind="status_word", endpoint="list", count=1, form="resting")
    simulator.faults.add(kind="status_word", endpoint="retrieve", count=1, form="resting")
    look(desk)
    look(desk)
    assert states(desk, workload) == ["ended"]


def test_a_batch_missing_from_the_list_is_asked_for_by_itself(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    simulator.faults.add(kind="list_lag", seconds=10 * BATCH_SECONDS)
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    assert len(look(desk).ended) == 1


def test_a_batch_that_is_not_found_for_a_while_is_looked_for_again(
    desk: Desk, workload: Workload, simulator: Simulator
) -> None:
    sent_chunks(desk, workload)
    simulator.clock.advance(BATCH_SECONDS)
    simulator.faults.add(kind="empty_list", endpoint="list", count=1)
    simulator.faults.add(kind=404, endpoint="retrieve", count=1)
    assert look(desk).missing == [desk.ledger.chunks("notes")[0].batch_id]
    assert states(desk, workload) == ["live"]
    assert len(look(desk).ended) == 1


def test_a_canceled_batch_is_asked_again(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    batch_id = sent_chunks(desk, workload).sent[0][1]
    desk.client.cancel(batch_id)
    simulator.clock.advance(BATCH_SECONDS)
    look(desk)
    collect(desk, workload)
    chunk = desk.ledger.chunks("notes")[0]
    assert chunk.canceled == chunk.retryable
    assert chunk.canceled
    next_round(desk, workload, simulator)
    assert finalize(desk, workload, PARTITION)[0].succeeded == 10
    assert simulator.invoice()["billed_twice"] == 0


def test_a_changed_index_is_never_joined(desk: Desk, workload: Workload, simulator: Simulator) -> None:
    chunk = ended_batches(desk, workload, simulator)[0]
    path = desk.path(chunk.index_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(LedgerDamaged, match="is not what was cut"):
        collect(desk, workload)
    assert desk.ledger.chunks("notes")[0].state is ChunkState.ENDED


def test_a_look_asks_the_api_nothing_when_nothing_is_in_flight(desk: Desk, simulator: Simulator) -> None:
    look(desk)
    assert simulator.invoice()["calls"] == {}


# Several batches, side by side.


@pytest.fixture
def three(desk: Desk, tmp_path: Path, simulator: Simulator) -> tuple[Desk, Workload]:
    """A desk with three collectors, and three batches that have ended."""
    workload = workload_over(tmp_path, [note(n) for n in range(30)])
    ended_batches(desk, workload, simulator)
    return replace(desk, collectors=3), workload


def test_batches_are_downloaded_while_others_are_parsed_and_written(three: tuple[Desk, Workload]) -> None:
    desk, workload = three
    together = Barrier(3, timeout=30)  # that none passes before all are there

    def meet(point: str) -> None:
        if point == "collect.after_download":
            together.wait()

    with told(meet):
        found = collect(desk, workload)
    assert [chunk.key for chunk, _ in found.done] == ["r1-0001", "r1-0002", "r1-0003"]
    assert states(desk, workload) == ["done"] * 3
    assert len(attempts(desk, workload)) == 30


def test_one_that_has_no_results_keeps_no_other_back(three: tuple[Desk, Workload], simulator: Simulator) -> None:
    desk, workload = three
    simulator.faults.add(kind="status", endpoint="results", status=500, count=1)
    found = collect(desk, workload)
    assert (len(found.done), len(found.unclear)) == (2, 1)
    assert sorted(states(desk, workload)) == ["done", "done", "ended"]
    assert len(collect(desk, workload).done) == 1


def test_an_error_is_raised_when_those_that_have_begun_are_done(three: tuple[Desk, Workload]) -> None:
    desk, workload = three
    chunk = desk.ledger.chunks("notes")[0]
    desk.path(chunk.index_path).write_bytes(b"")
    with pytest.raises(LedgerDamaged, match="sha256 differs"):
        collect(desk, workload)
    assert states(desk, workload)[0] == "ended"
    assert set(states(desk, workload)[1:]) <= {"done", "ended"}
    assert list(desk.home.root.rglob("*.tmp")) == []
