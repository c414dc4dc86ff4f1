"""Exclusive locks that end with their holder: never a lease in time.

SQLite: `flock` on a file in the home, freed by the kernel when the process dies, kept while it is
paused. PostgreSQL: a session's advisory lock, freed when the session ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, text


class Locks(Protocol):
    """Named locks; `held` yields whether the lock was taken."""

    def held(self, name: str, *, wait: bool) -> Iterator[bool]: ...


class FileLocks:
    """`flock` on `<folder>/<name>.lock`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def held(self, name: str, *, wait: bool) -> Iterator[bool]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)  # frees the lock


class AdvisoryLocks:
    """PostgreSQL's session advisory locks, each on a connection of its own."""

    def __init__(self, engine: Engine, ledger_id: str) -> None:
        self._engine, self._ledger_id = engine, ledger_id

    def held(self, name: str, *, wait: bool) -> Iterator[bool]:
        digest = hashlib.sha256(f"{self._ledger_id}/{name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if wait:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
                taken = True
            else:
                taken = bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())
            try:
                yield taken
            finally:
                if taken:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


@contextmanager
def hold(locks: Locks, name: str, *, wait: bool) -> Iterator[bool]:
    """`with hold(locks, "submit", wait=False) as taken:`"""
    yield from locks.held(name, wait=wait)
