"""Dataset -> snapshot -> plan -> chunks: everything before the first request is sent.

A pass over the snapshot renders each record and writes its fingerprint into the plan; DuckDB then says which rows ask
something that is neither answered nor on its way; just those are cut into chunks, rendered once more where they were
not kept (`stage.spool`). Memory holds a batch of records and never the dataset.
Materializing again with nothing new registers nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from claude_pipeline.cache import choose as choose_cache
from claude_pipeline.chunk import ChunkLimit
from claude_pipeline.crash import crash_point
from claude_pipeline.dataset import Origin, columns_of
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.home import make_folder, sha256_of, written
from claude_pipeline.ledger import ChunkRow, ChunkState, SnapshotRow
from claude_pipeline.result import Measure, check_names
from claude_pipeline.stage.check import check_conditions, check_model
from claude_pipeline.stage.decide import Decision, decide
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.fit import fit_of
from claude_pipeline.stage.known import known_of
from claude_pipeline.stage.load import load
from claude_pipeline.stage.mix import cut_each, maker_of
from claude_pipeline.stage.pilot import check_pilot, keep_sample
from claude_pipeline.stage.plan_file import about_of, refuse_too_many, write_plan
from claude_pipeline.stage.spool import Spool
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class Prepared:
    """A snapshot with its current plan."""

    snapshot: SnapshotRow
    chunks: list[ChunkRow]  # all of the snapshot
    new_chunks: int  # registered by this call
    new_requests: int
    cache: str = ""  # whether the prompt cache is used for them, and why (not); empty where nothing was planned


@dataclass(frozen=True)
class _Plan:
    """A plan file that was just written."""

    path: Path
    number: int
    sha256: str
    rejected: int


def prepare(desk: Desk, workload: Workload, partition: str, *, pilot: int | None = None) -> Prepared:
    """Load, render, plan and cut one partition of a workload; idempotent.

    With `pilot`, only a stratified sample of so many requests is cut; a later call without it cuts the rest.

    Raises:
        WorkloadInvalid, DatasetInvalid, PromptInvalid, CatalogMissing: before anything is registered.
        UsageError: a pilot of a snapshot that is planned in full.
    """
    check_model(desk, workload)
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        desk.ledger.register_workload(workload.name, source=workload.source, cadence=workload.cadence, at=desk.clock())
        snapshot, origin = _load(desk, workload, partition)
        measure = Measure.of(workload, columns_of(desk.path(snapshot.path)))
        desk.ledger.workload_measured(workload.name, measure.to_json() if measure is not None else None)
        known = len(desk.ledger.chunks(workload.name, snapshot=snapshot.id))
        if pilot is not None:
            check_pilot(snapshot)
        cache = _plan(desk, workload, snapshot, origin, pilot)
        chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
        new = chunks[known:]
        found = desk.ledger.snapshot(workload.name, snapshot.id)
        assert found is not None
        return Prepared(found, chunks, len(new), sum(chunk.requests for chunk in new), cache)


def _load(desk: Desk, workload: Workload, partition: str) -> tuple[SnapshotRow, Origin]:
    """Take a snapshot; equal records to the partition's last one are that one. And where its rows came from now."""
    pattern = desk.home.snapshot(workload.name, "{id}")
    fresh = desk.home.snapshot(workload.name, f".{partition}.fresh")
    make_folder(fresh.parent)
    loaded = load(desk, workload, partition, fresh)
    taken = loaded.taken
    try:
        check_names(workload, [name for name in taken.columns if name != "record_id"])
        check_conditions(desk, workload, fresh)
        snapshot = desk.ledger.snapshot_loaded(
            workload.name,
            partition,
            path=desk.home.relative(pattern),
            digest=taken.digest,
            records=taken.records,
            at=desk.clock(),
            watermark=loaded.watermark,
            full_snapshot=loaded.full.id if loaded.full is not None else None,
        )
        crash_point("prepare.after_snapshot")
        path = desk.path(snapshot.path)
        if loaded.full is not None and path == desk.path(loaded.full.path):
            pass  # the full one itself: what was written rests on it
        elif not path.exists() or (snapshot.plan_number == 0 and sha256_of(path) != snapshot.digest):
            fresh.replace(path)  # what stood there is of a ledger that was put back since: nothing here rests on it
        elif sha256_of(path) != snapshot.digest:
            raise LedgerDamaged(f"{snapshot.path} is not what was loaded (sha256 differs); restore it from a backup")
    finally:
        fresh.unlink(missing_ok=True)
    return snapshot, taken.origin


