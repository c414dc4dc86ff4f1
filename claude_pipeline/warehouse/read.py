"""Ask the warehouse from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pipeline.errors import UsageError
from claude_pipeline.settings import Settings
from claude_pipeline.sql import QUIET

if TYPE_CHECKING:
    import duckdb
    import pandas


def query(sql: str, *, home: Path | None = None) -> pandas.DataFrame:
    """Run SQL on the published warehouse, read only; times come in UTC.

        claude_pipeline.query("SELECT queue, count(*) FROM tickets.latest GROUP BY queue")

    Raises:
        UsageError: nothing is published yet.
    """
    rows = connect(home=home)
    try:
        return rows.execute(sql).df()
    finally:
        rows.close()


def connect(*, home: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A read-only DuckDB connection to the published warehouse. Raises UsageError where there is none."""
    return open_newest(Settings.from_environment().with_home(home).home.warehouse)


def open_newest(warehouse: Path, config: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """Open the version that the link names now, read only. Raises UsageError where nothing is published."""
    import duckdb

    if not warehouse.exists():
        raise UsageError(f"nothing is published yet at {warehouse}; run a workload first")
    # The version's own path: a second connect to a link would give this process the version it opened first.
    duck = duckdb.connect(str(warehouse.resolve()), read_only=True, config=dict(config or {}))
    duck.execute(QUIET)
    duck.execute("SET TimeZone = 'UTC'")
    return duck
