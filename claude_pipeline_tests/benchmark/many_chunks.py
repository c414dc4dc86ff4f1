"""A snapshot of ten thousand chunks: what a look at it costs, and how the ledger's hot queries are answered.

    python -m claude_pipeline_tests.benchmark.many_chunks [--chunks 10000]

The chunks are rows of the ledger without files: half of them collected, a hundred at the API, the rest waits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Insert, Update, bindparam, event, insert, text, update

from claude_pipeline.catalog import load
from claude_pipeline.controller import decide, describe, survey
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import ChunkState, Ledger, table
from claude_pipeline.ledger.state import IntentState
from claude_pipeline.settings import Settings
from claude_pipeline.stage.alert import watch
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import rescue
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import make_new_chunk, make_workload, ready_chunks

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
DAY = timedelta(hours=24)
LIVE = 100
TICK_SECONDS = 2.0
ROUNDS = 3
Row = tuple[str, float, str, float | None]


def fill(
    ledger: Ledger, chunks: int, *, now: datetime = NOW, collected: int | None = None, live: int = LIVE
) -> list[str]:
    """A snapshot of so many chunks, each at one of the places that a chunk passes; written in bulk, as the moves would.

    By default half of them are collected. Returns the ids of the batches of those that are live.
    """
    rows = ready_chunks(ledger, now, *(make_new_chunk(number + 1, requests=100) for number in range(chunks)))
    half = chunks // 2 if collected is None else collected
    done, flying = rows[:half], rows[half : half + live]
    sent = [
        {"chunk_id": chunk.id, "batch_id": f"msgbatch_{chunk.id:06d}", "tag": f"{chunk.id:025d}"}
        for chunk in done + flying
    ]
    tokens = dict.fromkeys(
        ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_units"), 1
    )
    with ledger._writing() as connection:
        _many(
            connection,
            insert(table.intent),
            [{**row, "requests": 100, "state": IntentState.LIVE, "created_at": now} for row in sent],
        )
        _many(
            connection,
            insert(table.batch),
            [{"id": row["batch_id"], "chunk_id": row["chunk_id"], "tag": row["tag"], "requests": 100, "status": "ended",
              "created_at": now, "expires_at": now + DAY, "seen_at": now} for row in sent],
        )  # fmt: skip
        _many(
            connection,
            insert(table.spend),
            [{"chunk_id": chunk.id, "model": chunk.model, "lane": "batch", "billed_at": now, "requests": 100, **tokens}
             for chunk in done],
        )  # fmt: skip
        _many(
            connection,
            insert(table.part),
            [{"path": f"{kind}/{chunk.key}", "kind": kind, "workload": chunk.workload, "snapshot": chunk.snapshot,
              "plan_number": 1, "chunk_id": chunk.id, "rows": 100, "sha256": "0" * 64, "created_at": now}
             for chunk in done for kind in ("attempts", "answered")],
        )  # fmt: skip
        moves = ("intent opened", "batch live", "batch ended", "chunk collected")
        _many(
            connection,
            insert(table.event),
            [{"at": now, "move": move, "workload": chunk.workload, "snapshot": chunk.snapshot, "chunk_id": chunk.id}
             for chunk in done for move in moves],
        )  # fmt: skip
        of = table.chunk.c.id == bindparam("chunk")
        batches = [{"chunk": row["chunk_id"], "batch_id": row["batch_id"]} for row in sent]
        _many(connection, update(table.chunk).where(of).values(state=ChunkState.LIVE), batches)
        ends = [{"chunk": c.id, "succeeded": 99, "errored": 1, "retryable": 0, "collected_at": now} for c in done]
        _many(connection, update(table.chunk).where(of).values(state=ChunkState.DONE), ends)
    return [row["batch_id"] for row in sent[len(done) :]]


def _many(connection: Connection, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """For each of the rows; without any the statement would be for all that is there."""
    if rows:
        connection.execute(statement, rows)


def look_at(desk: Desk, workload: Workload) -> str:
    """What a tick of the sensor asks the ledger."""
    rescue(desk, workload, walls(desk, workload))
    situation = survey(desk, workload)
    decide(situation)
    watch(desk, [workload], {workload.name: situation.held_by})
    return describe(situation, desk.clock())


@contextmanager
def statements(ledger: Ledger) -> Iterator[Counter[tuple[str, Any]]]:
    """The statements, with their parameters, that the ledger's database is asked meanwhile."""
    asked: Counter[tuple[str, Any]] = Counter()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked[statement, parameters] += 1

    engine = ledger._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


def plans(ledger: Ledger, asked: Counter[tuple[str, Any]]) -> dict[str, list[str]]:
    """How SQLite answers each SELECT of those: its query plan, line by line."""
    found: dict[str, list[str]] = {}
    with ledger._engine.connect() as connection:
        for statement, parameters in asked:
            if statement.lstrip().upper().startswith("SELECT"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                found[statement] = [str(row[3]) for row in rows]
    return found


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of wall clock and CPU."""
    walls_, cpus = [], []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        walls_.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls_), statistics.median(cpus)


def rows(chunks: int, *, show_plans: bool = False) -> list[Row]:
    """What, value, unit, and what it may be at most."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        with Ledger.open(None, path=home.ledger) as ledger:
            fill(ledger, chunks)
            desk = Desk(Settings(home), ledger, load(), BatchClient(), lambda: NOW)
            workload = make_workload(lane="batch")
            with statements(ledger) as asked:
                look_at(desk, workload)
            if show_plans:
                _show(plans(ledger, asked))
            wall, cpu = timed(lambda: look_at(desk, workload))
            with ledger._engine.connect() as connection:
                size = connection.execute(
                    text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
                )
                megabytes = float(size.scalar_one()) / 1e6
    return [
        (f"what a tick asks a ledger of {chunks:,} chunks: wall", wall, "s", TICK_SECONDS),
        (f"what a tick asks a ledger of {chunks:,} chunks: CPU", cpu, "s", None),
        ("statements of such a tick", float(sum(asked.values())), "", None),
        ("size of the ledger", megabytes, "MB", None),
    ]


def _show(found: dict[str, list[str]]) -> None:
    for statement, lines in found.items():
        words = " ".join(statement.split())
        print(f"\n... {words[words.find(' FROM ') + 1 :][:160]}")
        for line in lines:
            print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=10_000)
    for what, value, unit, _ in rows(parser.parse_args().chunks, show_plans=True):
        print(f"{what:62}{value:10.2f} {unit}")


if __name__ == "__main__":
    main()
