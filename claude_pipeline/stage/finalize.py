"""A settled snapshot -> merged: one row per record, each with its final outcome."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pyarrow.parquet as pq

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiRefused, ApiUnclear, LedgerDamaged, LedgerError
from claude_pipeline.home import sha256_of, written
from claude_pipeline.ledger import ChunkState, Part, SnapshotProgress, SnapshotRow
from claude_pipeline.ledger.halving import SPLIT
from claude_pipeline.page_cache import let_go
from claude_pipeline.result import FailedChunk, MergeInput, merged_schema, output_fields, write_rest
from claude_pipeline.stage.collect import collected_again
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.question import Cascade, cascade_of
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class Merged:
    """The final outcomes of a snapshot's records; they add up to `records`."""

    snapshot: SnapshotRow
    records: int
    succeeded: int
    dead: int
    rejected: int


def finalize(desk: Desk, workload: Workload, partition: str) -> list[Merged]:
    """Merge each snapshot of a partition that has something to merge.

    Raises:
        LedgerError: a snapshot still has answers on their way; says which.
    """
    with desk.ledger.lock(f"merge-{workload.name}", wait=True):
        left = desk.ledger.progress(workload.name, max_rounds=workload.max_rounds)
        return [merge(desk, workload, progress) for progress in left if progress.snapshot.partition == partition]


def merge(desk: Desk, workload: Workload, progress: SnapshotProgress) -> Merged:
    """Write what no chunk answered itself, check that every record is there once, and record it."""
    snapshot = progress.snapshot
    if not progress.settled or progress.waited_on:
        raise LedgerError(
            f"snapshot {workload.name}/{snapshot.id} is not ready to merge: {progress.pending} chunks on their way, "
            f"{progress.due} with requests to ask again; it merges by itself when they are in"
        )
    assert snapshot.plan_path is not None
    cascade = cascade_of(desk.path(snapshot.plan_path))
    answered = desk.ledger.parts(
        workload.name, kinds=["answered"], snapshot=snapshot.id, plan_number=snapshot.plan_number
    )
    if cascade is not None:
        answered = []  # what one level answered may be another's to say
    for part in answered:
        _make_whole(desk, workload, part)
    rest, outcomes = _rest(desk, workload, snapshot, cascade, empty=not answered)
    succeeded = sum(part.rows for part in answered) + outcomes.get("succeeded", 0)
    rejected = outcomes.get("rejected", 0)
    dead = sum(outcomes.get(outcome, 0) for outcome in ("errored", "canceled", "expired"))
    pending = outcomes.get("pending", 0)
    if pending or succeeded + dead + rejected != snapshot.records:
        raise LedgerError(
            f"snapshot {workload.name}/{snapshot.id}: {snapshot.records:,} records, but {succeeded:,} succeeded, {dead:,} "
            f"dead, {rejected:,} rejected, {pending:,} without an outcome; not merged"
        )
    crash_point("finalize.before_record")
    desk.ledger.snapshot_merged(
        snapshot,
        succeeded=succeeded,
        dead=dead,
        answered=answered,
        rest=rest,
        chunks_done=progress.chunks.get(ChunkState.DONE, 0),
        at=desk.clock(),
    )
    crash_point("finalize.after_record")
    return Merged(snapshot, snapshot.records, succeeded, dead, rejected)


def _rest(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, cascade: Cascade | None, *, empty: bool
) -> tuple[Part | None, dict[str, int]]:
    """The part of the rows that no chunk answered itself, and their outcomes.

    Where there is none it is left out, but not where it would be the only one (`empty`): the snapshot of a dataset
    without records has columns all the same.
    """
    merge_input = _merge_input(desk, workload, snapshot, cascade)
    draft = desk.home.merged(workload.name, snapshot.id, "rest.parquet")
    with written(draft) as temporary:
        outcomes = write_rest(merge_input, temporary, scratch=desk.home.scratch())
        if not outcomes and empty:
            columns = merged_schema(pq.read_schema(merge_input.snapshot), merge_input.output)
            pq.write_table(columns.empty_table(), temporary)
        elif not outcomes:
            temporary.touch()
        digest = sha256_of(temporary)
    if not outcomes and not empty:
        draft.unlink()
        return None, {}
    path = draft.with_name(f"rest-{digest[:16]}.parquet")  # content-named: an older version keeps its own
    draft.replace(path)
    rows = pq.read_metadata(path).num_rows
    part = Part(
        path=desk.home.relative(path),
        kind="rest",
        workload=workload.name,
        snapshot=snapshot.id,
        plan_number=snapshot.plan_number,
        chunk_id=None,
        rows=rows,
        sha256=digest,
    )
    return part, dict(outcomes)


def _merge_input(desk: Desk, workload: Workload, snapshot: SnapshotRow, cascade: Cascade | None) -> MergeInput:
    """What the rest is made of, and whole: what is lost of this plan's own attempts is written again."""
    assert snapshot.plan_path is not None
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    attempts = desk.ledger.parts(workload.name, kinds=["attempts"])
    own = [p for p in attempts if p.snapshot == snapshot.id and p.plan_number == snapshot.plan_number]
    for part in own:
        if not desk.path(part.path).exists():
            _make_whole(desk, workload, part)
    return MergeInput(
        snapshot_id=snapshot.id,
        snapshot=desk.path(snapshot.path),
        plan=desk.path(snapshot.plan_path),
        own_attempts=[desk.path(p.path) for p in own],
        other_attempts=[
            desk.path(p.path) for p in attempts if p not in own and (workload.reuse or p.snapshot == snapshot.id)
        ],
        failed=[
            FailedChunk(
                desk.path(chunk.index_path),
                "errored" if chunk.state is ChunkState.FAILED else "canceled",
                chunk.error_type or chunk.state.value,
                chunk.error or f"the chunk was {chunk.state.value}",
            )
            for chunk in chunks
            if chunk.state in (ChunkState.FAILED, ChunkState.CANCELED) and chunk.error_type != SPLIT
        ],
        output=output_fields(workload),
        cascade=cascade is not None,
        gives_up_when=cascade.gives_up_when if cascade is not None else None,
    )


def check_part(desk: Desk, part: Part) -> None:
    """Raises LedgerDamaged where a file is not what was written (DuckDB checks no Parquet checksums)."""
    if not _is_whole(desk, part):
        raise LedgerDamaged(
            f"{part.path} is not what was written (sha256 differs or it is gone), and neither raw lines nor the API give "
            f"its answers now; run again when the API answers, or restore it from a backup of {desk.home.root}"
        )


def _is_whole(desk: Desk, part: Part) -> bool:
    path = desk.path(part.path)
    whole = path.exists() and sha256_of(path) == part.sha256
    let_go(path)
    return whole


def _make_whole(desk: Desk, workload: Workload, part: Part) -> None:
    """Write a lost or damaged file of a batch's answers again, from its raw lines or from the API. Raises as `check_part`."""
    if _is_whole(desk, part):
        return
    chunk = desk.ledger.chunk(part.chunk_id) if part.chunk_id is not None else None
    if chunk is not None and chunk.batch_id is not None:
        with suppress(ApiUnclear, ApiRefused):
            collected_again(desk, workload, chunk)
    check_part(desk, part)
