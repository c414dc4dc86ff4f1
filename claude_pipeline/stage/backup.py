"""Copies of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from claude_pipeline.errors import UsageError
from claude_pipeline.home import check_writable, written
from claude_pipeline.stage.desk import Desk

PREFIX = "ledger-"


@dataclass(frozen=True)
class Backup:
    """A copy, and the older ones it took the place of."""

    path: Path
    size_bytes: int
    events: int
    dropped: tuple[Path, ...]


def backup(desk: Desk, target: Path | None = None, *, keep: int = 7) -> Backup:
    """Copy the ledger to `target`, or to `backups/` in the home, where the newest `keep` stay.

    Raises:
        UsageError: the ledger is on PostgreSQL, the target is the ledger itself, or cannot be written.
    """
    folder = desk.home.backups
    path = target or folder / f"{PREFIX}{desk.clock():%Y%m%dT%H%M%S.%f}.db"
    if path.exists() and path.resolve() == desk.home.ledger.resolve():
        raise UsageError("--to names the ledger itself; name another file")
    if target is not None:
        check_writable(target)
    with written(path) as temporary:
        events = desk.ledger.copy_to(temporary)
    older = sorted(folder.glob(f"{PREFIX}*.db"))[:-keep] if target is None else []
    for each in older:
        each.unlink()
    return Backup(path, path.stat().st_size, events, tuple(older))
