"""The folder that holds everything a run writes, and the one way to write a file into it.

A file is written under a temporary name in its own folder, fsynced, then renamed: a reader never
sees half a file, and a crash leaves at most a `*.tmp` that `sweep` removes. `Home` is the one
place that knows paths, so that a bucket can take the folder's place later.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
READ_BYTES = 1 << 20
STALE_TEMPORARY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Home:
    """Paths under `$CLAUDE_PIPELINE_HOME`. `root` is absolute; folders are made when written to."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def warehouse(self) -> Path:
        """The link that analysts open; it points into `warehouse_versions`."""
        return self.root / "warehouse.duckdb"

    @property
    def warehouse_versions(self) -> Path:
        return self.root / "warehouse"

    def lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    def scratch(self) -> Path:
        """A folder for what need not outlive the process (DuckDB spills, transcoded input)."""
        folder = self.root / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def snapshot(self, workload: str, snapshot: str) -> Path:
        return self.root / "snapshots" / workload / f"{snapshot}.parquet"

    def requests(self, workload: str, snapshot: str, name: str) -> Path:
        """`name` is a chunk's file (`r1-0001.parquet`, `.jsonl`) or `plan-<n>.parquet`."""
        return self.root / "chunks" / workload / snapshot / name

    def download(self, workload: str, snapshot: str, name: str) -> Path:
        return self.root / "downloads" / workload / snapshot / name

    def results(self, workload: str, snapshot: str, name: str) -> Path:
        return self.root / "results" / workload / snapshot / name

    def merged(self, workload: str, snapshot: str, name: str) -> Path:
        return self.root / "merged" / workload / snapshot / name

    def relative(self, path: Path) -> str:
        """The form kept in the ledger, so that a home can be moved as a whole."""
        return path.relative_to(self.root).as_posix()

    def absolute(self, relative: str) -> Path:
        return self.root / relative


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    On an error the temporary file is removed and `path` is untouched. The file may also be
    written by another library (DuckDB, pyarrow): it is fsynced by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def sweep(home: Home, *, older_than_seconds: float = STALE_TEMPORARY_SECONDS) -> int:
    """Remove temporary files that a crash left behind; returns how many."""
    removed = 0
    horizon = time.time() - older_than_seconds
    for path in home.root.glob(f"**/.*{TEMPORARY_SUFFIX}"):
        if path.stat().st_mtime < horizon:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
