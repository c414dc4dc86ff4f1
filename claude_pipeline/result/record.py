"""The records of a snapshot, as merged rows take them: checked by page, since neither pyarrow nor DuckDB does so unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.errors import LedgerDamaged


@contextmanager
def open_snapshot(path: Path) -> Iterator[pq.ParquetFile]:
    """Raises LedgerDamaged where it is gone, or no Parquet file (any more)."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def record_pieces(file: pq.ParquetFile, group: int, path: Path, *, rows: int) -> Iterator[pa.RecordBatch]:
    """The records of a row group of the snapshot at `path`, so many at a time. Raises LedgerDamaged."""
    try:
        yield from file.iter_batches(rows, row_groups=[group], use_threads=False)
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LedgerDamaged:
    return LedgerDamaged(f"{path} cannot be read ({error}); restore it from a backup")
