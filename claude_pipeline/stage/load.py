"""A partition's records, read from its dataset: all of them, or with `dataset.watermark` those that no snapshot of
an earlier partition holds.

The file of a snapshot may hold what differs from an earlier full one. That one is found by the ledger alone, and is what the
ledger says: else equal records could make another file, and would count as others.

A snapshot can be the base of later ones only while its records are surely asked: once it is planned, in full and not
as a pilot, and unless a person canceled it; and so the snapshot it rests on, and so on. Where that fails the next
one in time is taken, and what lies between is read again, of which `reuse` answers what was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from claude_pipeline.dataset import Base, Full, Mark, Records, SnapshotFile, lies_ahead, take_snapshot
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged
from claude_pipeline.home import sha256_of
from claude_pipeline.ledger import SnapshotRow, Watermark
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.known import planned_about
from claude_pipeline.workload import Workload

__all__ = ["Loaded", "chain_before", "load"]


@dataclass(frozen=True)
class Loaded:
    """The file that was written, and what the ledger keeps of it: to tell later records from these, and the full snapshot that
    the file rests on (None: it has all records)."""

    taken: SnapshotFile
    watermark: Watermark | None = None
    full: SnapshotRow | None = None


def load(desk: Desk, workload: Workload, partition: str, path: Path) -> Loaded:
    """Write the records of a partition to `path`. Nothing is registered.

    Raises:
        DatasetInvalid: the dataset cannot be read as declared, or its watermark lies in the future.
        LedgerDamaged: the partition's last snapshot rests on one whose file is not what was written.
    """
    column = workload.dataset.watermark
    last = next(reversed(desk.ledger.snapshots(workload.name, partition=partition)), None)
    chain = chain_before(desk.ledger.snapshots(workload.name), partition, column) if column is not None else []
    base = _base_of(desk, chain)
    full = _full_before(desk, workload, last) if base is None else None
    file = Full(desk.path(full.path), _rests(last)) if full is not None else None
    taken = take_snapshot(workload, path, scratch=desk.home.scratch(), base=base, full=file)
    full = full if taken.own is not None else None
    if full is not None and last is not None and _are_same(path, desk.path(full.path), desk.path(last.path)):
        taken = replace(taken, digest=last.digest)  # those again, whoever wrote their file
    if column is None or taken.mark is None:
        return Loaded(taken, full=full)
    if lies_ahead(taken.mark, desk.clock()):
        path.unlink(missing_ok=True)
        raise DatasetInvalid(
            f"watermark: the highest {column} lies in the future (or is infinite), and records that come with the true time "
            "would pass for old ones; correct it, or leave such records out in sql:",
            place=workload.place,
        )
    mark = Watermark(column, taken.mark.kind, taken.mark.text, chain[0].id if chain else None)
    return Loaded(taken, mark, full)


def _full_before(desk: Desk, workload: Workload, last: SnapshotRow | None) -> SnapshotRow | None:
    """The full snapshot that a new one may rest on: that which the partition's `last` one is, or rests on; where the partition
    has none, the newest planned one of the workload is, or rests on. None where its file is not what was written.

    A route's conditions are asked of one file, and a watermark's snapshots hold what is new: they are full, unless the
    partition's last one, whose records these may be, was written before there was a route or a watermark. Raises as `load`.
    """
    if not _rests(last) and (workload.route is not None or workload.dataset.watermark is not None):
        return None
    snapshots = desk.ledger.snapshots(workload.name)
    before = last or next((s for s in reversed(snapshots) if s.plan_path is not None), None)
    if before is None:
        return None
    full = next(s for s in snapshots if s.id == (before.full_snapshot or before.id))
    if _is_what_was_written(desk, full, before):
        return full
    if _rests(last):
        raise LedgerDamaged(
            f"{full.path} is not what was written (or gone), and snapshot {workload.name}/{before.id} rests on it, so that "
            "nobody can tell whether its records have changed; restore it from a backup"
        )
    return None


def _rests(snapshot: SnapshotRow | None) -> bool:
    return snapshot is not None and snapshot.full_snapshot is not None


def _is_what_was_written(desk: Desk, full: SnapshotRow, before: SnapshotRow) -> bool:
    """Whether the file of a full snapshot is. A plan of it, or a whole file that rests on it, tells its footer, so that it need
    not be hashed."""
    path, other = desk.path(full.path), desk.path(before.path)
    if planned_about(desk, full) is not None:
        return True
    with suppress(OSError, LedgerDamaged):
        if before.id != full.id and sha256_of(other) == before.digest:
            Records(other).close()
            return True
    return _rests(before) and path.exists() and sha256_of(path) == full.digest


def _are_same(path: Path, full: Path, last: Path) -> bool:
    """Whether the records just written are those of another snapshot's file."""
    try:
        with Records(path, full=full) as new, Records(last) as before:
            return new.is_same(before)
    except LedgerDamaged:  # it is lost
        return False


def chain_before(snapshots: Sequence[SnapshotRow], partition: str, column: str) -> list[SnapshotRow]:
    """The newest snapshot of an earlier partition that can be a base, then the one it rests on, and so on."""
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    earlier = [s for s in snapshots if s.partition < partition and s.watermark_column == column]
    for snapshot in sorted(earlier, key=lambda s: (s.partition, s.number), reverse=True):
        chain = [snapshot]
        while (base := chain[-1].watermark_base) is not None and base in by_id:
            chain.append(by_id[base])
        if chain[-1].watermark_base is None and all(map(_is_asked, chain)):
            return chain
    return []


def _is_asked(snapshot: SnapshotRow) -> bool:
    return snapshot.planned_at is not None and snapshot.pilot is None and snapshot.canceled_at is None


def _base_of(desk: Desk, chain: Sequence[SnapshotRow]) -> Base | None:
    if not chain:
        return None
    newest = chain[0]
    assert newest.watermark_type is not None
    assert newest.watermark_value is not None
    tied = []
    for snapshot in chain:  # a base's mark is never higher than that of what rests on it
        if snapshot.watermark_value != newest.watermark_value:
            break
        if snapshot.records:
            tied.append(desk.path(snapshot.path))
    mark = Mark.parse(newest.watermark_type, newest.watermark_value)
    return Base(newest.id, mark, desk.path(newest.path), tied)
