"""The records of a snapshot, as merged rows take them: checked by page, since neither pyarrow nor DuckDB does so unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from claude_pipeline.dataset import Records, taken
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.result.gather import Places


@contextmanager
def open_snapshot(path: Path) -> Iterator[Records]:
    """Raises LedgerDamaged where it is gone, or no Parquet file (any more)."""
    try:
        records = Records(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error
    with records:
        yield records


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises LedgerDamaged where a page of the snapshot at `path` is not what was written."""
    try:
        yield
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
