"""Keep the home within bounds: what is collected, merged and older than a workload's `retention` goes.

| file | goes when |
|---|---|
| `downloads/…`, `journals/…` raw result lines | its chunk was collected that long ago |
| `chunks/…/*.jsonl` params | likewise, and its snapshot is merged with nothing left to ask |
| `chunks/…/plan-<n>.parquet` | a newer plan took its place |
| `merged/…` parts | a later merge took their place, and no kept version of the warehouse names them |
| temporary files of a crash | after a day |

Never: snapshots, attempts (`results/`), what is on its way, what a person may still send again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from claude_pipeline.crash import crash_point
from claude_pipeline.home import sweep
from claude_pipeline.ledger import ChunkRow, ChunkState, SnapshotProgress, SnapshotRow
from claude_pipeline.stage.close import journal_of
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.publish import PUBLISH_LOCK
from claude_pipeline.stage.raw import packed, packed_before
from claude_pipeline.warehouse import named_parts
from claude_pipeline.workload import Workload


@dataclass
class Pruned:
    """What was removed, by kind: files and bytes."""

    files: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0

    def drop(self, kind: str, path: Path) -> None:
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        self.files[kind] = self.files.get(kind, 0) + 1
        self.size_bytes += size


def prune(desk: Desk, workloads: Iterable[Workload], *, days: int | None = None) -> Pruned:
    """Remove what is past its time; `days` in the place of each workload's own `retention`. Safe at any time."""
    done = Pruned()
    swept = sweep(desk.home)
    if swept:
        done.files["temporary"] = swept
    for workload in workloads:
        kept = workload.retention.days if days is None else days
        if kept is None:
            continue
        # No planning, collecting or publishing meanwhile: each names files that it then reads.
        with (
            desk.ledger.lock(f"plan-{workload.name}", wait=True),
            desk.ledger.lock(f"collect-{workload.name}", wait=True),
            desk.ledger.lock(f"merge-{workload.name}", wait=True),
            desk.ledger.lock(PUBLISH_LOCK, wait=True),
        ):
            _prune(desk, workload, desk.clock() - timedelta(days=kept), done)
    return done


def _prune(desk: Desk, workload: Workload, before: datetime, done: Pruned) -> None:
    finished = {
        p.snapshot.id: p.snapshot for p in finished_snapshots(desk, workload) if p.snapshot.plan_path is not None
    }
    chunks = desk.ledger.chunks(workload.name, states=[ChunkState.DONE])
    old = [c for c in chunks if c.collected_at is not None and c.collected_at < before]
    for chunk in old:
        download = desk.home.download(chunk.workload, chunk.snapshot, f"{chunk.key}.jsonl")
        journal = journal_of(desk, chunk)
        for made in (packed, packed_before):
            done.drop("downloads", made(download))
            done.drop("journals", made(journal))
        done.drop("journals", journal)  # a crash may have left it as it was
    spent = [c for c in old if c.snapshot in finished]
    desk.ledger.params_dropped([c.id for c in spent if not c.next_round_cut], at=desk.clock())
    crash_point("prune.before_params")
    for chunk in spent:
        done.drop("params", desk.path(chunk.params_path))
    for snapshot in finished.values():
        for path in _older_plans(desk, snapshot):
            done.drop("plans", path)
    named = named_parts(desk.home)
    for part in desk.ledger.superseded_parts(workload.name):
        path = desk.path(part.path)
        if part.created_at < before and not named(path):
            done.drop("merged", path)


def finished_snapshots(desk: Desk, workload: Workload) -> list[SnapshotProgress]:
    """Progress of the snapshots that are merged and have nothing left to ask."""
    with desk.ledger.many_reads():
        every = desk.ledger.progress(workload.name, max_rounds=workload.max_rounds, all_merged=True)
        open_ones = {p.snapshot.id for p in desk.ledger.progress(workload.name, max_rounds=workload.max_rounds)}
    return [p for p in every if p.snapshot.id not in open_ones and p.snapshot.merge_number]


def old_chunks(desk: Desk, workload: Workload, before: datetime) -> Iterator[ChunkRow]:
    """Chunks of finished snapshots that reached their end before that moment."""
    finished = {p.snapshot.id for p in finished_snapshots(desk, workload)}
    for chunk in desk.ledger.chunks(workload.name, states=[ChunkState.DONE, ChunkState.CANCELED]):
        if chunk.snapshot in finished and chunk.moved_at < before:
            yield chunk


def _older_plans(desk: Desk, snapshot: SnapshotRow) -> Iterator[Path]:
    current = desk.path(snapshot.plan_path or "")
    for path in current.parent.glob("plan-*.parquet"):
        if path != current:
            yield path
