"""What people see beside a materialization: counts, money, batch ids, a preview. Never prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from claude_pipeline.catalog import Lane
from claude_pipeline.components import column
from claude_pipeline.components.drawing import pictures
from claude_pipeline.components.key import key, partition_path, runs_path
from claude_pipeline.ledger import ChunkRow, ChunkState, Collected, SnapshotRow
from claude_pipeline.markdown import plain
from claude_pipeline.plan import Plan, markdown, numbers
from claude_pipeline.report import Summary
from claude_pipeline.result import output_fields
from claude_pipeline.stage.chunk_rows import Grid, dearest_of, rows_of
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import Merged
from claude_pipeline.stage.prepare import Prepared
from claude_pipeline.workload import Workload

UNITS_PER_USD = 10_000_000_000
PREVIEW_ROWS = 8
FAILED_ROWS = 50
LINKS_MAX = 50
NO_BREAK = "\N{NON-BREAKING HYPHEN}"
PREVIEW_CHARACTERS = 120

Metadata = Mapping[str, Any]


def usd(units: int | None) -> float:
    return (units or 0) / UNITS_PER_USD


def of_prepared(desk: Desk, prepared: Prepared, workload: Workload) -> Metadata:
    snapshot = prepared.snapshot
    return {
        "dagster/partition_row_count": snapshot.records,
        "snapshot": snapshot.id,
        "records": snapshot.records,
        "requests": snapshot.asked or 0,
        "new_requests": prepared.new_requests,
        "chunks": len(prepared.chunks),
        "new_chunks": prepared.new_chunks,
        "reused": snapshot.reused or 0,
        "duplicates": snapshot.duplicates or 0,
        "awaited": snapshot.awaited or 0,
        "rejected": snapshot.rejected or 0,
        "size_bytes": sum(chunk.size_bytes for chunk in prepared.chunks),
        "reserve_usd": usd(sum(chunk.reserve_units for chunk in prepared.chunks)),
        "model": ", ".join(workload.models),
        **({"cache": prepared.cache} if prepared.cache else {}),
        "lane": workload.lane,
        **column.of_requests(desk, snapshot),
    }


def of_plan(plan: Plan) -> Metadata:
    """What the requests that wait would cost, and how long they would take: a table, and numbers that plot."""
    return {"plan": dg.MetadataValue.md(markdown(plan)), "advice": plan.recommendation, **numbers(plan)} | (
        {"warnings": dg.MetadataValue.md("\n\n".join(map(plain, plan.warnings)))} if plan.warnings else {}
    )


def of_sent(workload: Workload, chunk: ChunkRow, batch_id: str) -> Metadata:
    return {
        "batch_id": batch_id,
        "snapshot": chunk.snapshot,
        "chunk": chunk.key,
        "results": link(key(workload, "results"), chunk.partition_key),
        "runs": runs_of(batch_id),
        "model": chunk.model,
        "requests": chunk.requests,
        "size_bytes": chunk.size_bytes,
        "reserve_usd": usd(chunk.reserve_units),
        "round": chunk.round,
    }


def of_refused(chunk: ChunkRow, why: str) -> Metadata:
    return {
        "error": why,
        "snapshot": chunk.snapshot,
        "chunk": chunk.key,
        "model": chunk.model,
        "requests": chunk.requests,
    }


def of_asked(workload: Workload, chunk: ChunkRow, collected: Collected) -> Metadata:
    """Of a chunk that was asked in real time, where others have a batch."""
    return {
        "lane": "realtime",
        "snapshot": chunk.snapshot,
        "chunk": chunk.key,
        "results": link(key(workload, "results"), chunk.partition_key),
        "model": chunk.model,
        "requests": chunk.requests,
        "perhaps_paid_twice": collected.lost,
        "round": chunk.round,
    }


def of_collected(desk: Desk, workload: Workload, chunk: ChunkRow, collected: Collected, *, newest: bool) -> Metadata:
    """Of a chunk: its figures, and the records without a good answer. What is about its snapshot as a whole stands
    beside the newest chunk of a run, which is the one that the asset's page shows."""
    lane: Lane = "batch" if chunk.lane == "batch" and chunk.batch_id else "realtime"
    found: dict[str, Any] = {}
    rows = rows_of(desk, workload, chunk, failed=FAILED_ROWS, others=PREVIEW_ROWS)
    if rows is not None:
        found |= {"failures_by_reason": table(rows.reasons), "failed_records": table(rows.failed)}
    found |= {
        "snapshot": chunk.snapshot,
        "chunk": chunk.key,
        "requests": chunk.requests,
        "model": chunk.model,
        "lane": lane,
    }
    if lane == "batch":
        found |= {"batch_id": chunk.batch_id or "", "batch": link(key(workload, "batches"), chunk.partition_key)}
        found["runs"] = runs_of(chunk.batch_id or "")
    found |= {
        "succeeded": collected.succeeded,
        "errored": collected.errored,
        "canceled": collected.canceled,
        "expired": collected.expired,
        "to_ask_again": collected.retryable,
        "outside_output_schema": collected.invalid,
        **({"perhaps_paid_twice": collected.lost} if lane == "realtime" else {}),
        **_rates(desk, chunk, collected, lane),
    }
    if rows is not None:
        found |= {"dearest_records": table(rows.dearest), "preview": table(rows.answers)}
    snapshot = desk.ledger.snapshot(workload.name, chunk.snapshot) if newest else None
    if snapshot is not None:
        found = {**failures(desk, workload, snapshot.id), **found, **column.of_results(desk, workload, snapshot)}
    return found


