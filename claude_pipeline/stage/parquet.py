"""A Parquet file of ours, read whole: without pandas, which `pyarrow.parquet.read_table` imports for its data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Its columns, or those named."""
    with pq.ParquetFile(path) as file:
        return file.read(None if columns is None else list(columns))