def _plan(desk: Desk, workload: Workload, snapshot: SnapshotRow, origin: Origin, pilot: int | None) -> str:
    """Decide how each record is answered, and cut what must be asked; nothing when the plan is as it was.

    Returns whether the prompt cache is used, in words.
    """
    records = desk.path(snapshot.path)
    maker = maker_of(desk, workload, records)
    number = snapshot.plan_number + 1
    plan = desk.home.requests(workload.name, snapshot.id, f"plan-{number}.parquet")
    fit = fit_of(desk, workload)
    columns = maker.prompt.columns
    with _spool(desk, workload, snapshot) as spool:
        with (
            written(plan) as temporary,
            known_of(desk, workload, records, columns, about=about_of(workload), most_bytes=fit.surely_bytes) as known,
        ):
            rejected = write_plan(records, maker, temporary, workload, fit=fit, origin=origin, spool=spool, known=known)
            digest = sha256_of(temporary)
            unchanged = digest == snapshot.plan_sha256 and pilot == snapshot.pilot
            refuse_too_many(temporary, rejected, snapshot.records, workload)
        if unchanged:
            plan.unlink()
            return ""
        return _cut(desk, workload, snapshot, _Plan(plan, number, digest, rejected), spool, pilot)


def _cut(desk: Desk, workload: Workload, snapshot: SnapshotRow, plan: _Plan, spool: Spool, pilot: int | None) -> str:
    """Cut what a new plan asks, and register both. Returns as `_plan`."""
    crash_point("prepare.after_plan")
    own = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    superseded = [chunk for chunk in own if chunk.state in (ChunkState.READY, ChunkState.HELD)]
    with decide(desk, workload, snapshot.id, plan.path, plan.rejected, asked_before(own)) as decision:
        if pilot is not None:
            keep_sample(decision, plan.path, pilot)
        caches = {
            variant.model: choose_cache(
                variant, desk.catalog.model(variant.model), decision.to_ask_of.get(variant.model, 0)
            )
            for variant in workload.variants
        }
        rendered = partial(spool.requests, plan.path) if _is_rendered(workload, decision, spool) else None
        chunks = cut_each(
            desk, workload, snapshot, decision.rows, round_number=1, plan_number=plan.number, caches=caches, rendered=rendered
        )  # fmt: skip
    crash_point("prepare.after_chunks")
    desk.ledger.snapshot_planned(
        snapshot,
        plan_path=desk.home.relative(plan.path),
        plan_sha256=plan.sha256,
        counts=decision.counts,
        chunks=chunks,
        waits_on=decision.waits_on if pilot is None else (),
        pilot=pilot,
        superseded=[chunk.id for chunk in superseded],
        at=desk.clock(),
    )
    if len(caches) == 1:
        return caches[workload.models[0]].why
    return "; ".join(f"{model}: {cache.why}" for model, cache in caches.items())


def _is_rendered(workload: Workload, decision: Decision, spool: Spool) -> bool:
    """Whether the spool has all requests that are asked now. For a plan each record of a cascade is rendered for the first
    model; where that one's answer is there, and was given up, the next one is asked at once, by a request of its own."""
    asked = decision.to_ask_of
    rendered = workload.models if workload.cascade is None else workload.models[:1]
    return spool.is_whole and set(asked) <= set(rendered) and all(spool.holds(decision.rows(model)) for model in asked)


@contextmanager
def _spool(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> Iterator[Spool]:
    """A place for the params of the snapshot's requests: of all where nearly all of them will be asked."""
    is_new = workload.dataset.watermark is not None or len(desk.ledger.snapshots(workload.name)) == 1
    is_of_all = snapshot.plan_number == 0 and (is_new or not workload.reuse)
    limit = ChunkLimit(workload.chunk.requests, workload.chunk.bytes)
    with tempfile.TemporaryDirectory(dir=desk.home.scratch(), prefix="spool-") as folder:
        spool = Spool(Path(folder), limit, is_of_all=is_of_all)
        try:
            yield spool
        finally:
            spool.close()


def asked_before(chunks: Sequence[ChunkRow]) -> list[ChunkRow]:
    """Of a snapshot's chunks, those whose questions are on their way or settled, whatever a new plan says."""
    again = (ChunkState.READY, ChunkState.HELD, ChunkState.CANCELED)
    return [chunk for chunk in chunks if chunk.state not in again]


def spec_digest(workload: Workload) -> str:
    """Changes when what is asked, or how, changes; Dagster's code_version of the assets."""
    return hashlib.sha256(workload.model_dump_json().encode()).hexdigest()[:16]
