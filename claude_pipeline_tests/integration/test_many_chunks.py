"""A tick asks a ledger of many chunks no more often than one of few, and by its indexes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from claude_pipeline.components.assets import SENTENCES_MAX, SLICES_MAX, first_of, slices_of
from claude_pipeline.ledger import BatchId, BatchSeen, ChunkState, Ledger
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import plan_submission
from claude_pipeline_tests.benchmark.many_chunks import DAY, NOW, fill, look_at, plans, statements
from claude_pipeline_tests.factory import make_new_chunk, make_workload, ready_chunks

GROWING = ("chunk", "intent", "batch", "spend", "part", "event", "snapshot", "snapshot_wait")


@pytest.fixture(params=["batch", "auto"])
def asked(request: pytest.FixtureRequest, desk: Desk, ledger: Ledger) -> Counter[tuple[str, Any]]:
    """What a tick asks of a ledger with 600 chunks, half of them collected."""
    fill(ledger, 600)
    with statements(ledger) as found:
        look_at(desk, make_workload(lane=request.param))
    return found


def test_a_tick_reads_no_growing_table_from_end_to_end(asked: Counter[tuple[str, Any]], ledger: Ledger) -> None:
    steps = [step for lines in plans(ledger, asked).values() for step in lines]
    assert any(step.startswith("SEARCH chunk USING") for step in steps)
    assert [step for step in steps if step.startswith("SCAN") and step.split()[1] in GROWING] == []


def test_a_tick_asks_a_fixed_number_of_questions(asked: Counter[tuple[str, Any]]) -> None:
    assert sum(asked.values()) < 60


@pytest.mark.parametrize("live", [0, 600], ids=["they wait", "they are at the API"])
@pytest.mark.parametrize("lane", ["batch", "auto"])
def test_a_tick_reads_what_is_not_answered_once(desk: Desk, ledger: Ledger, lane: str, live: int) -> None:
    fill(ledger, 600, collected=0, live=live)
    with statements(ledger) as asked:
        look_at(desk, make_workload(lane=lane))
    with ledger._engine.connect() as connection:
        read = [
            count * len(connection.exec_driver_sql(statement, parameters).fetchall())
            for (statement, parameters), count in asked.items()
            if statement.lstrip().upper().startswith("SELECT")
        ]
    assert 600 <= sum(read) < 700


def test_a_submission_takes_what_there_is_room_for_and_one_that_says_why(desk: Desk, ledger: Ledger) -> None:
    ready_chunks(ledger, NOW, *(make_new_chunk(number + 1) for number in range(600)))
    planned = plan_submission(desk, make_workload(lane="batch"))
    assert len(planned.chunks) == desk.settings.batches_in_flight + 1
    assert len(slices_of([chunk.partition_key for chunk in planned.chunks])) == 5


@pytest.mark.parametrize("chunks", [0, 1, 25, 26, 500, 501, 10_000])
def test_a_run_has_few_steps_however_many_chunks_are_asked_for(chunks: int) -> None:
    keys = [f"2026-11-22.1|r1-{number:05d}" for number in range(chunks)]
    slices = slices_of(keys)
    assert [key for some in slices for key in some] == keys
    assert len(slices) <= SLICES_MAX


def test_a_runs_log_shows_the_first_of_many_sentences() -> None:
    assert first_of(["a", "b"]) == ["a", "b"]
    assert first_of(["a"] * 10_000) == ["a"] * SENTENCES_MAX + ["and 9,980 more"]


def test_batches_that_end_together_are_one_move_of_the_ledger(desk: Desk, ledger: Ledger) -> None:
    batches = [BatchId(name) for name in fill(ledger, 100, collected=0, live=100)]
    seen = [
        BatchSeen(name, "ended", 100, {"succeeded": 100}, NOW, NOW + DAY, NOW + timedelta(hours=1), None)
        for name in batches
    ]
    with statements(ledger) as asked:
        ledger.batch_seen(*seen, at=NOW)
    assert sum(count for (statement, _), count in asked.items() if statement == "BEGIN IMMEDIATE") == 1
    assert len(ledger.chunks("notes", states=[ChunkState.ENDED])) == 100
