"""The `ops` tables as the ledger has them now, before any publication: for pictures and tables beside a run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.sql import identifier, literal
from claude_pipeline.warehouse.ops import OPS, STAGED, stage

Row = Mapping[str, object]


def ask_ops(
    tables: Collection[str],
    sql: str,
    rows: Callable[[str], Iterable[Row]],
    scratch: Path,
    *,
    workload: str,
    snapshot: str | None = None,
) -> list[tuple[Any, ...]]:
    """Run SQL on `ops` tables of one workload, or of one snapshot of it; `rows` gives the ledger's by table.

    ask_ops(["costs"], "SELECT day, model, cost_usd FROM ops.costs", ledger.dump, scratch, workload="tickets")
    """
    folder = Path(tempfile.mkdtemp(prefix="ops-", dir=scratch))
    try:
        with leased(folder) as duck:
            duck.execute("SET TimeZone = 'UTC'")
            duck.execute("CREATE SCHEMA staged")
            queries = {table.name: table.query for table in OPS if table.name in tables}
            for name in STAGED:
                if any(f"staged.{name} " in query for query in queries.values()):
                    stage(duck, name, rows(name), folder)
            if "chunk" in _staged(duck):
                of = f"workload = {literal(workload)}" + (f" AND snapshot = {literal(snapshot)}" if snapshot else "")
                duck.execute(f"DELETE FROM staged.chunk WHERE NOT ({of})")
            duck.execute("CREATE SCHEMA ops")
            for name, query in queries.items():
                duck.execute(f"CREATE VIEW ops.{identifier(name)} AS {query}")
            return duck.execute(sql).fetchall()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _staged(duck: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in duck.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
