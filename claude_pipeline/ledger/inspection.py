"""Look at a ledger without making, migrating or repairing it: what `doctor` tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection

from claude_pipeline.ledger.connection import first_line, make_engine, name_of, parsed_url, told
from claude_pipeline.ledger.migration import VERSION, version_of

PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class LedgerSeen:
    """What stands at the ledger's address. `schema` is 0 where there is none yet; `known` is this version's."""

    address: str
    schema: int
    problems: tuple[str, ...] = ()  # of the database's own check; PostgreSQL has none
    known: int = VERSION


def inspect_ledger(url: str | None, *, path: Path) -> LedgerSeen:
    """Look at the ledger at `url`, by default the SQLite file `path`, as `Ledger.open` would find it.

    Raises:
        SettingInvalid: the URL cannot be used.
        LedgerUnreachable, LedgerDamaged: it gives no answer, or is no ledger.
    """
    parsed = parsed_url(url) if url else URL.create("sqlite", database=str(path))
    engine = make_engine(parsed)
    local = parsed.get_backend_name() == "sqlite"
    try:
        if local and not Path(parsed.database or "").exists():
            return LedgerSeen(name_of(engine), 0)
        with told(engine), engine.connect() as connection:
            problems = _problems(connection) if local else ()
            return LedgerSeen(name_of(engine), version_of(connection), problems)
    finally:
        engine.dispose()


def _problems(connection: Connection) -> tuple[str, ...]:
    """SQLite's own: pages and indexes first, then rows that refer to none."""
    found = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({PROBLEMS_SHOWN})")]
    if found == ["ok"]:
        found = [
            f"a row of {row[0]} refers to no row of {row[2]}"
            for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
        ]
    return tuple(first_line(problem) for problem in found[:PROBLEMS_SHOWN])
