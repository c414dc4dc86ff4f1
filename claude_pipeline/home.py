"""The folder that holds everything a run writes, and the one way to write a file into it.

A file is written under a temporary name in its own folder, fsynced, then renamed: a reader never
sees half a file, and a crash leaves at most a `*.tmp` that `sweep` removes. `Home` is the one
place that knows paths, so that a bucket can take the folder's place later.

Records and answers lie here, so folders are 0700 and files 0600, whatever the umask. For a group:
`chgrp GROUP home; chmod 2750 home`. Below a folder with that bit (setgid) both are as open as the umask
lets them be, and the kernel hands the group on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from claude_pipeline.errors import HomeUnsafe, UsageError
from claude_pipeline.page_cache import STRIDE_BYTES, let_go

TEMPORARY_SUFFIX = ".tmp"
# Read at once of a file that is walked through: it stays in the cache of a core, and its memory is used again for the
# next. sha256 takes 8 to 11 % less than with four times as much (2026-11-27).
READ_BYTES = 1 << 18
STALE_TEMPORARY_SECONDS = 24 * 3600
FOLDER_MODE, FILE_MODE = 0o700, 0o600
PRIVATE_UMASK = 0o077  # for processes of ours whose files other programs write


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
        return self._inside("warehouse")

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    @property
    def told_catalog(self) -> Path:
        """What the API said that differs from the catalogue; a user may adopt it."""
        return self.root / "catalog.yaml"

    def token_counts(self, workload: str) -> Path:
        """Tokens that the API counted, by fingerprint."""
        return self._inside("estimates", f"{workload}.json")

    def lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    def scratch(self) -> Path:
        """A folder for what need not outlive the process (DuckDB spills, transcoded input)."""
        return make_folder(self.root / "scratch")

    def snapshot(self, workload: str, snapshot: str) -> Path:
        return self._inside("snapshots", workload, f"{snapshot}.parquet")

    def requests(self, workload: str, snapshot: str, name: str) -> Path:
        """`name` is a chunk's file (`r1-0001.parquet`, `.jsonl`) or `plan-<n>.parquet`."""
        return self._inside("chunks", workload, snapshot, name)

    def download(self, workload: str, snapshot: str, name: str) -> Path:
        return self._inside("downloads", workload, snapshot, name)

    def journal(self, workload: str, snapshot: str, name: str) -> Path:
        """Where the real-time lane appends each answer before it counts."""
        return self._inside("journals", workload, snapshot, name)

    def results(self, workload: str, snapshot: str, name: str) -> Path:
        return self._inside("results", workload, snapshot, name)

    def merged(self, workload: str, snapshot: str, name: str) -> Path:
        return self._inside("merged", workload, snapshot, name)

    def report(self, workload: str, name: str) -> Path:
        """`name` is a snapshot, or `index` for the page of the workload itself."""
        return self._inside("reports", workload, f"{name}.html")

    def relative(self, path: Path) -> str:
        """The form kept in the ledger, so that a home can be moved as a whole."""
        return path.relative_to(self.root).as_posix()

    def absolute(self, relative: str) -> Path:
        """Raises HomeUnsafe where the path, or a symbolic link in it, leads out of the home."""
        return self._inside(relative)

    def _inside(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        found = path.resolve()
        if not found.is_relative_to(self.root.resolve()):
            raise HomeUnsafe(
                f"{path} leads out of the home, to {found}: nothing is read or written there; move the whole home, or "
                "mount the other disk in that place"
            )
        return path


def make_folder(folder: Path) -> Path:
    """Make a folder and what of its parents is missing, closed to others; below one of a group's, as the umask has it."""
    if not folder.is_dir():
        parent = make_folder(folder.parent)
        folder.mkdir(mode=0o777 if is_of_a_group(parent) else FOLDER_MODE, exist_ok=True)
    return folder


def is_of_a_group(folder: Path) -> bool:
    """Whether someone gave the folder to a group on purpose: by its setgid bit, which nothing sets by itself."""
    return bool(folder.stat().st_mode & stat.S_ISGID)


def make_file(path: Path) -> Path:
    """An empty file, closed to others, where there is none; whoever opens it next need not care."""
    mode = 0o666 if is_of_a_group(make_folder(path.parent)) else FILE_MODE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode))
    return path


@contextmanager
def written(path: Path, *, private: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    On an error the temporary file is removed and `path` is untouched. The file may also be
    written by another library (DuckDB, pyarrow): it is fsynced by name. `private=False` is for what a
    person has put elsewhere with `--to`: as open as the umask lets it be.
    """
    if private:
        make_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            if private and not is_of_a_group(path.parent):
                os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
            let_go(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(target: Path) -> None:
    """See that a file can be put where a person wants one; databases would each say in their own words that it cannot.

    Raises:
        UsageError: its folder cannot be made, or nothing can be written there; says why.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UsageError(f"--to: {target} cannot be written ({error.strerror}); name another place") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces. What of a large file was read does not stay in memory."""
    digest, piece = hashlib.sha256(), memoryview(bytearray(READ_BYTES))  # one piece of memory, used again
    with path.open("rb", buffering=0) as file:
        first = end = 0
        while count := file.readinto(piece):
            digest.update(piece[:count])
            end += count
            if end - first >= STRIDE_BYTES:
                let_go(file.fileno(), first=first, count=end - first)
                first = end
    return digest.hexdigest()


def sweep(home: Home, *, older_than_seconds: float = STALE_TEMPORARY_SECONDS) -> int:
    """Remove what a crash left behind: temporary files, snapshots half taken, scratch; returns how many files."""
    removed = 0
    for path in temporary_files(home, older_than_seconds=older_than_seconds):
        try:
            path.unlink()
            removed += 1
        except FileNotFoundError:  # its owner lives, and is done with it
            continue
    return removed


def temporary_files(home: Home, *, older_than_seconds: float = STALE_TEMPORARY_SECONDS) -> list[Path]:
    """What `sweep` would remove."""
    found = []
    horizon = time.time() - older_than_seconds
    for folder, _, names in os.walk(home.root):
        for path in (Path(folder, name) for name in names if _is_temporary(home, Path(folder, name))):
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < horizon:  # of a link, not of what it leads to
                    found.append(path)
    return found


def _is_temporary(home: Home, path: Path) -> bool:
    hidden = path.name.startswith(".")
    place = path.relative_to(home.root).parts[0]
    return (hidden and (TEMPORARY_SUFFIX in path.suffixes or place == "snapshots")) or place == "scratch"
