"""What came of one chunk, record by record: why some have no good answer, which cost most, how answers look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import ChunkRow
from claude_pipeline.result import output_fields
from claude_pipeline.sql import file_literal, identifier
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

ERROR = "concat_ws(': ', error_type, error_message)"
DEAREST = ("record_id", "cost_usd", "input_tokens", "output_tokens")
FAILED = "(outcome <> 'succeeded' OR error_type IS NOT NULL)"


@dataclass(frozen=True)
class Grid:
    """A small table: names of columns, rows of plain values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class ChunkRows:
    """Of a collected chunk; no prompt is in any of them."""

    reasons: Grid
    failed: Grid
    dearest: Grid
    answers: Grid


def rows_of(desk: Desk, workload: Workload, chunk: ChunkRow, *, failed: int, others: int) -> ChunkRows | None:
    """At most `failed` records without a good answer, and `others` of each other kind; None where it has no rows."""
    parts = desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=chunk.snapshot)
    paths = [desk.path(part.path) for part in parts if part.chunk_id == chunk.id]
    if not paths or not all(path.exists() for path in paths):
        return None
    rows = f"read_parquet([{', '.join(map(file_literal, paths))}])"
    output = [field.name for field in output_fields(workload)] or ["answer"]
    with leased(desk.home.scratch()) as duck:

        def grid(columns: Sequence[str], query: str) -> Grid:
            return Grid(tuple(columns), tuple(duck.execute(query).fetchall()))

        named = ", ".join(map(identifier, output))
        return ChunkRows(
            reasons=grid(
                ("records", "error"),
                f"SELECT count(*), {ERROR} FROM {rows} WHERE {FAILED} GROUP BY ALL ORDER BY 1 DESC, 2 LIMIT {others}",
            ),
            failed=grid(
                ("record_id", "error"),
                f"SELECT record_id, {ERROR} FROM {rows} WHERE {FAILED} ORDER BY position LIMIT {failed}",
            ),
            dearest=grid(
                DEAREST,
                f"SELECT record_id, cost_usd, input_tokens + cache_write_tokens + cache_read_tokens, output_tokens "
                f"FROM {rows} WHERE cost_usd > 0 ORDER BY cost_usd DESC, position LIMIT {others}",
            ),
            answers=grid(
                ("record_id", *output),
                f"SELECT record_id, {named} FROM {rows} WHERE outcome = 'succeeded' ORDER BY position LIMIT {others}",
            ),
        )


def dearest_of(desk: Desk, workload: Workload, snapshot: str, chunks: Mapping[int, str], *, limit: int) -> Grid:
    """The records of a snapshot that cost most; `chunks` names those that it has."""
    parts = desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=snapshot)
    paths = [desk.path(part.path) for part in parts if part.chunk_id in chunks]
    if not paths or not all(path.exists() for path in paths):
        return Grid(DEAREST, ())
    with leased(desk.home.scratch()) as duck:
        found = duck.execute(
            f"""SELECT record_id, cost_usd, input_tokens + cache_write_tokens + cache_read_tokens, output_tokens
                FROM read_parquet([{", ".join(map(file_literal, paths))}], union_by_name = true)
                WHERE cost_usd > 0 ORDER BY cost_usd DESC, record_id LIMIT {limit}"""
        ).fetchall()
    return Grid(DEAREST, tuple(found))
