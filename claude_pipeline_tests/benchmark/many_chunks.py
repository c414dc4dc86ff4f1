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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from claude_pipeline.catalog import load
from claude_pipeline.controller import decide, describe, survey
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import BatchId, BatchSeen, Collected, Ledger, Part, Spend
from claude_pipeline.settings import Settings
from claude_pipeline.stage.alert import watch
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import rescue
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import NO_WALLS, make_new_chunk, make_workload, ready_chunks

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
DAY = timedelta(hours=24)
LIVE = 100
TICK_SECONDS = 2.0
ROUNDS = 3
Row = tuple[str, float, str, float | None]


def fill(ledger: Ledger, chunks: int) -> None:
    """A snapshot of so many chunks, each at one of the places that a chunk passes."""
    rows = ready_chunks(ledger, NOW, *(make_new_chunk(number + 1, requests=100) for number in range(chunks)))
    for number, chunk in enumerate(rows[: chunks // 2 + LIVE]):
        intent = ledger.intent_opened(chunk, tag=f"{number:025d}", watermark=None, walls=NO_WALLS, at=NOW)  # type: ignore[arg-type]
        counts = {"succeeded": 100}
        batch = BatchSeen(BatchId(f"msgbatch_{number:06d}"), "in_progress", 100, counts, NOW, NOW + DAY, None, None)
        ledger.intent_live(intent, batch, at=NOW)
        if number >= chunks // 2:
            continue
        ledger.batch_seen(replace(batch, status="ended", ended_at=NOW), at=NOW)
        ended = ledger.chunk(chunk.id)
        spend = Spend(
            model=chunk.model, lane="batch", billed_at=NOW, requests=100, input_tokens=1, output_tokens=1,
            cache_write_tokens=0, cache_read_tokens=0, cost_units=1,
        )  # fmt: skip
        collected = Collected(
            succeeded=100, errored=0, canceled=0, expired=0, retryable=0, invalid=0, spend=(spend,), stopped=0, stop=None,
            kept_units=0, moves_on=0, lost=0,
        )  # fmt: skip
        parts = [
            Part(f"{kind}/{chunk.key}.parquet", kind, chunk.workload, chunk.snapshot, chunk.plan_number, chunk.id, 100, "0" * 64)
            for kind in ("attempts", "answered")
        ]  # fmt: skip
        ledger.chunk_collected(ended, collected, parts, at=NOW)


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
            event.listen(ledger._engine, "connect", _unsafe)
            fill(ledger, chunks)
            event.remove(ledger._engine, "connect", _unsafe)
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


def _unsafe(raw: Any, _record: object) -> None:
    """Ten thousand chunks take forty thousand commits; what they cost is not measured here."""
    raw.execute("PRAGMA synchronous=OFF")


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