def _rates(desk: Desk, chunk: ChunkRow, collected: Collected, lane: Lane) -> dict[str, float]:
    """What plots, under the names that the summary uses as well."""
    read = sum(spend.cache_read_tokens for spend in collected.spend)
    found = {
        "input_tokens": collected.input_tokens,
        "output_tokens": collected.output_tokens,
        "cost_usd": usd(collected.cost_units),
        "success_rate": collected.succeeded / chunk.requests,
        "cache_hit_rate": read / collected.input_tokens if collected.input_tokens else 0.0,
    }
    hours = _hours(desk, chunk, collected, lane)
    if hours is None:
        return found
    minutes = max(hours * 60, 1 / 60)
    return found | {
        "turnaround_hours": hours,
        "requests_per_min": collected.succeeded / minutes,
        "input_tokens_per_min": collected.input_tokens / minutes,
        "output_tokens_per_min": collected.output_tokens / minutes,
    }


def _hours(desk: Desk, chunk: ChunkRow, collected: Collected, lane: Lane) -> float | None:
    """From a batch's creation to its end; in real time the minutes in which answers came."""
    if lane == "batch":
        batch = desk.ledger.batch(chunk.batch_id or "")
        if batch is None or batch.ended_at is None:
            return None
        return (batch.ended_at - batch.created_at) / timedelta(hours=1)
    minutes = [spend.billed_at for spend in collected.spend]
    return (max(minutes) - min(minutes) + timedelta(minutes=1)) / timedelta(hours=1) if minutes else None


def failures(desk: Desk, workload: Workload, snapshot: str) -> Metadata:
    """The way to what failed of a snapshot: to the worst chunk, and a table of all, each with a link to its records."""
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot)
    failed = [(chunk, _bad(chunk)) for chunk in chunks if _bad(chunk)]
    if not failed:
        return {"most_failures": "none so far"}
    failed.sort(key=lambda pair: -pair[1])
    worst, bad = next((pair for pair in failed if pair[0].collected_at is not None), failed[0])
    lines = ["| chunk | not answered | outside schema | of | runs | |", "|---|---:|---:|---:|---|---|"]
    for chunk, count in failed[:LINKS_MAX]:
        # Not the batch's id: it cannot be broken, and would push the page's whole table out of sight.
        runs = f"[of its batch]({runs_path(chunk.batch_id)})" if chunk.batch_id else ""
        said = plain(short(f"{chunk.error_type or chunk.state.value}: {chunk.error}")) if chunk.error else ""
        lines.append(
            f"| [{chunk.key.replace('-', NO_BREAK)}]({_records_path(workload, chunk)}) | {count - (chunk.invalid or 0):,} | {chunk.invalid or 0:,} "
            f"| {chunk.requests:,} | {runs} | {said} |"
        )
    more = [f"\n{len(failed) - LINKS_MAX:,} more"] if len(failed) > LINKS_MAX else []
    return {
        # Dagster shows what is short as it is, and what is long after a click.
        "most_failures": dg.MetadataValue.md(
            f"[{bad:,} of {worst.requests:,} in {worst.key}]({_records_path(workload, worst)})"
        ),
        "chunks_with_failures": dg.MetadataValue.md("\n".join([*lines, *more])),
    }


