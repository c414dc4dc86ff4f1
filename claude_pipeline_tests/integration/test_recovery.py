"""Ways in which a run once paid twice, lost rows or never ended; each was seen against a stub of the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.errors import AccountStopped, DatasetInvalid, ResultsIncomplete
from claude_pipeline.ledger import ChunkState
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import plan_submission
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import (
    asked,
    ended_batches,
    note,
    prepared_snapshot,
    send_ready,
    sent_chunks,
    states,
    workload_over,
    write_dataset,
)

pytestmark = pytest.mark.both_databases
PARTITION = "2026-11-22"


@pytest.fixture
def run(desk: Desk, simulator: Simulator, clock: MovableClock) -> Callable[..., Any]:
    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        clock.advance(SETTLE_SECONDS)

    return lambda workload: drive.run(desk, workload, wait, partition=PARTITION)


def test_unsent_chunks_of_an_older_prompt_are_withdrawn(
    desk: Desk, run: Callable[..., Any], tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(40)]
    old = workload_over(tmp_path, rows, chunk={"requests": 10})
    prepared_snapshot(desk, old)

    assert run(workload_over(tmp_path, rows, chunk={"requests": 10}, prompt="Judge: {{ text }}")).at_rest

    assert simulator.invoice()["accepted_requests"] == 40
    assert states(desk, old)[:4] == ["canceled"] * 4
    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(40,)]


def test_a_prompt_changed_back_before_it_was_sent_is_asked_after_all(
    desk: Desk, run: Callable[..., Any], tmp_path: Path, simulator: Simulator
) -> None:
    rows = [note(n) for n in range(10)]
    first = workload_over(tmp_path, rows)
    prepared_snapshot(desk, first)
    prepared_snapshot(desk, workload_over(tmp_path, rows, prompt="Judge: {{ text }}"))

    assert run(first).at_rest

    assert simulator.invoice()["accepted_requests"] == 10
    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(10,)]


def test_an_empty_list_is_no_proof_of_absence(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)], chunk={"requests": 10})
    prepared_snapshot(desk, workload)
    simulator.faults.add(kind="empty_list", endpoint="list", after=2, count=1)

    done = send_ready(desk, workload)

    assert len(done.sent) == 1
    assert "the list of batches is empty" in (done.waiting or "")
    assert simulator.invoice()["batches"] == 1


def test_a_batch_that_had_ended_when_its_create_was_answered_is_collected(
    desk: Desk, tmp_path: Path, simulator: Simulator
) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(5)])
    submission = sent_chunks(desk, workload)
    (_, batch_id), *_ = submission.sent
    simulator.clock.advance(BATCH_SECONDS)
    # As if the answer to create, or a reconciliation that then died, had shown it ended already.
    ended = desk.client.retrieve(batch_id)
    with desk.ledger._writing() as connection:
        desk.ledger._see(connection, ended, desk.clock(), chunk_id=1, tag=desk.ledger.batch(batch_id).tag)  # type: ignore[union-attr]

    look(desk)

    assert states(desk, workload) == ["ended"]
    assert len(collect(desk, workload).done) == 1


def test_a_refused_dataset_leaves_nothing_that_later_runs_wait_for(
    desk: Desk, run: Callable[..., Any], tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [note(n) for n in range(10)]
    workload = workload_over(tmp_path, [*rows[:5], *(note(n, None) for n in range(5, 10))])
    with pytest.raises(DatasetInvalid, match="max_reject_ratio"):
        prepared_snapshot(desk, workload)

    write_dataset(Path(workload.dataset.path or ""), rows)

    assert run(workload).at_rest
    assert asked(desk, "SELECT count(answer) FROM notes.results") == [(10,)]


def test_a_last_line_cut_in_the_middle_is_downloaded_again(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    from claude_pipeline.result import AskedFacts, OutputReader, parse_results
    from claude_pipeline.stage.answers import Pricing

    path = tmp_path / "cut.jsonl"
    path.write_bytes(b'{"custom_id":"t-0","result":{"type":"expired"}}\n{"custom_id":"t-1","resu')
    facts = AskedFacts("s", "c", 1, "t", "b", "m", 64, None, {"expired": 2})
    import pyarrow as pa

    index = pa.table({"position": [0, 1], "row": [0, 1], "record_id": ["a", "b"], "fingerprint": [b"x" * 32] * 2})
    reader, pricing = OutputReader(None, []), Pricing(desk.catalog, "m", "batch")
    with path.open("rb") as raw, pytest.raises(ResultsIncomplete, match="end in the middle of a line"):
        parse_results(raw, index, facts, reader, rates_of=pricing.rates_of, verdict_of=lambda t, m: "retry")


def test_low_credit_in_result_lines_is_told(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(5)])
    simulator.faults.add(
        kind="line_error", error_type="invalid_request_error",
        message="Your credit balance is too low to access the Anthropic API.", share=1.0, attempts=1,
    )  # fmt: skip
    ended_batches(desk, workload, simulator)

    found = collect(desk, workload)

    assert "credit balance is too low" in (found.stop or "")
    chunk = desk.ledger.chunks(workload.name)[0]
    assert (chunk.retryable, chunk.stopped) == (5, 5)  # nothing of it was paid: asked again after mending


def test_a_list_that_fails_for_a_moment_stops_nothing(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(20)], chunk={"requests": 10})
    prepared_snapshot(desk, workload)
    simulator.faults.add(kind=404, endpoint="list", after=2, count=1)

    done = send_ready(desk, workload)

    assert (len(done.sent), "404" in (done.waiting or "")) == (1, True)


def test_no_batches_api_at_all_stops(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    workload = workload_over(tmp_path, [note(n) for n in range(5)])
    prepared_snapshot(desk, workload)
    simulator.faults.add(kind=404, endpoint="list", count=1)

    with pytest.raises(AccountStopped, match="is there a Message Batches API"):
        send_ready(desk, workload)


def test_a_superseded_chunk_cannot_be_sent_by_hand(desk: Desk, tmp_path: Path) -> None:
    from claude_pipeline.errors import UsageError

    rows = [note(n) for n in range(5)]
    prepared_snapshot(desk, workload_over(tmp_path, rows))
    newer = workload_over(tmp_path, rows, prompt="Judge: {{ text }}")
    prepared_snapshot(desk, newer)

    with pytest.raises(UsageError, match="older plan"):
        plan_submission(desk, newer, keys=[f"{PARTITION}.1|r1-0001"])


def test_a_moved_chunk_in_a_stale_list_is_passed_over(desk: Desk, tmp_path: Path, simulator: Simulator) -> None:
    from claude_pipeline.stage.submit import send

    workload = workload_over(tmp_path, [note(n) for n in range(5)])
    stale = prepared_snapshot(desk, workload).chunks
    send_ready(desk, workload)

    again = send(desk, workload, [replace(chunk, state=ChunkState.READY) for chunk in stale])

    assert again.sent == []
    assert simulator.invoice()["batches"] == 1
