"""The `ops` tables as the ledger has them now, before any publication: for pictures and tables beside a run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.sql import identifier, literal
from claude_pipeline.warehouse.ops import OPS, STAGED, stage

Row = Mapping[str, object]


class LiveOps:
    """Some `ops` tables of a workload, to be asked as long as the `with` lasts."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, workload: str) -> None:
        self._duck, self._workload = duck, workload

    def ask(self, sql: str, *, snapshot: str | None = None) -> list[tuple[Any, ...]]:
        """Run SQL on them, of all the workload or of one snapshot."""
        of = f"workload = {literal(self._workload)}" + (f" AND snapshot = {literal(snapshot)}" if snapshot else "")
        self._duck.execute(f"CREATE OR REPLACE VIEW staged.chunk AS SELECT * FROM staged.every_chunk WHERE {of}")
        return self._duck.execute(sql).fetchall()


@contextmanager
def live_ops(
    tables: Collection[str], rows: Callable[[str], Iterable[Row]], scratch: Path, *, workload: str
) -> Iterator[LiveOps]:
    """The `ops` tables of these names; `rows` gives the ledger's by table, each of which is read once.

    with live_ops(["costs"], ledger.dump, scratch, workload="tickets") as ops:
        ops.ask("SELECT day, model, cost_usd FROM ops.costs")
    """
    folder = Path(tempfile.mkdtemp(prefix="ops-", dir=scratch))
    queries = {table.name: table.query for table in OPS if table.name in tables}
    try:
        with leased(folder) as duck:
            duck.execute("SET TimeZone = 'UTC'")
            duck.execute("CREATE SCHEMA staged")
            for name in STAGED:
                if name == "chunk" or any(f"staged.{name} " in query for query in queries.values()):
                    stage(duck, name, rows(name), folder)
            duck.execute("ALTER TABLE staged.chunk RENAME TO every_chunk")
            duck.execute("CREATE VIEW staged.chunk AS SELECT * FROM staged.every_chunk")
            duck.execute("CREATE SCHEMA ops")
            for name, query in queries.items():
                duck.execute(f"CREATE VIEW ops.{identifier(name)} AS {query}")
            yield LiveOps(duck, workload)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
