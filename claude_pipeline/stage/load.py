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
from dataclasses import dataclass, replace
from pathlib import Path

from claude_pipeline.dataset import Base, Full, Mark, SnapshotFile, lies_ahead, take_snapshot
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged
from claude_pipeline.ledger import SnapshotRow, Watermark
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.known import planned_about
from claude_pipeline.workload import Workload

__all__ = ["Loaded", "chain_before", "load"]


@dataclass(frozen=True)
class Loaded:
    """The file that was written, and what the ledger keeps of it: to tell later records from these, and which snapshot has the
    records that the file has not (None: it has all)."""

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
    if column is None:
        return _load_all(desk, workload, partition, path)
    chain = chain_before(desk.ledger.snapshots(workload.name), partition, column)
    taken = take_snapshot(workload, path, scratch=desk.home.scratch(), base=_base_of(desk, chain))
    if taken.mark is None:
        return Loaded(taken)
    if lies_ahead(taken.mark, desk.clock()):
        path.unlink(missing_ok=True)
        raise DatasetInvalid(
            f"watermark: the highest {column} lies in the future (or is infinite), and records that come with the true time "
            "would pass for old ones; correct it, or leave such records out in sql:",
            place=workload.place,
        )
    return Loaded(taken, Watermark(column, taken.mark.kind, taken.mark.text, chain[0].id if chain else None))


def _load_all(desk: Desk, workload: Workload, partition: str, path: Path) -> Loaded:
    last = next(reversed(desk.ledger.snapshots(workload.name, partition=partition)), None)
    full = _full_before(desk, workload, last)
    if full is None:
        return Loaded(take_snapshot(workload, path, scratch=desk.home.scratch()))
    is_needed = last is not None and last.full_snapshot == full.id
    file = Full(desk.path(full.path), is_needed)
    taken = take_snapshot(workload, path, scratch=desk.home.scratch(), full=file)
    if taken.own is None:
        return Loaded(taken)
    if (
        last is not None and last.id == full.id and taken.own == 0 and taken.records == full.records
    ):  # that one again, whoever wrote its file
        return Loaded(replace(taken, digest=full.digest))
    return Loaded(taken, full=full)


def _full_before(desk: Desk, workload: Workload, last: SnapshotRow | None) -> SnapshotRow | None:
    """The full snapshot that the partition's `last` one is, or rests on; where the partition has none, the newest planned one
    of the workload. None where its file or its plan is not what was written. Raises as `load`."""
    snapshots = desk.ledger.snapshots(workload.name)
    before = last or next((s for s in reversed(snapshots) if s.plan_path is not None), None)
    if before is None:
        return None
    full = next(s for s in snapshots if s.id == (before.full_snapshot or before.id))
    if planned_about(desk, full) is not None:
        return full
    if last is not None and last.full_snapshot is not None:
        raise LedgerDamaged(
            f"{full.path} or its plan is not what was written, and snapshot {workload.name}/{last.id} rests on it, so that "
            "nobody can tell whether its records have changed; restore both from a backup"
        )
    return None


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
