"""The ledger's database: opening it, transactions, locks, events, settings."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, delete
from sqlalchemy.exc import ProgrammingError

from claude_pipeline.errors import LedgerDamaged, LedgerError, LedgerUnreachable, UsageError
from claude_pipeline.home import make_file, make_folder
from claude_pipeline.ledger import table
from claude_pipeline.ledger.connection import become_writer, first_line, make_engine, name_of, parsed_url, told
from claude_pipeline.ledger.lock import AdvisoryLocks, FileLocks, Hold, Locks, hold
from claude_pipeline.ledger.migration import VERSION, migrate, version_of
from claude_pipeline.ledger.statement import insert_row, rows_where, update_rows


class _Kept(threading.local):
    """The connection that a thread's reads share now."""

    connection: Connection | None = None


class Store:
    """An open ledger. Reads see a consistent state; writes are one transaction each."""

    def __init__(self, engine: Engine, locks_folder: Path) -> None:
        self._engine = engine
        self._kept = _Kept()
        self.mark = locks_folder.parent / "ledger.mark"
        self._local = engine.dialect.name == "sqlite"
        try:
            with self._reading() as connection:
                version = version_of(connection)
            if version != VERSION:
                make_folder(locks_folder)
                with hold(FileLocks(locks_folder), "migrate", wait=True), self._writing() as connection:
                    migrate(connection)
        except ProgrammingError as error:
            raise LedgerUnreachable(
                f"the ledger at {name_of(engine)} cannot be used: {first_line(error.orig)}; its user must own the "
                "database, or may make tables in its schema"
            ) from None
        self.id: str = self.get_setting("ledger_id") or ""
        self._locks: Locks = FileLocks(locks_folder) if self._local else AdvisoryLocks(engine, self.id)

    @classmethod
    def open(cls, url: str | None, *, path: Path) -> Self:
        """Open (and make or migrate) the ledger at `url`, by default SQLite at `path`.

        Locks of a SQLite ledger are files beside it.

        Raises:
            SettingInvalid: the URL cannot be used.
            LedgerUnreachable, LedgerDamaged, LedgerNewer: what is there cannot be used.
        """
        parsed = parsed_url(url) if url else URL.create("sqlite", database=str(path))
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "")
            make_folder(path.parent)
            if not path.exists() and parsed.database and not parsed.database.startswith((":", "file:")):
                with suppress(OSError):  # SQLite says it better
                    make_file(path)  # it would let everybody read it; what it makes beside it is as open as this
        engine = make_engine(parsed)
        try:
            return cls(engine, path.parent / "locks")
        except BaseException:
            engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[Hold]:
        """Hold the named lock of this ledger; what it yields is true where it was taken (always, with `wait`)."""
        with hold(self._locks, name, wait=wait) as held:
            yield held

    @contextmanager
    def many_reads(self) -> Iterator[None]:
        """One connection for this thread's reads, for as long as the `with` lasts: to open one costs more than a read.

        Each read sees what is committed when it begins, as ever. May stand within another.
        """
        if self._kept.connection is not None:
            yield
            return
        with told(self._engine), self._engine.connect() as connection:
            self._kept.connection = connection
            try:
                yield
            finally:
                self._kept.connection = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        kept, self._kept.connection = self._kept.connection, None  # a read within this one has a connection of its own
        if kept is None:
            with told(self._engine), self._engine.connect() as connection:
                yield connection
            return
        try:
            with told(self._engine):
                try:
                    yield kept
                finally:
                    kept.rollback()  # the next read sees what is committed by then
        finally:
            self._kept.connection = kept

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # SQLite: take the write lock at once; a deferred transaction that turns to writing can fail busy.
        with (
            told(self._engine),
            self._engine.connect().execution_options(immediate=True) as connection,
            connection.begin(),
        ):
            become_writer(connection)
            yield connection

    def _event(self, connection: Connection, move: str, at: datetime, **columns: Any) -> None:
        insert_row(connection, table.event, move=move, at=at, **columns)

    def copy_to(self, path: Path) -> int:
        """A consistent copy of a SQLite ledger at `path`, taken while others write; returns its number of events.

        Raises:
            UsageError: the ledger is on PostgreSQL, which has its own tools.
        """
        if not self._local:
            raise UsageError(f"the ledger is on PostgreSQL; copy it with pg_dump {name_of(self._engine)}")
        with self._reading() as connection:
            source = connection.connection.driver_connection
            assert source is not None
            target = sqlite3.connect(path)
            try:
                source.backup(target)  # restarts by itself where a write comes between its pages
                check = target.execute("PRAGMA integrity_check").fetchone()[0]
                if check != "ok":
                    raise LedgerDamaged(f"the copy of the ledger is damaged ({check}); look at the disk")
                target.execute("PRAGMA journal_mode = DELETE")  # one file, no WAL beside it
                return int(target.execute("SELECT count(*) FROM event").fetchone()[0])
            finally:
                target.close()

    def get_setting(self, key: str) -> str | None:
        with self._reading() as connection:
            return self._setting(connection, key)

    def _setting(self, connection: Connection, key: str) -> str | None:
        row = rows_where(connection, table.setting, key=key).first()
        return None if row is None else row["value"]

    def put_setting(self, key: str, value: str | None, *, at: datetime, move: str) -> None:
        """Set or (None) remove a setting, with an event."""
        with self._writing() as connection:
            self._put_setting(connection, key, value)
            self._event(connection, move, at, detail=value)

    def _put_setting(self, connection: Connection, key: str, value: str | None) -> None:
        if value is None:
            connection.execute(delete(table.setting).where(table.setting.c.key == key))
            return
        if not update_rows(connection, table.setting, {"key": key}, value=value):
            insert_row(connection, table.setting, key=key, value=value)


def require(rowcount: int, sentence: str) -> None:
    """A compare-and-set that found another state than it expected."""
    if rowcount != 1:
        raise LedgerError(f"{sentence}: another process moved it first; look again")
