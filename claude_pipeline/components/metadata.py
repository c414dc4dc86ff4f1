"""What people see beside a materialization: counts, money, batch ids, a preview. Never prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from claude_pipeline.ledger import ChunkRow, Collected
from claude_pipeline.plan import Plan, markdown, numbers
from claude_pipeline.result import output_fields
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import Merged
from claude_pipeline.stage.prepare import Prepared
from claude_pipeline.workload import Workload

UNITS_PER_USD = 10_000_000_000
PREVIEW_ROWS = 8
PREVIEW_CHARACTERS = 120

Metadata = Mapping[str, Any]


def usd(units: int | None) -> float:
    return (units or 0) / UNITS_PER_USD


def of_prepared(prepared: Prepared, workload: Workload) -> Metadata:
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
        "lane": f"{workload.lane}: this version has the batch lane" if workload.lane == "auto" else workload.lane,
    }


def of_plan(plan: Plan) -> Metadata:
    """What the requests that wait would cost, and how long they would take: a table, and numbers that plot."""
    return {"plan": dg.MetadataValue.md(markdown(plan)), "advice": plan.recommendation, **numbers(plan)} | (
        {"warnings": dg.MetadataValue.md("\n\n".join(plan.warnings))} if plan.warnings else {}
    )


def of_sent(chunk: ChunkRow, batch_id: str) -> Metadata:
    return {
        "batch_id": batch_id,
        "requests": chunk.requests,
        "size_bytes": chunk.size_bytes,
        "reserve_usd": usd(chunk.reserve_units),
        "round": chunk.round,
    }


def of_collected(chunk: ChunkRow, collected: Collected) -> Metadata:
    return {
        "dagster/partition_row_count": chunk.requests,
        "batch_id": chunk.batch_id or "",
        "succeeded": collected.succeeded,
        "errored": collected.errored,
        "canceled": collected.canceled,
        "expired": collected.expired,
        "to_ask_again": collected.retryable,
        "outside_output_schema": collected.invalid,
        "success_rate": collected.succeeded / chunk.requests,
        "input_tokens": collected.input_tokens,
        "output_tokens": collected.output_tokens,
        "cost_usd": usd(collected.cost_units),
    }


def of_merged(desk: Desk, workload: Workload, merged: Merged) -> Metadata:
    return {
        "dagster/partition_row_count": merged.records,
        "snapshot": merged.snapshot.id,
        "records": merged.records,
        "succeeded": merged.succeeded,
        "dead_letters": merged.dead,
        "rejected": merged.rejected,
        "preview": preview(desk, workload, merged),
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
    records = [dg.TableRecord({name: short(row.get(name)) for name in shown}) for row in rows[:PREVIEW_ROWS]]
    schema = dg.TableSchema([dg.TableColumn(name) for name in shown])
    return dg.MetadataValue.table(records, schema)


def short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= PREVIEW_CHARACTERS else f"{text[: PREVIEW_CHARACTERS - 1]}…"


def counted(reasons: Mapping[str, int]) -> str:
    """`overloaded_error 12, invalid_request_error 3`, or `none`."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def total(collected: Sequence[tuple[ChunkRow, Collected]]) -> Metadata:
    return {"chunks": len(collected), "cost_usd": usd(sum(c.cost_units for _, c in collected))}
