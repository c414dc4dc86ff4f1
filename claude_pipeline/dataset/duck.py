"""DuckDB as a reader: one thread, a small memory, spilling into scratch.

One thread keeps the order of rows, and with it the snapshot's bytes, the same from run to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.sql import QUIET

MEMORY_MB = 512
READER_ROWS = 2_048  # DuckDB's own vector: more would hold more wide rows at once


def in_order(scratch: Path, *, memory_mb: int = MEMORY_MB) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """An in-memory database for queries of ours."""
    return leased(scratch, memory_mb=memory_mb, threads=1, keeps_order=True)


@contextmanager
def alone(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database for a query of somebody else, closed after it: nobody knows what it leaves behind."""
    connection = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": f"{MEMORY_MB}MB",
            "temp_directory": str(scratch / "duckdb"),
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute(QUIET)
    try:
        yield connection
    finally:
        connection.close()


def reader(relation: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
    """The relation's rows as they come. Of the relation, not of a result: those copy rows and warn."""
    return relation.to_arrow_reader(READER_ROWS)
