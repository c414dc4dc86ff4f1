"""The records of a snapshot that no chunk of it answered itself, as merged rows.

What came from reuse (an earlier snapshot's answer) or is a duplicate (the same question in this
snapshot), what was rejected, and the dead letters with the reason of their last attempt. DuckDB joins
the keys and says where each answer stands; the texts are taken from the files, a row group at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import Records
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import PIECE_ROWS, compression_of, options_for
from claude_pipeline.result.level import PAID
from claude_pipeline.result.outcome import Outcomes
from claude_pipeline.result.place import MergeInput
from claude_pipeline.result.record import chosen
from claude_pipeline.result.schema import attempts_schema, merged_schema

KEYS_MEMORY_MB = 256  # of a join of keys, which takes 250 bytes a record of a pass; the rest is spilled
ROWS_PER_PASS = 500_000  # whose places are held, 17 bytes each; keys are read once for each pass, texts once in all


def write_rest(merge: MergeInput, path: Path, *, scratch: Path, rows_per_pass: int = ROWS_PER_PASS) -> Counter[str]:
    """Write the rest of a merge to `path`; returns its outcomes (an empty counter, and no file: no rest).

    Row groups are the snapshot's; within one, the answered records stand before the others.
    """
    empty = path.with_name(f"{path.name}.attempts")  # swept with it, should this process be killed
    pq.write_table(attempts_schema(merge.output).empty_table(), empty)

    @contextmanager
    def connect() -> Iterator[duckdb.DuckDBPyConnection]:
        with leased(scratch, memory_mb=KEYS_MEMORY_MB) as duck:
            duck.execute("SET parquet_metadata_cache = true")  # each query binds all files anew
            yield duck

    files = [empty, *merge.own_attempts, *merge.other_attempts]
    try:
        return _write(Outcomes(merge, files, connect, scratch, rows_per_pass), merge, path)
    finally:
        empty.unlink(missing_ok=True)


def _write(found: Outcomes, merge: MergeInput, path: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        snapshot = stack.enter_context(Records(merge.snapshot))
        schema = merged_schema(snapshot.schema, merge.output)
        writer: pq.ParquetWriter | None = None
        for group, span in enumerate(snapshot.spans):
            results = found.before(span.first + span.rows)
            if not results:
                continue
            pieces = list(snapshot.batches(group, rows=PIECE_ROWS))
            merged = pa.concat_tables([_joined(pieces, span.first, r, merge.snapshot_id, schema) for r in results])
            if writer is None:
                options = options_for(merged, compression_of(snapshot.metadata))
                writer = stack.enter_context(pq.ParquetWriter(path, schema, **options))
            writer.write_table(merged, row_group_size=len(merged))
            let_go(path)
            for counted in pc.value_counts(merged.column("outcome")).to_pylist():
                counts[counted["values"] or "pending"] += counted["counts"]
    return counts


def _joined(
    pieces: Sequence[pa.RecordBatch], start: int, results: pa.Table, snapshot_id: str, schema: pa.Schema
) -> pa.Table:
    """Merged rows: the pieces of a row group, whose first record is the snapshot's row `start`, and what became of some."""
    records = chosen(pieces, results.column("row").to_numpy() - start)
    own = records.schema.names[1:]  # without record_id, in the order of the merged schema
    columns = [pa.repeat(pa.scalar(snapshot_id), len(records)), *map(records.column, own), records.column(0)]
    for field in list(schema)[len(columns) :]:
        if field.name not in results.schema.names:  # nothing was answered, nothing paid
            nothing = pa.scalar(0 if field.name in PAID else None, field.type)
            columns.append(pa.repeat(nothing, len(records)))
            continue
        column = results.column(field.name)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
