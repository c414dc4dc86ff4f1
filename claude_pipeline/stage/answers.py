"""Result lines of a chunk -> its files of rows, and what the ledger is told of them: alike in both lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.catalog import UNITS_PER_USD, Catalog, Lane, Price, Rates
from claude_pipeline.errors import CatalogMissing, LedgerDamaged, in_short, quoted_value
from claude_pipeline.home import sha256_of, written
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.ledger import ChunkRow, Collected, Part, SnapshotRow, Spend
from claude_pipeline.parquet_file import options_for, read_parquet
from claude_pipeline.result import (
    AskedFacts,
    OutputReader,
    Parsed,
    output_fields,
    parse_results,
    write_answered,
)
from claude_pipeline.result.schema import MOMENT
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import cascade_of, moves_on
from claude_pipeline.workload import Workload

BILLED = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")


def index_of(desk: Desk, chunk: ChunkRow) -> pa.Table:
    """Who asks what in a chunk. Raises LedgerDamaged where it is not what was cut."""
    path = desk.path(chunk.index_path)
    if not path.exists() or sha256_of(path) != chunk.index_sha256:
        raise LedgerDamaged(f"{chunk.index_path} is not what was cut (sha256 differs); restore it from a backup")
    return read_parquet(path).combine_chunks()


def read_answers(
    desk: Desk, workload: Workload, raw: Iterable[bytes], index: pa.Table, facts: AskedFacts, *, as_is: bool = False
) -> Parsed:
    """One row per request of a chunk, priced and checked. `as_is` and what it raises: as `parse_results`."""
    reader = OutputReader(workload.output, output_fields(workload))
    pricing = Pricing(desk.catalog, facts.model, facts.lane)
    return parse_results(raw, index, facts, reader, rates_of=pricing.rates_of, verdict_of=_verdict, as_is=as_is)


@dataclass(frozen=True)
class Kept:
    """A chunk's answers on disk."""

    parts: Sequence[Part]
    spend: tuple[Spend, ...]
    moves_on: int

    def collected(self, parsed: Parsed, *, kept_units: int, stop: bool = False, lost: int = 0) -> Collected:
        """For the ledger. `stop`: what lines said of the account stops it."""
        return Collected(
            succeeded=parsed.outcomes["succeeded"],
            errored=parsed.outcomes["errored"],
            canceled=parsed.outcomes["canceled"],
            expired=parsed.outcomes["expired"],
            retryable=parsed.retryable,
            invalid=parsed.invalid,
            spend=self.spend,
            stopped=len(parsed.stops),
            stop=in_short(parsed.stops[0]) if parsed.stops and stop else None,
            kept_units=kept_units,
            moves_on=self.moves_on,
            lost=lost,
        )


def keep(desk: Desk, workload: Workload, chunk: ChunkRow, parsed: Parsed) -> Kept:
    """Write the rows of a chunk, and the merged rows of those that succeeded."""
    snapshot = desk.ledger.snapshot(chunk.workload, chunk.snapshot)
    assert snapshot is not None
    parts = _write(desk, workload, snapshot, chunk, parsed)
    lane: Lane = "batch" if chunk.batch_id is not None else "realtime"
    spend = _spend(parsed.table, lane, _billed_at(desk, chunk))
    return Kept(parts, spend, moves_on(desk, snapshot, chunk, desk.path(parts[0].path)))


def _billed_at(desk: Desk, chunk: ChunkRow) -> datetime | None:
    """When a batch was created; None for real time, where each answer has its own moment."""
    batch = desk.ledger.batch(chunk.batch_id) if chunk.batch_id is not None else None
    return None if batch is None else batch.created_at


def _verdict(error_type: str, message: str) -> str:
    return verdict_of(error_type, message).value


class Pricing:
    """Prices of a chunk's answers: by the answer's model, on the day that counts for its lane."""

    def __init__(self, catalog: Catalog, model: str, lane: Lane) -> None:
        self._catalog, self._asked, self._lane = catalog, model, lane
        self._rates: dict[tuple[str, str | None, date], Rates] = {}

    def rates_of(self, model: str, geo: str | None, day: date) -> Rates:
        """The answer's model; where the catalogue does not know it, the one that was asked."""
        known = self._rates.get((model, geo, day))
        if known is None:
            known = self._rates[model, geo, day] = self._find(model, day).rates(lane=self._lane, geo=geo)
        return known

    def _find(self, model: str, day: date) -> Price:
        at = datetime.combine(day, time(), UTC)
        for name in (model, self._asked):
            try:
                return self._catalog.price(self._catalog.model(name).id, at)
            except CatalogMissing:
                continue
        raise CatalogMissing(
            f"no price for {quoted_value(model)}; add it to the file that CLAUDE_PIPELINE_CATALOG names"
        )


def _write(desk: Desk, workload: Workload, snapshot: SnapshotRow, chunk: ChunkRow, parsed: Parsed) -> list[Part]:
    """The attempts, and the merged rows of those that succeeded; under a cascade the merge decides which those are."""
    attempts = desk.home.results(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    with written(attempts) as temporary:
        pq.write_table(parsed.table, temporary, **options_for(parsed.table, "zstd"))
        parts = [_part(desk, chunk, "attempts", attempts, chunk.requests, sha256=sha256_of(temporary))]
    cascade = None if snapshot.plan_path is None else cascade_of(desk.path(snapshot.plan_path))
    if not parsed.outcomes["succeeded"] or cascade is not None:
        return parts
    answered = desk.home.merged(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    with written(answered) as temporary:
        write_answered(parsed.table, desk.path(snapshot.path), snapshot.id, output_fields(workload), temporary)
        succeeded = parsed.outcomes["succeeded"]
        parts.append(_part(desk, chunk, "answered", answered, succeeded, sha256=sha256_of(temporary)))
    return parts


def _spend(table: pa.Table, lane: Lane, billed_at: datetime | None) -> tuple[Spend, ...]:
    """What was billed, by model, and in real time by minute: succeeded requests only."""
    billed = table.filter(pc.equal(table.column("outcome"), "succeeded"))
    if billed.num_rows == 0:
        return ()
    minutes = pc.floor_temporal(billed.column("answered_at"), unit="minute") if billed_at is None else None
    billed = billed.append_column("minute", minutes if minutes is not None else pa.nulls(billed.num_rows, MOMENT))
    sums = [(name, "sum") for name in (*BILLED, "cost_usd")]
    grouped = billed.group_by(["model", "minute"]).aggregate([*sums, ("row", "count")]).to_pylist()
    return tuple(
        Spend(
            model=row["model"],
            lane=lane,
            billed_at=billed_at or row["minute"],
            requests=row["row_count"],
            cost_units=round((row["cost_usd_sum"] or 0.0) * UNITS_PER_USD),
            **{name: int(row[f"{name}_sum"] or 0) for name in BILLED},
        )
        for row in grouped
    )


def _part(desk: Desk, chunk: ChunkRow, kind: str, path: Path, rows: int, *, sha256: str) -> Part:
    return Part(
        path=desk.home.relative(path),
        kind=kind,
        workload=chunk.workload,
        snapshot=chunk.snapshot,
        plan_number=chunk.plan_number,
        chunk_id=chunk.id,
        rows=rows,
        sha256=sha256,
    )
