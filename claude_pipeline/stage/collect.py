"""Ended batches -> result rows and merged rows on disk, chunk by chunk."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.catalog import Usage
from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiRefused, ApiUnclear, CatalogMissing, LedgerDamaged
from claude_pipeline.home import sha256_of, written
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.lane.cancel import cancel_live
from claude_pipeline.lane.poll import Look, poll
from claude_pipeline.ledger import BatchId, BatchRow, ChunkRow, ChunkState, Collected, Part, SnapshotRow, Spend
from claude_pipeline.result import BatchFacts, OutputReader, Parsed, output_fields, parse_results, write_answered
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import cascade_of, moves_on
from claude_pipeline.stage.reserve import kept_units
from claude_pipeline.workload import Workload

BILLED = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")


@dataclass
class Collection:
    """What one collection did."""

    done: list[tuple[ChunkRow, Collected]] = field(default_factory=list)
    unclear: list[tuple[ChunkRow, str]] = field(default_factory=list)  # to be tried again
    gone: list[tuple[ChunkRow, str]] = field(default_factory=list)  # their results can never be had

    @property
    def stop(self) -> str | None:
        """What the API said of the account in result lines; the ledger holds the stop by then."""
        return next((collected.stop for _, collected in self.done if collected.stop), None)


def look(desk: Desk) -> Look:
    """Ask the API once about everything in flight, and to cancel what a person canceled. Raises as `lane.poll.poll`."""
    found = poll(desk.ledger, desk.client, clock=desk.clock)
    cancel_live(desk.ledger, desk.client, clock=desk.clock)
    return found


def collect(desk: Desk, workload: Workload, keys: Container[str] | None = None) -> Collection:
    """Collect every ended batch of a workload, or those of the chunks `keys`. Safe to repeat.

    One process collects a workload at a time; a second one finds what is left.
    """
    found = Collection()
    with desk.ledger.lock(f"collect-{workload.name}", wait=True):
        for chunk in desk.ledger.chunks(workload.name, states=[ChunkState.ENDED]):
            if keys is not None and chunk.partition_key not in keys:
                continue
            try:
                found.done.append((chunk, collect_chunk(desk, workload, chunk)))
            except ApiUnclear as unclear:
                found.unclear.append((chunk, str(unclear)))
            except ApiRefused as refused:
                _without_results(desk, chunk, refused, found)
    return found


def _without_results(desk: Desk, chunk: ChunkRow, refused: ApiRefused, found: Collection) -> None:
    """The API has no results (any more): archived ones never come back; deleted ones a person decides on."""
    assert chunk.batch_id is not None
    batch = desk.ledger.batch(chunk.batch_id)
    if batch is None or batch.archived_at is None:
        batch = _seen_now(desk, chunk.batch_id)  # it may have been archived since its end was seen
    if batch is None or batch.archived_at is None:
        way_out = f"if it was deleted: `claude-pipeline reconcile --gone {chunk.batch_id}`"
        found.unclear.append((chunk, f"{refused}; {way_out}"))
        return
    reason = f"the results of {chunk.batch_id} were archived at the API ({batch.archived_at:%Y-%m-%d}) before they were"
    reason += " collected; what it answered was paid"
    desk.ledger.batch_gone(chunk, reason, at=desk.clock())
    found.gone.append((chunk, reason))


def _seen_now(desk: Desk, batch_id: BatchId) -> BatchRow | None:
    try:
        desk.ledger.batch_seen(desk.client.retrieve(batch_id), at=desk.clock())
    except (ApiUnclear, ApiRefused):
        return None
    return desk.ledger.batch(batch_id)


def collect_chunk(desk: Desk, workload: Workload, chunk: ChunkRow) -> Collected:
    """Download, parse, join, write, then one transaction moves the chunk to `done`.

    Raises:
        ApiUnclear, ApiRefused: no results now; the chunk stays as it is.
        LedgerDamaged: the chunk's index is not what was written.
    """
    assert chunk.batch_id is not None
    batch = desk.ledger.batch(chunk.batch_id)
    assert batch is not None
    index = _index(desk, chunk)
    raw = desk.home.download(chunk.workload, chunk.snapshot, f"{chunk.key}.jsonl")
    with written(raw) as temporary:
        desk.client.download(chunk.batch_id, temporary)
        crash_point("collect.after_download")
        parsed = _parse(desk, workload, chunk, batch, temporary, index)
    snapshot = desk.ledger.snapshot(chunk.workload, chunk.snapshot)
    assert snapshot is not None
    attempts_path, answered_path = _write(desk, workload, snapshot, chunk, parsed)
    _compress(raw)
    collected = Collected(
        succeeded=parsed.outcomes["succeeded"],
        errored=parsed.outcomes["errored"],
        canceled=parsed.outcomes["canceled"],
        expired=parsed.outcomes["expired"],
        retryable=parsed.retryable,
        invalid=parsed.invalid,
        spend=_spend(parsed.table, batch),
        stopped=len(parsed.stops),
        stop=parsed.stops[0] if parsed.stops else None,
        kept_units=kept_units(index, parsed.table, chunk),
        moves_on=moves_on(desk, snapshot, chunk, attempts_path),
    )
    parts = [_part(desk, chunk, "attempts", attempts_path, chunk.requests)]
    if answered_path is not None:
        parts.append(_part(desk, chunk, "answered", answered_path, collected.succeeded))
    crash_point("collect.before_record")
    desk.ledger.chunk_collected(chunk, collected, parts, at=desk.clock())
    crash_point("collect.after_record")
    return collected


def _index(desk: Desk, chunk: ChunkRow) -> pa.Table:
    path = desk.path(chunk.index_path)
    if not path.exists() or sha256_of(path) != chunk.index_sha256:
        raise LedgerDamaged(f"{chunk.index_path} is not what was cut (sha256 differs); restore it from a backup")
    return pq.read_table(path).combine_chunks()


def _parse(desk: Desk, workload: Workload, chunk: ChunkRow, batch: BatchRow, download: Path, index: pa.Table) -> Parsed:
    import orjson

    facts = BatchFacts(
        snapshot=chunk.snapshot,
        chunk=chunk.key,
        attempt=chunk.round,
        tag=batch.tag or "",
        batch_id=batch.id,
        model=chunk.model,
        max_tokens=chunk.max_tokens,
        answered_at=batch.ended_at,
        counts=orjson.loads(batch.counts or "{}"),
    )
    reader = OutputReader(workload.output, output_fields(workload))
    pricing = Pricing(desk, chunk.model, batch)
    return parse_results(download, index, facts, reader, cost_units=pricing.cost_units, verdict_of=_verdict)


def _verdict(error_type: str, message: str) -> str:
    return verdict_of(error_type, message).value


class Pricing:
    """Costs of one batch's answers: by the answer's model, at the moment the batch was created."""

    def __init__(self, desk: Desk, model: str, batch: BatchRow) -> None:
        self._desk, self._asked, self._at = desk, model, batch.created_at
        self._rates: dict[tuple[str, str | None], Any] = {}

    def cost_units(self, model: str, usage: Mapping[str, Any]) -> int | None:
        """Cost in 1e-10 USD; None where the API reported no usage: unknown is not free."""
        fresh, out = usage.get("input_tokens"), usage.get("output_tokens")
        if not isinstance(fresh, int) or not isinstance(out, int):
            return None
        geo = usage.get("inference_geo")
        rates = self._rates.get((model, geo)) or self._find(model, geo)
        writes = usage.get("cache_creation_input_tokens") or 0
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
        reads = usage.get("cache_read_input_tokens") or 0
        return int(rates.cost_units(Usage(fresh, out, writes - hour, hour, reads)))

    def _find(self, model: str, geo: str | None) -> Any:
        """The answer's model; where the catalogue does not know it, the one that was asked."""
        for name in (model, self._asked):
            try:
                price = self._desk.catalog.price(self._desk.catalog.model(name).id, self._at)
            except CatalogMissing:
                continue
            rates = self._rates[model, geo] = price.rates(lane="batch", geo=geo)
            return rates
        raise CatalogMissing(f"no price for {model}; add it to the file that CLAUDE_PIPELINE_CATALOG names")


