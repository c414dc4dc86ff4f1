"""What breaks around a run, shared by tests: a disk that fills up, a ledger that others keep or that is old, a kill."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import event

from claude_pipeline import crash
from claude_pipeline.stage.desk import Desk

DISK_BYTES = 6 << 20
# What the first schema of the ledger had not: before cancel, retry and counted merges.
NEWER: dict[str, tuple[str, ...]] = {
    "snapshot": ("merge_number", "merged_chunks", "published_merge", "canceled_at", "rounds_used"),
    "chunk": ("stopped", "cancel_asked_at", "max_tokens"),
    "part": ("merged",),
    "batch": ("paid_twice",),
}


class Killed(BaseException):
    """Nothing of ours catches it: as if the process were gone."""


def die() -> NoReturn:
    raise Killed


def at_point(point: str, deed: Callable[[], object]) -> AbstractContextManager[None]:
    """Within it `deed` is done each time this process comes to that crash point."""

    def listen(name: str) -> None:
        if name == point:
            deed()

    return crash.told(listen)


class SmallDisk:
    """A disk of its own, which a test fills to the last byte and empties again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mounted at `folder` for as long as the `with` lasts; the test is skipped where none can be."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command: no disk can be filled")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here, which takes root: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def impatient(desk: Desk) -> None:
    """A move of the ledger waits for 50 ms, not for half a minute."""
    event.listen(desk.ledger._engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 50"))


def to_first_schema(path: Path) -> None:
    """A ledger as it stood before cancel, retry and counted merges."""
    raw = sqlite3.connect(path)
    for table, columns in NEWER.items():
        there = {row[1] for row in raw.execute(f"PRAGMA table_info({table})")}
        for column in there.intersection(columns):
            raw.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    raw.execute("UPDATE setting SET value = '1' WHERE key = 'schema_version'")
    raw.commit()
    raw.close()
