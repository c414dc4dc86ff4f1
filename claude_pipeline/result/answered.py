"""The records that a chunk answered, as merged rows: fused with collecting, flat in memory.

Both sides are in the order of the snapshot's rows, so the join is a walk: the snapshot's row groups
that hold the chunk's rows are read one after another, and of each the answered rows are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import Records
from claude_pipeline.parquet_file import begun, compression_of, options_for
from claude_pipeline.result.schema import merged_schema


def write_answered(attempts: pa.Table, snapshot: Path, snapshot_id: str, output: list[pa.Field], path: Path) -> int:
    """Write the merged rows of a chunk's succeeded requests to `path`; returns how many.

    `attempts` is in the order of the snapshot's rows, as a chunk's index is.

    Raises:
        LedgerDamaged: the snapshot is not what was written.
    """
    answered = attempts.filter(pc.equal(attempts.column("outcome"), "succeeded"))
    with Records(snapshot) as opened:
        schema = merged_schema(opened.schema, output)
        joined = (_joined(records, results, snapshot_id, schema) for records, results in _walk(opened, answered))
        first, merged = begun(joined, schema)
        with pq.ParquetWriter(path, schema, **options_for(first, compression_of(opened.metadata))) as writer:
            for rows in merged:
                writer.write_table(rows, row_group_size=len(rows))
    return int(answered.num_rows)


def _walk(snapshot: Records, answered: pa.Table) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Records of the snapshot and their results, row group by row group."""
    rows = answered.column("row").to_numpy()
    for span in snapshot.spans:
        begin, end = np.searchsorted(rows, [span.first, span.first + span.rows])
        if end > begin:
            yield snapshot.at(rows[begin:end]), answered.slice(begin, end - begin)


def _joined(records: pa.Table, results: pa.Table, snapshot_id: str, schema: pa.Schema) -> pa.Table:
    own = records.schema.names[1:]  # without record_id, in the order of the merged schema
    columns = [pa.repeat(pa.scalar(snapshot_id), len(records)), *(records.column(name) for name in own)]
    columns += [results.column(name) for name in schema.names[1 + len(own) :]]
    return pa.Table.from_arrays(columns, schema=schema)
