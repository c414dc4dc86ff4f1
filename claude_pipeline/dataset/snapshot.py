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

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset import identity
from claude_pipeline.dataset.csv_table import csv_table
from claude_pipeline.dataset.database_table import database_table
from claude_pipeline.dataset.increment import Base, Highest, newer, newer_files
from claude_pipeline.dataset.jsonl_table import jsonl_table
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.parquet_table import parquet_table
from claude_pipeline.dataset.query_table import query_table
from claude_pipeline.dataset.records import Records
from claude_pipeline.dataset.snapshot_file import COLUMNS_KEY, Full, Written, write_records
from claude_pipeline.dataset.source import find_files
from claude_pipeline.dataset.table import RECORD_ID, ROWS_PER_BATCH, Table
from claude_pipeline.dataset.watermark import Mark
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.home import make_folder, sha256_of, written
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class SnapshotFile:
    """A snapshot on disk. `digest` is the sha256 of its bytes; `columns` are the record's own,
    without `record_id` unless the id column has that name; `origin` says where each row came from; `mark` is
    the highest watermark of its base and its records, where the dataset has one; `own` is how many of its records
    differ from the full snapshot's, which are those that its file holds, and None where it is a full one."""

    path: Path
    records: int
    digest: str
    size_bytes: int
    columns: tuple[str, ...]
    origin: Origin = field(default_factory=Origin, repr=False, compare=False)
    mark: Mark | None = None
    own: int | None = None


def take_snapshot(
    workload: Workload, path: Path, *, scratch: Path, base: Base | None = None, full: Full | None = None
) -> SnapshotFile:
    """Read the workload's dataset and write it to `path`, whole or not at all.

    Of a dataset with a watermark the records that `base` does not hold, be they none. The file holds what differs from a
    `full` snapshot, where that is little.
    Streams: memory depends on how wide a record is, not on how many there are.

        >>> snapshot = take_snapshot(workload, home.snapshot("tickets", "2026-11-22.1"), scratch=home.scratch())
        >>> snapshot.records, snapshot.columns[:2]
        (1200, ('ticket_id', 'created_at'))

    Raises:
        DatasetInvalid: the dataset cannot be read as declared; the message never quotes a record.
        DuplicateIds: two records carry one id.
        LedgerDamaged: the full snapshot cannot be read, and is needed.
    """
    make_folder(scratch)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="snapshot-") as folder, written(path) as temporary:
        table = _open(workload, Path(folder), base)
        found = Highest(None)
        if workload.dataset.watermark is not None:
            table, found = newer(table, workload.dataset, base)
        columns = tuple(table.schema.names)
        kept = _write(table, workload, temporary, Path(folder), full)
        if kept.records == 0 and base is None and not workload.dataset.allow_empty:
            raise DatasetInvalid("holds no records; set allow_empty: true if that is meant", place=table.place)
        digest, size = sha256_of(temporary), temporary.stat().st_size
    return SnapshotFile(path, kept.records, digest, size, columns, table.origin, found.mark, kept.own)


def columns_of(snapshot: Path) -> tuple[str, ...]:
    """The record's own columns, from the file's footer alone."""
    return tuple(json.loads(pq.read_schema(snapshot).metadata[COLUMNS_KEY]))


def record_batches(
    snapshot: Path, *, columns: Sequence[str] | None = None, rows: int = ROWS_PER_BATCH
) -> Iterator[pa.RecordBatch]:
    """The records in order, streamed: at most one row group is in memory.

    Without `columns` all of them, `record_id` first. Page checksums are checked.
    """
    with Records(snapshot) as records:
        for group in range(len(records.spans)):
            yield from records.batches(group, columns=columns, rows=rows)


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


def _write(table: Table, workload: Workload, path: Path, scratch: Path, full: Full | None) -> Written:
    """Write the table with ids."""
    column = workload.dataset.id
    schema = _snapshot_schema(table.schema)
    if column is not None:
        pairs = identity.column_ids(table.batches, column, place=table.place, place_of=table.origin.place_of)
    else:
        pairs = identity.content_ids(table.batches, table.schema)
    batches: Iterator[pa.RecordBatch] = (_with_id(ids, batch, schema) for ids, batch in pairs)
    kept = write_records(path, schema, batches, place=table.place, scratch=scratch, full=full)
    ids = path
    if kept.own is not None and full is not None:
        if column is not None and identity.are_new(path, lambda: _all_ids(path, full)):
            return kept
        ids = _ids_of(path, full, scratch)
    if column is not None:
        identity.check_unique(ids, column, place=table.place, place_of=table.origin.place_of, scratch=scratch)
        return kept
    occurrences = identity.numbering(ids, scratch=scratch)
    first = next(occurrences, None)
    if first is None:
        return kept
    again = scratch / "numbered.parquet"
    batches = identity.numbered(_batches_of(path, full), itertools.chain([first], occurrences))
    kept = write_records(again, schema, batches, place=table.place, scratch=scratch, full=full)
    shutil.move(again, path)
    return kept


def _all_ids(path: Path, full: Full) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in _batches_of(path, full, [RECORD_ID]))


def _ids_of(path: Path, full: Full, scratch: Path) -> Path:
    """A file of all ids of a differential snapshot."""
    ids = scratch / "ids.parquet"
    with pq.ParquetWriter(ids, pa.schema([(RECORD_ID, pa.string())]), use_dictionary=False) as writer:
        for batch in _batches_of(path, full, [RECORD_ID]):
            writer.write_batch(batch)
    return ids


def _batches_of(path: Path, full: Full | None, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    with Records(path, full=None if full is None else full.path) as records:
        for group in range(len(records.spans)):
            yield from records.batches(group, columns=columns)


def _snapshot_schema(own: pa.Schema) -> pa.Schema:
    fields = [pa.field(RECORD_ID, pa.string()), *(field for field in own if field.name != RECORD_ID)]
    return pa.schema(fields, metadata={COLUMNS_KEY: json.dumps(own.names)})


def _with_id(ids: pa.Array, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, *(batch.column(name) for name in schema.names[1:])], schema=schema)
