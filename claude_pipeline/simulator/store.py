"""What the simulator remembers: SQLite for batches, lines and calls, files for spools and results.

Everything lies in one state directory, so a simulator started again on it goes on where it was.
One connection, one lock: safe for the threads of one process.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from claude_pipeline.simulator.batch import Batch
from claude_pipeline.simulator.price import Tokens

MESSAGES = 0  # the number under which lines of the Messages endpoint are kept; batches begin at 1
_FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL, version TEXT NOT NULL,
    betas TEXT NOT NULL, created_us INTEGER NOT NULL, due_us INTEGER NOT NULL, cap INTEGER NOT NULL,
    size INTEGER NOT NULL, size_bytes INTEGER NOT NULL, rules TEXT NOT NULL, visible_us INTEGER NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0, cancel_us INTEGER, ended_us INTEGER, deleted INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0, errored INTEGER NOT NULL DEFAULT 0, canceled INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0, billed INTEGER NOT NULL DEFAULT 0, cost_pico INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS line (  -- one row per request accepted; position is the finishing order
    batch INTEGER NOT NULL, position INTEGER NOT NULL, custom_id TEXT NOT NULL, digest BLOB NOT NULL,
    token TEXT, model TEXT, input INTEGER NOT NULL, output INTEGER NOT NULL, write_5m INTEGER NOT NULL,
    write_1h INTEGER NOT NULL, read INTEGER NOT NULL, cost_pico INTEGER NOT NULL, outcome TEXT NOT NULL,
    error_type TEXT, at_us INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    PRIMARY KEY (batch, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bill (  -- one row per ended batch and model
    batch INTEGER NOT NULL, model TEXT NOT NULL, billed INTEGER NOT NULL, input INTEGER NOT NULL,
    output INTEGER NOT NULL, write_5m INTEGER NOT NULL, write_1h INTEGER NOT NULL, read INTEGER NOT NULL,
    cost_pico INTEGER NOT NULL, PRIMARY KEY (batch, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS met (  -- which fault has met which question, and in which batch or message
    rule TEXT NOT NULL, digest BLOB NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (rule, digest, origin)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (month TEXT PRIMARY KEY, cost_pico INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS call (
    endpoint TEXT NOT NULL, answer TEXT NOT NULL, calls INTEGER NOT NULL, PRIMARY KEY (endpoint, answer)
) WITHOUT ROWID;
"""
_BATCH_COLUMNS = [field.name for field in fields(Batch)]
_SELECT = f"SELECT {', '.join(_BATCH_COLUMNS)} FROM batch"


class Line(NamedTuple):
    """One request accepted, as the invoice sees it."""

    batch: int
    position: int
    custom_id: str
    digest: bytes  # sha256 of the canonical params
    token: str | None  # the prompt's digest token; None where the params were refused
    model: str | None
    tokens: Tokens
    cost_pico: int  # 0 unless succeeded
    outcome: str
    error_type: str | None
    at_us: int
    end_offset: int  # where its result ends in the results file

    @classmethod
    def failed(cls, batch: int, custom_id: str, digest: bytes, error_type: str, at_us: int, position: int = 0) -> Line:
        """A request that was accepted and came back with an error; nothing is billed."""
        nothing = Tokens(0, 0)
        return cls(batch, position, custom_id, digest, None, None, nothing, 0, "errored", error_type, at_us, 0)


