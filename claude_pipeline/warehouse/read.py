"""Ask the warehouse from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from claude_pipeline.errors import UsageError
from claude_pipeline.settings import Settings
from claude_pipeline.sql import QUIET

if TYPE_CHECKING:
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


def connect(*, home: Path | None = None):  # type: ignore[no-untyped-def]
    """A read-only DuckDB connection to the published warehouse. Raises UsageError where there is none."""
    import duckdb

    warehouse = Settings.from_environment().with_home(home).home.warehouse
    if not warehouse.exists():
        raise UsageError(f"nothing is published yet at {warehouse}; run a workload first")
    # The version's own path: a second connect to a link would give this process the version it opened first.
    duck = duckdb.connect(str(warehouse.resolve()), read_only=True)
    duck.execute(QUIET)
    duck.execute("SET TimeZone = 'UTC'")
    return duck
