"""The ledger's database: opening it, transactions, locks, events, settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from claude_pipeline.errors import LedgerDamaged, LedgerError, SettingInvalid
from claude_pipeline.ledger import table
from claude_pipeline.ledger.lock import AdvisoryLocks, FileLocks, Locks, hold
from claude_pipeline.ledger.migration import migrate, version_of

BUSY_TIMEOUT_MS = 30_000


class Store:
    """An open ledger. Reads see a consistent state; writes are one transaction each."""

    def __init__(self, engine: Engine, locks_folder: Path) -> None:
        self._engine = engine
        self._local = engine.dialect.name == "sqlite"
        try:
            with self._reading() as connection:
                current = version_of(connection) > 0
            if not current:
                locks_folder.mkdir(parents=True, exist_ok=True)
            with hold(FileLocks(locks_folder), "migrate", wait=True), self._writing() as connection:
                migrate(connection)
        except DatabaseError as error:
            raise LedgerDamaged(
                f"the ledger at {engine.url.render_as_string(hide_password=True)} cannot be opened: "
                f"{str(error.orig).splitlines()[0]}; restore a backup, or name another ledger"
            ) from None
        self.id: str = self.get_setting("ledger_id") or ""
        self._locks: Locks = FileLocks(locks_folder) if self._local else AdvisoryLocks(engine, self.id)

    @classmethod
    def open(cls, url: str | None, *, path: Path) -> Self:
        """Open (and make or migrate) the ledger at `url`, by default SQLite at `path`.

        Locks of a SQLite ledger are files beside it.

        Raises:
            SettingInvalid: the URL cannot be used.
            LedgerDamaged, LedgerNewer: what is there cannot be used.
        """
        try:
            parsed = make_url(url) if url else make_url(f"sqlite:///{path}")
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
                raise SettingInvalid("CLAUDE_PIPELINE_LEDGER_URL must be sqlite:///… or postgresql+psycopg://…")
            if parsed.get_backend_name() == "sqlite":
                path = Path(parsed.database or "")
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
                _prepare_sqlite(engine)
            else:
                engine = create_engine(parsed, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise SettingInvalid(
                f"CLAUDE_PIPELINE_LEDGER_URL cannot be used ({type(error).__name__}); write it as sqlite:///path or "
                "postgresql+psycopg://user@host/database, the latter with `pip install claude-pipeline[postgres]`"
            ) from None
        return cls(engine, path.parent / "locks")

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold the named lock of this ledger; yields whether it was taken (always, with `wait`)."""
        with hold(self._locks, name, wait=wait) as taken:
            yield taken

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # SQLite: take the write lock at once; a deferred transaction that turns to writing can fail busy.
        with self._engine.connect().execution_options(immediate=True) as connection, connection.begin():
            yield connection

    def _event(self, connection: Connection, move: str, at: datetime, **columns: Any) -> None:
        connection.execute(insert(table.event).values(move=move, at=at, **columns))

    def get_setting(self, key: str) -> str | None:
        with self._reading() as connection:
            return connection.execute(select(table.setting.c.value).where(table.setting.c.key == key)).scalar()

    def put_setting(self, key: str, value: str | None, *, at: datetime, move: str) -> None:
        """Set or (None) remove a setting, with an event."""
        with self._writing() as connection:
            self._put_setting(connection, key, value)
            self._event(connection, move, at, detail=value)

    def _put_setting(self, connection: Connection, key: str, value: str | None) -> None:
        if value is None:
            connection.execute(delete(table.setting).where(table.setting.c.key == key))
            return
        done = connection.execute(update(table.setting).where(table.setting.c.key == key).values(value=value))
        if done.rowcount == 0:
            connection.execute(insert(table.setting).values(key=key, value=value))


def _prepare_sqlite(engine: Engine) -> None:
    """WAL with full sync: an intent survives power loss before its POST leaves."""

    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        cursor = raw.cursor()
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def require(rowcount: int, sentence: str) -> None:
    """A compare-and-set that found another state than it expected."""
    if rowcount != 1:
        raise LedgerError(f"{sentence}: another process moved it first; look again")
