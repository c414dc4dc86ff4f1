"""How a connection to the ledger's database is set up, and what is said when it fails."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.pool import NullPool

from claude_pipeline.errors import LedgerDamaged, LedgerUnreachable, SettingInvalid

STATEMENTS_MAX = 1_000  # some hundred are ever made
KEPT_OPEN = 8  # databases of others, of which there may be one for each run
BUSY_TIMEOUT_MS = 30_000  # how long a move waits for another process's move
POSTGRESQL = {
    "connect_timeout": 10,  # seconds
    "tcp_user_timeout": 15_000,  # ms: a cut network is noticed, instead of retried for a quarter of an hour
    "keepalives_idle": 60,  # seconds
}
# A host that vanished frees its locks after about two minutes (the system's default is over two hours).
SESSION = (
    "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6; "
    f"SET lock_timeout = {BUSY_TIMEOUT_MS}; "
    # An intent survives power loss before its POST leaves; a server set to more than `on` keeps it.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
WRITER = int.from_bytes(hashlib.sha256(b"claude_pipeline: one writer at a time").digest()[:8], "big", signed=True)


class SharedStatements(dict[Any, Any]):
    """What SQLAlchemy made of statements, for all SQLite ledgers of a process.

    It keeps them for each engine by itself, under keys that name the engine's dialect. A ledger is opened for each tick
    and step, and a quarter of a tick was to make the same forty statements again; all its engines speak alike.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_without_dialect(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= STATEMENTS_MAX:
            self.clear()
        super().__setitem__(_without_dialect(key), value)


def _without_dialect(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(type(part) if isinstance(part, Dialect) else part for part in key)


shared_statements = SharedStatements()


def parsed_url(url: str) -> URL:
    """The ledger's URL, as SQLAlchemy knows it.

    Raises:
        SettingInvalid: it cannot be used; its text, which may hold a password, is not shown.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _unusable(error) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise SettingInvalid("CLAUDE_PIPELINE_LEDGER_URL must be sqlite:///… or postgresql+psycopg://…")
    if parsed.get_backend_name() == "postgresql" and "@" in f"{parsed.host}{parsed.database}":
        raise SettingInvalid(  # else a part of the password would be taken, and told, as the host
            "CLAUDE_PIPELINE_LEDGER_URL has more than one @; write one inside the password as %40"
        )
    return parsed


def make_engine(url: URL) -> Engine:
    """Raises SettingInvalid where the URL's driver is missing or unknown."""
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(
                url,
                poolclass=NullPool,
                connect_args={"timeout": BUSY_TIMEOUT_MS / 1000},
                execution_options={"compiled_cache": shared_statements},
            )
            _prepare_sqlite(engine)
        else:
            chosen = {name: value for name, value in POSTGRESQL.items() if name not in url.query}
            # Fixed, whatever the server's default is: a move reads what is committed once it may write.
            engine = create_engine(url, pool_pre_ping=True, connect_args=chosen, isolation_level="READ COMMITTED")
            _prepare_postgresql(engine)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise _unusable(error) from None
    return engine


def _unusable(error: Exception) -> SettingInvalid:
    return SettingInvalid(
        f"CLAUDE_PIPELINE_LEDGER_URL cannot be used ({type(error).__name__}); write it as sqlite:///path or "
        "postgresql+psycopg://user@host/database, the latter with `pip install claude-pipeline[postgres]`"
    )


def name_of(engine: Engine) -> str:
    """The ledger's address for people: without its password, and without what follows a `?`."""
    return engine.url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def told(engine: Engine) -> Iterator[None]:
    """A database that gives no answer becomes a sentence; it never carries a value of ours.

    Raises:
        LedgerUnreachable: the server is away, ended the session, or kept us waiting too long.
        LedgerDamaged: the file is not what was written.
    """
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        why = first_line(error.orig)
        first = "make room on its disk, then " if "disk" in why else ""  # "disk I/O error", "database or disk is full"
        raise LedgerUnreachable(
            f"the ledger at {name_of(engine)} gave no answer: {why}; what was not recorded is done again when it answers: "
            f"{first}run again"
        ) from None
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # a constraint, or a mistake of ours
            raise
        raise LedgerDamaged(
            f"the ledger at {name_of(engine)} cannot be read: {first_line(error.orig)}; nothing is sent with it; restore "
            "a backup (`claude-pipeline backup` makes them), then run `claude-pipeline reconcile --rebuild`"
        ) from None


def first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def become_writer(connection: Connection) -> None:
    """One move at a time, as SQLite has it: each sees all that was committed before it."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER})")


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


@contextmanager
def unhurried(*folders: Path) -> Iterator[None]:
    """SQLite databases of others in those folders, opened meanwhile: a move is not waited for at the disk.

    With a write-ahead log each stays whole, also when the power fails; its last moves may be lost then. The log is
    written back at the end, and not whenever somebody closes. Without a log nothing is changed. A ledger, wherever it
    lies, is synced in full: it says so after this.
    """
    inside, one_at_a_time = [folder.resolve() for folder in folders], threading.Lock()
    kept: OrderedDict[Path, sqlite3.Connection] = OrderedDict()  # who closes last writes the log back: one of these

    def relax(raw: Any, _record: object) -> None:
        if not isinstance(raw, sqlite3.Connection):
            return
        path = Path(raw.execute("PRAGMA database_list").fetchone()[2])
        if any(map(path.is_relative_to, inside)) and raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            raw.execute("PRAGMA synchronous = NORMAL")
            with one_at_a_time:
                keep(path)

    def keep(path: Path) -> None:
        if path not in kept:
            kept[path] = sqlite3.connect(path, check_same_thread=False)
            kept[path].execute("PRAGMA schema_version").fetchone()  # only who has read it has it open
        kept.move_to_end(path)
        if len(kept) > KEPT_OPEN:
            kept.popitem(last=False)[1].close()

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
        for connection in kept.values():
            connection.close()


def _prepare_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, _record: object) -> None:
        raw.autocommit = True  # settings made inside a transaction end with it
        raw.execute(SESSION)
        raw.autocommit = False
