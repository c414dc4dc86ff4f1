"""Everything merged -> the next version of the warehouse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from claude_pipeline.crash import crash_point
from claude_pipeline.result import Measure
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import check_part
from claude_pipeline.warehouse import Contents, build
from claude_pipeline.warehouse.ops import STAGED

PUBLISH_LOCK = "publish"


@dataclass(frozen=True)
class Published:
    """A version of the warehouse."""

    version: int
    path: Path
    workloads: tuple[str, ...]


def publish(desk: Desk) -> Published:
    """Publish all workloads; one publisher at a time.

    Raises:
        LedgerDamaged: a part is not what was written; the old version stays.
    """
    with desk.ledger.lock(PUBLISH_LOCK, wait=True):
        snapshots = desk.ledger.snapshots()  # before their parts: what is merged meanwhile counts as not yet published
        last = desk.ledger.last_publication()
        version = last[0] + 1 if last else 1
        merged: dict[str, dict[str, list[Path]]] = {}
        attempts: dict[str, list[Path]] = {}
        for workload in desk.ledger.workloads():
            merged[workload] = {}
            for part in desk.ledger.merged_parts(workload):
                if not desk.path(part.path).exists():
                    check_part(desk, part)
                merged[workload].setdefault(part.snapshot, []).append(desk.path(part.path))
            attempts[workload] = [desk.path(p.path) for p in desk.ledger.parts(workload, kinds=["attempts"])]
        measures = {name: Measure.from_json(text) for name, text in desk.ledger.measures().items()}
        tables = {name: desk.ledger.dump(name) for name in STAGED}
        path = build(Contents(tables, merged, attempts, measures), desk.home, version)
        crash_point("publish.before_record")
        desk.ledger.published(version, path=desk.home.relative(path), snapshots=snapshots, at=desk.clock())
        return Published(version, desk.home.warehouse, tuple(name for name, parts in merged.items() if parts))
