"""Requests -> the files of new chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from claude_pipeline.cache import CacheChoice
from claude_pipeline.catalog import Price
from claude_pipeline.chunk import Chunk, ChunkLimit, cut_chunks
from claude_pipeline.ledger import NewChunk, SnapshotRow
from claude_pipeline.progress import told
from claude_pipeline.request_table import RequestTable
from claude_pipeline.segment import Segment, in_tables
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.reserve import reserve, reserves_of
from claude_pipeline.workload import Workload


def cut(
    desk: Desk,
    workload: Workload,
    snapshot: SnapshotRow,
    requests: Iterable[RequestTable | Segment],
    price: Price,
    *,
    round_number: int,
    plan_number: int,
    max_tokens: int | None = None,
    cache: CacheChoice | None = None,
    first_number: int | None = None,
    rounds_before: int = 0,
) -> list[NewChunk]:
    """Cut requests into the files of new chunks; nothing is registered yet.

    `max_tokens` is that of the requests, where they were rendered before the workload's was changed. With a
    `cache` that is on, the first request becomes a chunk of its own, the primer, for which the others wait.
    `first_number` is that of the first chunk, where others of the round are not registered yet; `rounds_before`
    are the rounds of a cascade's earlier levels.
    """
    first = first_number or desk.ledger.last_number(workload.name, snapshot.id, round_number) + 1
    files = _places(desk, workload, snapshot, round_number)
    limit = ChunkLimit(workload.chunk.requests, workload.chunk.bytes)
    bound = reserves_of(reserve(desk, workload))
    asked = workload.max_tokens if max_tokens is None else max_tokens

    def made(stream: Iterable[RequestTable | Segment], first: int, waits_for: str | None = None) -> list[NewChunk]:
        chunks = cut_chunks(stream, limit, reserve_units=bound, place=files, first_number=first)
        new = (_new(desk, chunk, round_number, plan_number, workload.model, asked, waits_for) for chunk in chunks)
        made, requests = [], 0
        for chunk in new:
            made.append(replace(chunk, rounds_before=rounds_before))
            requests += chunk.requests
            told("cutting", requests, unit="requests")
        return made

    if cache is None or cache.mark is None:
        return made(requests, first)
    mark = cache.mark
    marked = (table.mapped(mark) for table in in_tables(requests) if len(table))
    begin = next(marked, None)
    if begin is None:
        return []
    primer = made([begin.slice(0, 1)], first)
    return primer + made(chain([begin.slice(1)], marked), first + 1, primer[0].key)


def _places(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, round_number: int
) -> Callable[[int], tuple[Path, Path]]:
    def place(number: int) -> tuple[Path, Path]:
        key = chunk_key(round_number, number)
        folder = [desk.home.requests(workload.name, snapshot.id, f"{key}.{kind}") for kind in ("jsonl", "parquet")]
        return folder[0], folder[1]

    return place


def chunk_key(round_number: int, number: int) -> str:
    return f"r{round_number}-{number:04d}"


def _new(
    desk: Desk, chunk: Chunk, round_number: int, plan_number: int, model: str, max_tokens: int, waits_for: str | None
) -> NewChunk:
    return NewChunk(
        key=chunk_key(round_number, chunk.number),
        round=round_number,
        number=chunk.number,
        plan_number=plan_number,
        model=model,
        max_tokens=max_tokens,
        requests=chunk.requests,
        size_bytes=chunk.size_bytes,
        reserve_units=chunk.reserve_units,
        first_row=chunk.first_row,
        last_row=chunk.last_row,
        params_path=desk.home.relative(chunk.params_path),
        params_sha256=chunk.params_sha256,
        index_path=desk.home.relative(chunk.index_path),
        index_sha256=chunk.index_sha256,
        waits_for=waits_for,
    )
