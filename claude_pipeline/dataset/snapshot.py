"""The snapshot file: the records as loaded, each with its id.

Parquet, page checksums, snappy where that halves it; the first column is `record_id` (text), then the record's own
columns in their order. A row group closes at 10,000 rows or 64 MB of values, counted over the
rows themselves and not over the pieces they came in: equal rows in equal order give equal bytes.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import identity
from claude_pipeline.dataset.csv_table import csv_table
from claude_pipeline.dataset.database_table import database_table
from claude_pipeline.dataset.increment import Base, Highest, newer, newer_files
from claude_pipeline.dataset.jsonl_table import jsonl_table
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.parquet_table import parquet_table, row_group_batches
from claude_pipeline.dataset.query_table import query_table
from claude_pipeline.dataset.source import find_files
from claude_pipeline.dataset.table import RECORD_ID, ROWS_PER_BATCH, Table
from claude_pipeline.dataset.watermark import Mark
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.home import make_folder, sha256_of, written
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import compression_for, in_pieces, open_parquet
from claude_pipeline.progress import told
from claude_pipeline.workload import Workload

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 64_000_000
_COLUMNS_KEY = b"claude_pipeline.columns"


@dataclass(frozen=True)
class SnapshotFile:
    """A snapshot on disk. `digest` is the sha256 of its bytes; `columns` are the record's own,
    without `record_id` unless the id column has that name; `origin` says where each row came from; `mark` is
    the highest watermark of its base and its records, where the dataset has one."""

    path: Path
    records: int
    digest: str
    size_bytes: int
    columns: tuple[str, ...]
    origin: Origin = field(default_factory=Origin, repr=False, compare=False)
    mark: Mark | None = None


def take_snapshot(workload: Workload, path: Path, *, scratch: Path, base: Base | None = None) -> SnapshotFile:
    """Read the workload's dataset and write it to `path`, whole or not at all.

    Of a dataset with a watermark the records that `base` does not hold, be they none.
    Streams: memory depends on how wide a record is, not on how many there are.

        >>> snapshot = take_snapshot(workload, home.snapshot("tickets", "2026-11-22.1"), scratch=home.scratch())
        >>> snapshot.records, snapshot.columns[:2]
        (1200, ('ticket_id', 'created_at'))

    Raises:
        DatasetInvalid: the dataset cannot be read as declared; the message never quotes a record.
        DuplicateIds: two records carry one id.
    """
    make_folder(scratch)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="snapshot-") as folder, written(path) as temporary:
        table = _open(workload, Path(folder), base)
        found = Highest(None)
        if workload.dataset.watermark is not None:
            table, found = newer(table, workload.dataset, base)
        columns = tuple(table.schema.names)
        records = _write(table, workload, temporary, Path(folder))
        if records == 0 and base is None and not workload.dataset.allow_empty:
            raise DatasetInvalid("holds no records; set allow_empty: true if that is meant", place=table.place)
        digest, size = sha256_of(temporary), temporary.stat().st_size
    return SnapshotFile(path, records, digest, size, columns, table.origin, found.mark)


def columns_of(snapshot: Path) -> tuple[str, ...]:
    """The record's own columns, from the file's footer alone."""
    return tuple(json.loads(pq.read_schema(snapshot).metadata[_COLUMNS_KEY]))


def record_batches(
    snapshot: Path, *, columns: Sequence[str] | None = None, rows: int = ROWS_PER_BATCH
) -> Iterator[pa.RecordBatch]:
    """The records in order, streamed: at most one row group is in memory.

    Without `columns` all of them, `record_id` first. Page checksums are checked.
    """
    with open_parquet(snapshot) as parquet:
        for group in range(parquet.num_row_groups):
            yield from row_group_batches(parquet, columns=columns, rows=rows, groups=[group])
            let_go(snapshot)


def _open(workload: Workload, scratch: Path, base: Base | None) -> Table:
    dataset = workload.dataset
    mark = base.mark if base is not None else None
    if dataset.sql is not None:
        if dataset.database is None:
            return query_table(workload, scratch=scratch, mark=mark)
        known = base.schema() if base is not None else None
        return database_table(workload, scratch=scratch, mark=mark, known=known)
    files = find_files(workload)
    if mark is not None and dataset.watermark is not None and dataset.watermark in files[0].partitions:
        files = newer_files(files, dataset.watermark, mark)
    match files[0].format:
        case "csv":
            table = csv_table(files, dataset, scratch=scratch)
        case "jsonl":
            table = jsonl_table(files, dataset, scratch=scratch)
        case "parquet":
            table = parquet_table(files, dataset, scratch=scratch, mark=mark)
    if base is None or table.schema.names:
        return table
    # JSON lines of which there are none tell no columns: nothing new, of the columns as they were.
    known = base.schema()
    return Table(pa.schema([known.field(name) for name in columns_of(base.newest)]), iter(()), table.place)


def _write(table: Table, workload: Workload, path: Path, scratch: Path) -> int:
    """Write the table with ids; returns how many records."""
    column = workload.dataset.id
    schema = _snapshot_schema(table.schema)
    if column is not None:
        pairs = identity.column_ids(table.batches, column, place=table.place, place_of=table.origin.place_of)
    else:
        pairs = identity.content_ids(table.batches, table.schema)
    records = _write_batches(path, schema, (_with_id(ids, batch, schema) for ids, batch in pairs), table.place)
    if column is not None:
        identity.check_unique(path, column, place=table.place, place_of=table.origin.place_of, scratch=scratch)
        return records
    occurrences = identity.numbering(path, scratch=scratch)
    first = next(occurrences, None)
    if first is not None:
        again = scratch / "numbered.parquet"
        batches = identity.numbered(record_batches(path), itertools.chain([first], occurrences))
        _write_batches(again, schema, batches, table.place)
        shutil.move(again, path)
    return records


def _snapshot_schema(own: pa.Schema) -> pa.Schema:
    fields = [pa.field(RECORD_ID, pa.string()), *(field for field in own if field.name != RECORD_ID)]
    return pa.schema(fields, metadata={_COLUMNS_KEY: json.dumps(own.names)})


def _with_id(ids: pa.Array, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, *(batch.column(name) for name in schema.names[1:])], schema=schema)


def _write_batches(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], place: str) -> int:
    groups = row_groups(batches, schema)
    first = next(groups, schema.empty_table())
    records = 0
    try:
        writer = pq.ParquetWriter(
            path,
            schema,
            compression=compression_for(first),
            write_page_checksum=True,
            use_dictionary=schema.names[1:],
        )
    except pa.ArrowException as error:
        raise DatasetInvalid(f"a column's type cannot be kept ({error}); cast it to text", place=place) from None
    with writer:
        for group in itertools.chain([first] if len(first) else [], groups):
            writer.write_table(group, row_group_size=len(group))
            let_go(path)
            records += len(group)
            told("loading", records, unit="records")
    return records


def row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in groups within both limits; where a group ends depends on the rows alone."""
    held: list[pa.RecordBatch] = []
    rows = size = 0

    def group() -> pa.Table:
        table = pa.Table.from_batches(held, schema)
        held.clear()
        return in_pieces(table)

    for batch in batches:
        ends = np.cumsum(value_bytes(pa.StructArray.from_arrays(batch.columns, fields=list(schema))))
        start = 0
        while start < len(batch):
            before = int(ends[start - 1]) if start else 0
            fit = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - size, side="right")) - start
            take = min(fit, ROW_GROUP_ROWS - rows, len(batch) - start)
            if take == 0 and rows:
                yield group()
                rows = size = 0
                continue
            take = max(take, 1)  # a row larger than the limit is a group of its own
            held.append(batch.slice(start, take))
            rows += take
            start += take
            size += int(ends[start - 1]) - before
    if held:
        yield group()


def value_bytes(array: pa.Array) -> np.ndarray:
    """Bytes of each element: the length of text, 8 for a number, the sum of what is nested."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0), dtype=np.int64)
    if pa.types.is_struct(kind):
        total = np.zeros(len(array), dtype=np.int64)
        for child in array.flatten():
            total += value_bytes(child)
        return total
    if pa.types.is_list(kind):
        ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64))
        inner = np.concatenate(([0], np.cumsum(value_bytes(array.flatten()))))
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        return inner[ends] - inner[starts]
    return np.full(len(array), 8, dtype=np.int64)