def _write(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, chunk: ChunkRow, parsed: Parsed
) -> tuple[Path, Path | None]:
    """The attempts, and the merged rows of those that succeeded; under a cascade the merge decides which those are."""
    attempts = desk.home.results(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    with written(attempts) as temporary:
        pq.write_table(parsed.table, temporary, compression="zstd", write_page_checksum=True)
    cascade = None if snapshot.plan_path is None else cascade_of(desk.path(snapshot.plan_path))
    if not parsed.outcomes["succeeded"] or cascade is not None:
        return attempts, None
    answered = desk.home.merged(chunk.workload, chunk.snapshot, f"{chunk.key}.parquet")
    with written(answered) as temporary:
        write_answered(parsed.table, desk.path(snapshot.path), snapshot.id, output_fields(workload), temporary)
    return attempts, answered


def _compress(raw: Path) -> None:
    """Keep the raw lines, small: parsing can be done again for nothing."""
    packed = raw.with_suffix(".jsonl.gz")
    with (
        written(packed) as temporary,
        raw.open("rb") as source,
        gzip.open(temporary, "wb", compresslevel=1) as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    raw.unlink()


def _spend(table: pa.Table, batch: BatchRow) -> tuple[Spend, ...]:
    """What was billed, by model: succeeded requests only."""
    import pyarrow.compute as pc

    billed = table.filter(pc.equal(table.column("outcome"), "succeeded"))
    if billed.num_rows == 0:
        return ()
    sums = [(name, "sum") for name in (*BILLED, "cost_usd")]
    grouped = billed.group_by("model").aggregate([*sums, ("row", "count")]).to_pylist()
    return tuple(
        Spend(
            model=row["model"],
            lane="batch",
            billed_at=batch.created_at,
            requests=row["row_count"],
            cost_units=round((row["cost_usd_sum"] or 0.0) * 10_000_000_000),
            **{name: int(row[f"{name}_sum"] or 0) for name in BILLED},
        )
        for row in grouped
    )


def _part(desk: Desk, chunk: ChunkRow, kind: str, path: Path, rows: int) -> Part:
    return Part(
        path=desk.home.relative(path),
        kind=kind,
        workload=chunk.workload,
        snapshot=chunk.snapshot,
        plan_number=chunk.plan_number,
        chunk_id=chunk.id,
        rows=rows,
        sha256=sha256_of(path),
    )
