"""The records of a snapshot, as merged rows take them: checked by page, since neither pyarrow nor DuckDB does so unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.parquet_file import PIECE_ROWS, open_parquet
from claude_pipeline.result.gather import Places, taken


@contextmanager
def open_snapshot(path: Path) -> Iterator[pq.ParquetFile]:
    """Raises LedgerDamaged where it is gone, or no Parquet file (any more)."""
    try:
        file = open_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def record_pieces(file: pq.ParquetFile, group: int, path: Path) -> Iterator[pa.RecordBatch]:
    """The records of a row group of the snapshot at `path`, some at a time. Raises LedgerDamaged."""
    try:
        yield from file.iter_batches(PIECE_ROWS, row_groups=[group], use_threads=False)
    except OSError as error:
        raise _damaged(path, error) from error


def chosen(pieces: Iterable[pa.RecordBatch], rows: Places) -> pa.Table:
    """Of the pieces of a row group the records at `rows`, which ascend and count from its first one."""
    found, start = [], 0
    for piece in pieces:
        low, high = np.searchsorted(rows, [start, start + piece.num_rows])
        if high > low:
            found.append(taken(piece, rows[low:high] - start))
        start += piece.num_rows
    return pa.Table.from_batches(found)


def _damaged(path: Path, error: Exception) -> LedgerDamaged:
    return LedgerDamaged(f"{path} cannot be read ({error}); restore it from a backup")
