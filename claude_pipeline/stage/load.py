"""A partition's records, read from its dataset: all of them, or with `dataset.watermark` those that no snapshot of
an earlier partition holds.

A snapshot can be the base of later ones only while its records are surely asked: once it is planned, in full and not
as a pilot, and unless a person canceled it; and so the snapshot it rests on, and so on. Where that fails the next
one in time is taken, and what lies between is read again, of which `reuse` answers what was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_pipeline.dataset import Base, Mark, SnapshotFile, lies_ahead, take_snapshot
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.ledger import SnapshotRow, Watermark
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

__all__ = ["Loaded", "chain_before", "load"]


@dataclass(frozen=True)
class Loaded:
    """The file that was written, and what the ledger keeps to tell later records from these."""

    taken: SnapshotFile
    watermark: Watermark | None


def load(desk: Desk, workload: Workload, partition: str, path: Path) -> Loaded:
    """Write the records of a partition to `path`. Nothing is registered.

    Raises:
        DatasetInvalid: the dataset cannot be read as declared, or its watermark lies in the future.
    """
    column = workload.dataset.watermark
    if column is None:
        return Loaded(take_snapshot(workload, path, scratch=desk.home.scratch()), None)
    chain = chain_before(desk.ledger.snapshots(workload.name), partition, column)
    taken = take_snapshot(workload, path, scratch=desk.home.scratch(), base=_base_of(desk, chain))
    if taken.mark is None:
        return Loaded(taken, None)
    if lies_ahead(taken.mark, desk.clock()):
        path.unlink(missing_ok=True)
        raise DatasetInvalid(
            f"watermark: the highest {column} lies in the future (or is infinite), and records that come with the true time "
            "would pass for old ones; correct it, or leave such records out in sql:",
            place=workload.place,
        )
    return Loaded(taken, Watermark(column, taken.mark.kind, taken.mark.text, chain[0].id if chain else None))


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