def _records_path(workload: Workload, chunk: ChunkRow) -> str:
    """Where a chunk's records without a good answer are listed; one that was refused as a whole is red on `batches`."""
    return partition_path(key(workload, "batches" if chunk.collected_at is None else "results"), chunk.partition_key)


def _bad(chunk: ChunkRow) -> int:
    """Requests without a good answer."""
    if chunk.state is ChunkState.FAILED:
        return chunk.requests
    return sum(n or 0 for n in (chunk.errored, chunk.canceled, chunk.expired, chunk.invalid))


def link(asset: dg.AssetKey, partition: str) -> dg.MetadataValue:
    """To a partition of another asset, short enough to be read."""
    return dg.MetadataValue.md(f"[{asset.path[-1]} of {partition}]({partition_path(asset, partition)})")


def runs_of(batch_id: str) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"[runs that sent or collected it]({runs_path(batch_id)})")


def table(grid: Grid) -> dg.MetadataValue:
    """As Dagster shows tables: short cells."""
    records = [dg.TableRecord({n: _cell(v) for n, v in zip(grid.columns, row, strict=True)}) for row in grid.rows]
    columns = [dg.TableColumn(n, _type_of([row[i] for row in grid.rows])) for i, n in enumerate(grid.columns)]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _cell(value: object) -> Any:
    return value if isinstance(value, bool | int | float) else short(value)


def _type_of(values: Sequence[object]) -> str:
    kinds = {type(value) for value in values if value is not None}
    return {frozenset({int}): "int", frozenset({float}): "float", frozenset({bool}): "bool"}.get(
        frozenset(kinds), "string"
    )


def of_merged(desk: Desk, workload: Workload, merged: Merged) -> Metadata:
    return {
        "dagster/partition_row_count": merged.records,
        "snapshot": merged.snapshot.id,
        "records": merged.records,
        "succeeded": merged.succeeded,
        "dead_letters": merged.dead,
        "rejected": merged.rejected,
        "success_rate": merged.succeeded / merged.records if merged.records else 1.0,
        **failures(desk, workload, merged.snapshot.id),
        "preview": preview(desk, workload, merged),
        **column.of_merged(desk, workload, merged.snapshot),
    }


def preview(desk: Desk, workload: Workload, merged: Merged) -> dg.MetadataValue:
    """The first answers of a snapshot, shortened."""
    shown = ["record_id", "outcome", *([f.name for f in output_fields(workload)] or ["answer"]), "model"]
    parts = [p for p in desk.ledger.merged_parts(workload.name) if p.snapshot == merged.snapshot.id]
    rows: list[dict[str, Any]] = []
    for part in parts:
        with pq.ParquetFile(desk.path(part.path)) as file:
            batch = next(file.iter_batches(PREVIEW_ROWS, columns=shown), None)
            rows += batch.to_pylist() if batch is not None else []
        if len(rows) >= PREVIEW_ROWS:
            break
    return table(Grid(tuple(shown), tuple(tuple(row.get(name) for name in shown) for row in rows[:PREVIEW_ROWS])))


def of_summary(desk: Desk, workload: Workload, snapshot: SnapshotRow, summary: Summary) -> Metadata:
    """Numbers that plot, pictures, and the way to what failed."""
    found: dict[str, Any] = {"snapshot": snapshot.id, **summary.numbers()}
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    batches = desk.ledger.batches(ids=[chunk.batch_id for chunk in chunks if chunk.batch_id])
    hours = [(b.ended_at - b.created_at) / timedelta(hours=1) for b in batches if b.ended_at]
    if hours:
        found |= {"turnaround_hours": median(hours), "turnaround_hours_max": max(hours)}
    return {
        "pictures": pictures(desk, workload, snapshot),
        **failures(desk, workload, snapshot.id),
        "summary": dg.MetadataValue.md(summary.markdown()),
        "dearest_records": table(_dearest(desk, workload, snapshot)),
        "cache_hit_rate": 0.0,
        **found,
    }


def _dearest(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> Grid:
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    return dearest_of(desk, workload, snapshot.id, {c.id: c.key for c in chunks}, limit=PREVIEW_ROWS)


def short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= PREVIEW_CHARACTERS else f"{text[: PREVIEW_CHARACTERS - 1]}…"


def counted(reasons: Mapping[str, int]) -> str:
    """`overloaded_error 12, invalid_request_error 3`, or `none`."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def total(collected: Sequence[tuple[ChunkRow, Collected]]) -> Metadata:
    return {"chunks": len(collected), "cost_usd": usd(sum(c.cost_units for _, c in collected))}
