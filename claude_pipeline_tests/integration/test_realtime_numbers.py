"""What people read of the real-time lane: `ops` tables, summary and status, over both lanes and across midnight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from claude_pipeline.cli.status import gather, show
from claude_pipeline.ledger import AskingRow, ChunkState, Ledger, RateRow
from claude_pipeline.report import summarize
from claude_pipeline.simulator import Simulator, running
from claude_pipeline.stage.ask import interrupted
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline_tests.conftest import NOW, MovableClock
from claude_pipeline_tests.factory import (
    NO_WALLS,
    PARTITION,
    asked,
    collected_chunks,
    make_new_chunk,
    note,
    ready_chunks,
    states,
    workload_over,
)
from claude_pipeline_tests.integration.realtime_case import (
    ask_now,
    bill,
    check_cost,
    chunks_of,
    fast,
    fast_options,
    to_rest,
)

ROWS = [note(number) for number in range(20)]
TEN_BEFORE_MIDNIGHT = datetime(2026, 11, 22, 23, 50, tzinfo=UTC)


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    with running(fast_options()) as simulator:
        yield simulator


@pytest.fixture
def desk(desk: Desk, tmp_path: Path) -> Desk:
    return fast(desk, tmp_path)


def test_the_tables_and_the_summary_tell_the_lanes_apart(
    desk: Desk, tmp_path: Path, simulator: Simulator, clock: MovableClock
) -> None:
    simulator.faults.add(kind="line_error", endpoint="create", share=0.3, attempts=1)
    workload = workload_over(tmp_path, ROWS, lane="batch")
    collected_chunks(desk, workload, simulator)
    to_rest(desk, workload.model_copy(update={"lane": "realtime"}), simulator, clock)
    check_cost(desk, simulator)
    batches, messages = (simulator.invoice()[name] for name in ("by_batch", "messages"))
    in_batches = sum(batch["succeeded"] for batch in batches)

    told = asked(desk, "SELECT lane, estimated, sum(requests_per_min) FROM ops.throughput GROUP BY ALL ORDER BY 1")
    assert told == [("batch", True, in_batches), ("realtime", False, messages["succeeded"])]
    chunks = asked(desk, "SELECT DISTINCT lane, batch_id IS NULL, lost FROM ops.chunks ORDER BY 1")
    assert chunks == [("batch", False, 0), ("realtime", True, 0)]

    found = summarize(desk, workload, desk.ledger.snapshots("notes")[-1])
    assert (found.batch_requests, found.realtime_requests) == (20, messages["succeeded"])
    assert found.cost_usd == pytest.approx(float(simulator.invoice()["total_usd"]), abs=1e-9)
    assert found.saved_usd == pytest.approx(found.batch_cost_usd)
    assert dict(found.rows())["requests sent"] == f"20 in 2 batches and {messages['succeeded']} in real time, 2 rounds"


class Interrupting(MovableClock):
    """A clock that interrupts the session at a look at the time: a chunk is left half answered."""

    def __init__(self, at: datetime, looks: int) -> None:
        super().__init__(at)
        self.looks = looks

    def __call__(self) -> datetime:
        self.looks -= 1
        if self.looks == 0:
            interrupted.set()
        return self.at


def test_answers_of_one_chunk_on_both_sides_of_midnight_count_for_their_days(desk: Desk, tmp_path: Path) -> None:
    clock = Interrupting(TEN_BEFORE_MIDNIGHT, looks=60)
    with running(fast_options(start=TEN_BEFORE_MIDNIGHT)) as simulator:
        from claude_pipeline_tests.conftest import client_of, messages_of

        client = client_of(simulator)
        settings = replace(desk.settings, realtime_in_flight=2)
        desk = replace(desk, settings=settings, client=client, messages=messages_of(simulator), clock=clock)
        rows = [note(number) for number in range(100)]
        workload = workload_over(tmp_path, rows, lane="realtime", chunk={"requests": 100})
        prepare(desk, workload, PARTITION)
        simulator.faults.add(kind="hang_after", endpoint="messages", seconds=0.03)  # slower than a session's looks
        ask_now(desk, workload)
        interrupted.clear()
        simulator.faults.clear()
        assert states(desk, workload) == ["asking"]
        before = bill(simulator)[0]
        assert 0 < before < len(rows)
        clock.advance(1200)
        simulator.clock.advance(1200)
        to_rest(desk, workload, simulator, clock)
        client.close()

        days: dict[str, int] = {}
        for piece in simulator.invoice_lines():
            for line in map(orjson.loads, piece.splitlines()):
                days[line["at"][:10]] = days.get(line["at"][:10], 0) + line["billed"]
        assert days == {"2026-11-22": before, "2026-11-23": len(rows) - before}
        assert dict(asked(desk, "SELECT day::VARCHAR, requests FROM ops.costs")) == days
        check_cost(desk, simulator)
        minutes = dict(asked(desk, "SELECT minute, requests_per_min FROM ops.throughput"))
        assert minutes == {
            TEN_BEFORE_MIDNIGHT: before,
            TEN_BEFORE_MIDNIGHT + timedelta(minutes=20): len(rows) - before,
        }
        found = summarize(desk, workload, desk.ledger.snapshots("notes")[-1])
        assert (found.started_at, found.minutes) == (TEN_BEFORE_MIDNIGHT, 20)


def asking(ledger: Ledger, **changes: Any) -> None:
    row = AskingRow(
        id="a", workload="notes", pools='["haiku"]', started_at=NOW, seen_at=NOW, requests=10, answered=4, errored=1,
        in_flight=3, requests_per_minute=120, input_tokens_per_minute=2_000, output_tokens_per_minute=600, waiting=None,
    )  # fmt: skip
    ledger.asking_beat(replace(row, **changes))


@pytest.fixture
def half_asked(desk: Desk) -> Desk:
    """A chunk that is asked: two of its requests were lost with a process that died."""
    chunk = ready_chunks(desk.ledger, NOW, make_new_chunk(1))[0]
    chunk = desk.ledger.asking_started(chunk, reserve_units=10, walls=NO_WALLS, why="it is late", at=NOW)
    desk.ledger.lost_found(chunk, reserve_units=12, lost=2, walls=NO_WALLS, at=NOW)
    return desk


def test_status_says_who_asks_and_how_far_that_is(half_asked: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    asking(half_asked.ledger)
    found = gather(half_asked)
    told = json.loads(json.dumps(found, default=str))["asking"][0]
    assert {name: told[name] for name in ("workload", "chunks", "requests", "lost", "not_before")} == {
        "workload": "notes", "chunks": 1, "requests": 10, "lost": 2, "not_before": None,
    }  # fmt: skip
    assert (told["process"]["answered"], told["process"]["in_flight"]) == (4, 3)
    show(found, "home")
    out = capsys.readouterr().out
    assert "notes: 5 of 10 asked in real time, 120 requests/min" in out
    assert "2 answers in real time may have been paid and were lost" in out


def test_status_says_what_waits_and_until_when(half_asked: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    show(gather(half_asked), "home")
    assert "begun, and no process asks now" in capsys.readouterr().out
    until = NOW + timedelta(hours=1)
    half_asked.ledger.asking_paused(chunks_of(half_asked)[0], until, "the API asked to wait", at=NOW)
    half_asked.ledger.rate_told(RateRow("haiku", 50, None, None, NOW, until))
    found = gather(half_asked)
    assert found["pauses"] == [{"pool": "haiku", "until": until}]
    show(found, "home")
    out = capsys.readouterr().out
    assert "notes: 10 requests wait until 15:30:00 UTC, as the API asked" in out
    assert "the API asked to wait until 15:30:00 UTC with haiku in real time" in out


def test_a_process_that_ended_without_a_word_is_not_shown(half_asked: Desk) -> None:
    asking(half_asked.ledger, seen_at=NOW - timedelta(minutes=1))
    assert gather(half_asked)["asking"][0]["process"] is None


def test_lost_answers_are_counted_once_for_a_snapshot(half_asked: Desk) -> None:
    chunk = chunks_of(half_asked)[0]
    half_asked.ledger.lost_found(chunk, reserve_units=12, lost=2, walls=NO_WALLS, at=NOW)
    assert half_asked.ledger.lost() == [("notes", "2026-11-22.1", 2)]
    assert chunk.state is ChunkState.ASKING
