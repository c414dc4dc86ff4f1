"""DuckDB as a reader: one thread, a small memory, spilling into scratch.

One thread keeps the order of rows, and with it the snapshot's bytes, the same from run to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from claude_pipeline.sql import QUIET

MEMORY_LIMIT = "512MB"
READER_ROWS = 2_048  # DuckDB's own vector: more would hold more wide rows at once


@contextmanager
def connected(scratch: Path, *, memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database that spills into `scratch` and installs nothing."""
    connection = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": memory_limit,
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
