"""Workloads, datasets and requests for tests, and desks brought to a named state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from claude_pipeline.lane.submit import Submission
from claude_pipeline.ledger import (
    ChunkRow,
    ChunkState,
    Ledger,
    NewChunk,
    PlanCounts,
    SnapshotRow,
    SnapshotState,
    Walls,
    Watermark,
)
from claude_pipeline.request import Request
from claude_pipeline.simulator import Simulator
from claude_pipeline.sql import identifier, literal
from claude_pipeline.stage.collect import Collection, collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prepare import Prepared, prepare
from claude_pipeline.stage.submit import plan_submission, send
from claude_pipeline.workload import Workload

PARTITION = "2026-11-22"
BATCH_SECONDS = 60
NO_WALLS = Walls(queued_requests=100_000, batches_in_flight=100, snapshot_units=None, ledger_units=None)


def attributes(**changes: Any) -> dict[str, Any]:
    """A workload's fields as YAML holds them; a change to None takes the field away."""
    fields: dict[str, Any] = {
        "name": "notes",
        "dataset": {"path": "notes.jsonl", "id": "id"},
        "model": "claude-haiku-5-5",
        "prompt": "Sort: {{ text }}",
        "max_tokens": 64,
        "chunk": {"requests": 10},
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def make_workload(**changes: Any) -> Workload:
    return Workload.from_attributes(attributes(**changes))


def note(number: int, text: str | None = "") -> dict[str, Any]:
    """A record; its text is its own unless one is given."""
    return {"id": f"n{number}", "text": f"note {number}" if text == "" else text}


def write_dataset(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """JSON lines, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def snapshot_row(**known: Any) -> SnapshotRow:
    """A snapshot as the ledger gives it, everything unsaid blank."""
    blank: dict[str, Any] = dict.fromkeys(SnapshotRow.__dataclass_fields__)
    return SnapshotRow(**(blank | {"workload": "notes", "state": SnapshotState.PLANNED} | known))


def workload_over(folder: Path, rows: Iterable[Mapping[str, Any]], **changes: Any) -> Workload:
    """A workload with its dataset on disk."""
    path = write_dataset(folder / "notes.jsonl", rows)
    return make_workload(**{"dataset": {"path": str(path), "id": "id"}, **changes})


def make_requests(count: int, *, size_bytes: int | None = None) -> list[Request]:
    """Requests of rows 0, 1, ...; `size_bytes` is that of the params."""
    made = []
    for row in range(count):
        empty = len(json.dumps({"row": row, "text": ""}, separators=(",", ":")))
        text = "x" * (size_bytes - empty if size_bytes else 3)
        params = json.dumps({"row": row, "text": text}, separators=(",", ":")).encode()
        made.append(Request(row, f"n{row}", hashlib.sha256(params).digest(), params))
    return made


# A ledger without files: for moves that look at rows only.


def make_new_chunk(number: int = 1, *, round_number: int = 1, requests: int = 10, reserve_units: int = 1) -> NewChunk:
    key = f"r{round_number}-{number:04d}"
    return NewChunk(
        key=key,
        round=round_number,
        number=number,
        plan_number=1,
        model="claude-haiku-5-5",
        max_tokens=64,
        requests=requests,
        size_bytes=1_000,
        reserve_units=reserve_units,
        first_row=0,
        last_row=requests - 1,
        params_path=f"chunks/{key}.jsonl",
        params_sha256="0" * 64,
        index_path=f"chunks/{key}.parquet",
        index_sha256="0" * 64,
    )


def loaded_snapshot(
    ledger: Ledger,
    at: datetime,
    *,
    workload: str = "notes",
    partition: str = PARTITION,
    digest: str = "d1",
    watermark: Watermark | None = None,
) -> SnapshotRow:
    ledger.register_workload(workload, source=None, cadence="daily", at=at)
    return ledger.snapshot_loaded(
        workload, partition, path="snapshots/{id}", digest=digest, records=20, at=at, watermark=watermark
    )


def ready_chunks(ledger: Ledger, at: datetime, *new: NewChunk, workload: str = "notes") -> list[ChunkRow]:
    """Chunks of a planned snapshot, without files."""
    snapshot = loaded_snapshot(ledger, at, workload=workload)
    counts = PlanCounts(asked=sum(chunk.requests for chunk in new), reused=0, duplicates=0, awaited=0, rejected=0)
    chunks = new or (make_new_chunk(),)
    ledger.snapshot_planned(
        snapshot, plan_path="plan", plan_sha256="0" * 64, counts=counts, chunks=chunks, waits_on=(), at=at
    )
    return ledger.chunks(workload, snapshot=snapshot.id)


# A desk at the simulator.


def prepared_snapshot(desk: Desk, workload: Workload, partition: str = PARTITION) -> Prepared:
    return prepare(desk, workload, partition)


def sent_chunks(desk: Desk, workload: Workload, partition: str = PARTITION) -> Submission:
    """The snapshot is prepared, and what may be sent is sent."""
    prepare(desk, workload, partition)
    return send_ready(desk, workload)


def send_ready(desk: Desk, workload: Workload) -> Submission:
    return send(desk, workload, plan_submission(desk, workload).chunks)


def ended_batches(
    desk: Desk, workload: Workload, simulator: Simulator, *, seconds: float = BATCH_SECONDS, partition: str = PARTITION
) -> list[ChunkRow]:
    """Chunks whose batches have ended; their results wait."""
    sent_chunks(desk, workload, partition)
    simulator.clock.advance(seconds)
    look(desk)
    return desk.ledger.chunks(workload.name, states=[ChunkState.ENDED])


def collected_chunks(desk: Desk, workload: Workload, simulator: Simulator, *, partition: str = PARTITION) -> Collection:
    ended_batches(desk, workload, simulator, partition=partition)
    return collect(desk, workload)


def states(desk: Desk, workload: Workload) -> list[str]:
    """The states of a workload's chunks, in the order they were cut."""
    return [chunk.state.value for chunk in desk.ledger.chunks(workload.name)]


def token_of(text: str) -> str:
    """The digest token that the simulator's answer to this prompt begins with."""
    return f"[sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}]"


def asked(desk: Desk, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the published warehouse."""
    file = desk.home.warehouse.resolve()
    with _duck().cursor() as duck:
        duck.execute(f"ATTACH {literal(str(file))} AS {identifier(file.stem)} (READ_ONLY)")
        duck.execute(f"USE {identifier(file.stem)}")
        try:
            return duck.execute(sql).fetchall()
        finally:
            duck.execute("USE memory")
            duck.execute(f"DETACH {identifier(file.stem)}")


@cache
def _duck() -> duckdb.DuckDBPyConnection:
    """One for all tests of a process: to make it takes longer than what they ask. It keeps nothing of their files."""
    duck = duckdb.connect(config={"enable_external_file_cache": False})
    duck.execute("SET GLOBAL TimeZone = 'UTC'")
    return duck
