"""A plan without consequences: the dataset loaded and decided on in a scratch folder, nothing registered, nothing sent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.ledger import ChunkState, PlanCounts, SnapshotRow
from claude_pipeline.result import check_names
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.check import check_conditions
from claude_pipeline.stage.decide import decide
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.fit import fit_of
from claude_pipeline.stage.known import known_of
from claude_pipeline.stage.load import load
from claude_pipeline.stage.mix import maker_of
from claude_pipeline.stage.plan_file import about_of, refuse_too_many, write_plan
from claude_pipeline.stage.prepare import Prepared, asked_before
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class Draft:
    """What would be sent. `duck` holds the table `wanted`: row, fingerprint, size_bytes, model."""

    records: Path
    snapshot: str | None
    total: int  # records
    counts: PlanCounts
    duck: Any


@contextmanager
def drafted(desk: Desk, workload: Workload, partition: str) -> Iterator[Draft]:
    """Load and decide as `prepare` would, for as long as the `with` lasts.

    Raises:
        WorkloadInvalid, DatasetInvalid, PromptInvalid: what `prepare` would refuse.
    """
    with tempfile.TemporaryDirectory(dir=desk.home.scratch(), prefix="plan-") as folder:
        records, plan = Path(folder) / "records.parquet", Path(folder) / "plan.parquet"
        loaded = load(desk, workload, partition, records)
        taken = loaded.taken
        if loaded.full is not None:  # looked for beside the file that differs from it
            full = desk.path(loaded.full.path)
            (records.parent / full.name).symlink_to(full)
        check_names(workload, [name for name in taken.columns if name != "record_id"])
        check_conditions(desk, workload, records)
        maker, fit = maker_of(desk, workload, records), fit_of(desk, workload)
        columns, about = maker.prompt.columns, about_of(workload)
        with known_of(desk, workload, records, columns, about=about, most_bytes=fit.surely_bytes) as earlier:
            rejected = write_plan(records, maker, plan, workload, fit=fit, origin=taken.origin, known=earlier)
        refuse_too_many(plan, rejected, taken.records, workload)
        known = _same(desk, workload, partition, taken.digest)
        own = desk.ledger.chunks(workload.name, snapshot=known.id) if known is not None else []
        with decide(desk, workload, known.id if known else None, plan, rejected, asked_before(own)) as decision:
            _want(decision.duck, plan, "SELECT row, model FROM choice WHERE how = 'ask'")
            yield Draft(records, known.id if known else None, taken.records, decision.counts, decision.duck)


@contextmanager
def waiting(desk: Desk, workload: Workload, prepared: Prepared) -> Iterator[Draft]:
    """What of a prepared snapshot still waits to be sent."""
    snapshot = prepared.snapshot
    assert snapshot.plan_path is not None
    assert snapshot.asked is not None
    open_chunks = [
        chunk
        for chunk in prepared.chunks
        if chunk.state in (ChunkState.READY, ChunkState.HELD) and chunk.plan_number == snapshot.plan_number
    ]
    plan = desk.path(snapshot.plan_path)
    with leased(desk.home.scratch()) as duck:
        rows = " UNION ALL ".join(
            f"SELECT row, {literal(chunk.model)} AS model FROM read_parquet({file_literal(desk.path(chunk.index_path))})"
            for chunk in open_chunks
        )
        _want(duck, plan, rows or "SELECT 0 AS row, '' AS model WHERE false")
        counts = PlanCounts(
            snapshot.asked,
            snapshot.reused or 0,
            snapshot.duplicates or 0,
            snapshot.awaited or 0,
            snapshot.rejected or 0,
        )
        yield Draft(desk.path(snapshot.path), snapshot.id, snapshot.records, counts, duck)


def _same(desk: Desk, workload: Workload, partition: str, digest: str) -> SnapshotRow | None:
    """The partition's last snapshot, where these records are that one."""
    snapshots = desk.ledger.snapshots(workload.name, partition=partition)
    return snapshots[-1] if snapshots and snapshots[-1].digest == digest else None


def _want(duck: Any, plan: Path, rows: str) -> None:
    # A plan of an older version knows no sizes.
    size = "size_bytes" if "size_bytes" in pq.read_schema(plan).names else "0"
    duck.execute(
        f"""CREATE TEMP TABLE wanted AS
            SELECT row, p.fingerprint, {size} AS size_bytes, r.model
            FROM read_parquet({file_literal(plan)}) p JOIN ({rows}) r USING (row)"""
    )
