"""The records that a chunk answered, as merged rows: fused with collecting, flat in memory.

Both sides are in the order of the snapshot's rows, so the join is a walk: the snapshot's row groups
that hold the chunk's rows are read one after another, and of each the answered rows are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.compression import compression_of
from claude_pipeline.page_cache import let_go
from claude_pipeline.result.record import open_snapshot, record_pieces
from claude_pipeline.result.schema import merged_schema

ROWS_PER_PIECE = 10_000


def write_answered(attempts: pa.Table, snapshot: Path, snapshot_id: str, output: list[pa.Field], path: Path) -> int:
    """Write the merged rows of a chunk's succeeded requests to `path`; returns how many.

    `attempts` is in the order of the snapshot's rows, as a chunk's index is.

    Raises:
        LedgerDamaged: the snapshot is not what was written.
    """
    answered = attempts.filter(pc.equal(attempts.column("outcome"), "succeeded"))
    with open_snapshot(snapshot) as file:
        schema = merged_schema(file.schema_arrow, output)
        compression = compression_of(file.metadata)
        with pq.ParquetWriter(path, schema, compression=compression, write_page_checksum=True) as writer:
            for records, results in _walk(file, snapshot, answered):
                writer.write_batch(_joined(records, results, snapshot_id, schema))
    let_go(snapshot)
    return int(answered.num_rows)


def _walk(file: pq.ParquetFile, snapshot: Path, answered: pa.Table) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Pairs of snapshot rows and their results, row group by row group."""
    rows = answered.column("row").to_numpy()
    first = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        begin, end = np.searchsorted(rows, [first, first + count])
        if end > begin:
            start = first
            for batch in record_pieces(file, group, snapshot, rows=ROWS_PER_PIECE):
                low, high = np.searchsorted(rows, [start, start + batch.num_rows])
                if high > low:
                    yield _taken(batch, rows[low:high] - start), answered.slice(low, high - low)
                start += batch.num_rows
        first += count


def _taken(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Those rows of a batch; without a copy where they are all of them, as they mostly are."""
    if len(rows) == batch.num_rows and np.array_equal(rows, np.arange(batch.num_rows)):
        return batch
    return batch.take(pa.array(rows))


def _joined(records: pa.RecordBatch, results: pa.Table, snapshot_id: str, schema: pa.Schema) -> pa.RecordBatch:
    own = records.schema.names[1:]  # without record_id, in the order of the merged schema
    arrays = [pa.repeat(pa.scalar(snapshot_id), records.num_rows), *(records.column(name) for name in own)]
    arrays += [results.column(name).combine_chunks() for name in schema.names[1 + len(own) :]]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
