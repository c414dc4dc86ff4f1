"""Exclusive locks that end with their holder: never a lease in time.

SQLite: `flock` on a file in the home, freed by the kernel when the process dies, kept while it is
paused. PostgreSQL: a session's advisory lock, freed when the session ends, which may be before its
holder knows: whoever acts outside the ledger asks `still_held` right before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from claude_pipeline.home import FILE_MODE, make_file
from claude_pipeline.ledger.connection import BUSY_TIMEOUT_MS, told

# A bigint key is shown as its two halves; 1 tells it from a pair of keys.
OURS_NOW = text("""
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() AND objsubid = 1
      AND (classid::bigint << 32) | objid::bigint = :key
""")


@dataclass(frozen=True)
class Hold:
    """True where the lock was taken; `still_held` asks whether it is ours at this moment."""

    taken: bool
    still_held: Callable[[], bool]

    def __bool__(self) -> bool:
        return self.taken


class Locks(Protocol):
    """Named locks; `held` yields once, for as long as the lock is held."""

    def held(self, name: str, *, wait: bool) -> Iterator[Hold]: ...


class FileLocks:
    """`flock` on `<folder>/<name>.lock`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def held(self, name: str, *, wait: bool) -> Iterator[Hold]:
        path = make_file(self._folder / f"{name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield Hold(False, lambda: False)
                return
            yield Hold(True, lambda: _is_file(descriptor, path))
        finally:
            os.close(descriptor)  # frees the lock


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at that path: of a deleted one, another process would not know."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class AdvisoryLocks:
    """PostgreSQL's session advisory locks, each on a connection of its own.

    They need a session: a pooler between must not share one among clients.
    """

    def __init__(self, engine: Engine, ledger_id: str) -> None:
        self._engine, self._ledger_id = engine, ledger_id

    def held(self, name: str, *, wait: bool) -> Iterator[Hold]:
        digest = hashlib.sha256(f"{self._ledger_id}/{name}".encode()).digest()
        key = {"key": int.from_bytes(digest[:8], "big", signed=True)}
        with told(self._engine):
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            with told(self._engine):
                taken = _take(connection, key, wait=wait)
            try:
                yield Hold(taken, lambda: taken and _ours_now(connection, key))
            finally:
                if taken:
                    with suppress(SQLAlchemyError):  # with its session the lock has ended as well
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


def _take(connection: Connection, key: dict[str, int], *, wait: bool) -> bool:
    if not wait:
        return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar())
    connection.exec_driver_sql("SET lock_timeout = 0")  # its holder may plan for minutes
    connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
    connection.exec_driver_sql(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
    return True


def _ours_now(connection: Connection, key: dict[str, int]) -> bool:
    try:
        return bool(connection.execute(OURS_NOW, key).scalar())
    except SQLAlchemyError:
        return False


@contextmanager
def hold(locks: Locks, name: str, *, wait: bool) -> Iterator[Hold]:
    """`with hold(locks, "submit", wait=False) as taken:`"""
    yield from locks.held(name, wait=wait)