class Store:
    """The only one who touches the state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("upload", "spool", "results"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            directory / "simulator.db", check_same_thread=False, isolation_level=None, cached_statements=64
        )
        # The kernel keeps what a killed process wrote; a simulator need not survive a power cut.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_TABLES)
        if self.recall("format", _FORMAT) != _FORMAT:
            raise ValueError(f"{directory} was written by another version of the simulator; choose another --state")
        self.remember("format", _FORMAT)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def spool_path(self, batch_id: str) -> Path:
        return self.directory / "spool" / batch_id

    def results_path(self, batch_id: str) -> Path:
        return self.directory / "results" / f"{batch_id}.jsonl"

    def upload_path(self, name: str) -> Path:
        return self.directory / "upload" / name

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; may be entered again by the thread that is in it."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def batches(self, rest_of_query: str = "", values: Sequence[Any] = ()) -> list[Batch]:
        return [Batch(*row) for row in self.rows(f"{_SELECT} {rest_of_query}", values)]

    def batch(self, batch_id: str, workspace: str) -> Batch | None:
        """A batch of this workspace that was not deleted."""
        found = self.batches("WHERE id = ? AND workspace = ? AND NOT deleted", (batch_id, workspace))
        return found[0] if found else None

    def next_seq(self) -> int:
        return int(self.rows("SELECT COALESCE(MAX(seq), 0) + 1 FROM batch")[0][0])

    def insert_batch(self, batch: Batch) -> None:
        marks = ", ".join("?" * len(_BATCH_COLUMNS))
        with self.transaction() as db:
            db.execute(
                f"INSERT INTO batch ({', '.join(_BATCH_COLUMNS)}) VALUES ({marks})",
                [getattr(batch, name) for name in _BATCH_COLUMNS],
            )

    def insert_lines(self, lines: Iterable[Line]) -> None:
        with self.transaction() as db:
            db.executemany("INSERT INTO line VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", map(_line_row, lines))

    def add_message(self, line: Line, month: str) -> None:
        """A line of the Messages endpoint; its position is given here."""
        with self.transaction() as db:
            position = db.execute("SELECT COALESCE(MAX(position), 0) + 1 FROM line WHERE batch = 0").fetchone()[0]
            self.insert_lines([line._replace(batch=MESSAGES, position=position)])
            self.add_spend(month, line.cost_pico)

    def add_spend(self, month: str, cost_pico: int) -> None:
        with self.transaction() as db:
            db.execute(
                "INSERT INTO spend VALUES (?, ?) ON CONFLICT (month) DO UPDATE SET cost_pico = cost_pico + ?",
                (month, cost_pico, cost_pico),
            )

    def spend(self, month: str) -> int:
        """Picodollars billed in a calendar month (`2026-11`)."""
        found = self.rows("SELECT cost_pico FROM spend WHERE month = ?", (month,))
        return int(found[0][0]) if found else 0

    def count_call(self, endpoint: str, answer: str) -> None:
        with self.transaction() as db:
            db.execute(
                "INSERT INTO call VALUES (?, ?, 1) ON CONFLICT (endpoint, answer) DO UPDATE SET calls = calls + 1",
                (endpoint, answer),
            )

    def times_met(self, rule: str, digest: bytes, origin: str) -> int:
        """Note that a rule meets a question in `origin`; how often it met it elsewhere before."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO met VALUES (?, ?, ?)", (rule, digest, origin))
            query = "SELECT COUNT(*) FROM met WHERE rule = ? AND digest = ? AND origin <> ?"
            return int(db.execute(query, (rule, digest, origin)).fetchone()[0])

    def remember(self, name: str, value: Any) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def recall(self, name: str, default: Any = None) -> Any:
        found = self.rows("SELECT value FROM meta WHERE name = ?", (name,))
        return found[0][0] if found else default

    def clear(self) -> None:
        """Forget everything but the format and the clock."""
        with self.transaction() as db:
            for table in ("batch", "line", "bill", "met", "call", "spend"):
                db.execute(f"DELETE FROM {table}")
        for name in ("upload", "spool", "results"):
            for path in (self.directory / name).iterdir():
                path.unlink(missing_ok=True)


def _line_row(line: Line) -> tuple[Any, ...]:
    tokens = line.tokens
    return (
        line.batch,
        line.position,
        line.custom_id,
        line.digest,
        line.token,
        line.model,
        tokens.input,
        tokens.output,
        tokens.write_5m,
        tokens.write_1h,
        tokens.read,
        line.cost_pico,
        line.outcome,
        line.error_type,
        line.at_us,
        line.end_offset,
    )
