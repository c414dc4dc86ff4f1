"""Parquet files as a table: types kept, the same columns in every file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset.origin import Fault, Origin
from claude_pipeline.dataset.plain import unchanged, unpacked
from claude_pipeline.dataset.row_group import old_groups
from claude_pipeline.dataset.source import SourceFile
from claude_pipeline.dataset.table import (
    BYTES_PER_BATCH,
    ROWS_PER_BATCH,
    Table,
    check_names,
    check_same_columns,
    fitted,
    plain_schema,
)
from claude_pipeline.dataset.watermark import Mark
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.parquet_file import open_parquet
from claude_pipeline.workload import Dataset


def parquet_table(files: Sequence[SourceFile], dataset: Dataset, *, scratch: Path, mark: Mark | None = None) -> Table:
    """All files of a dataset; where types differ the wider one holds all.

    Row groups that lie below `mark`, of the dataset's watermark, are left unread.

    Raises:
        DatasetInvalid: a file is cut, its columns differ, or its types cannot be reconciled.
    """
    first = files[0]
    partitions = list(first.partitions)
    unified: pa.Schema | None = None
    for file in files:
        with _opened(file, scratch) as parquet:
            schema = plain_schema(parquet.schema_arrow)
        check_names([*schema.names, *partitions], id_column=dataset.id, place=file.place)
        unified = schema if unified is None else _unified(unified, schema, file)
    assert unified is not None
    own = unified
    schema = pa.schema([*own, *(pa.field(name, pa.string()) for name in partitions)])
    origin = Origin()

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            origin.begin(file.name)
            with unchanged(file), _opened(file, scratch) as parquet:
                old = old_groups(parquet, dataset.watermark, mark) if dataset.watermark and mark else set()
                for batch in _batches(parquet, file.place, old, origin):
                    arrays = _fitted(batch, own, origin, file.place).columns
                    arrays += [
                        pa.repeat(pa.scalar(value, pa.string()), len(batch)) for value in file.partitions.values()
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return Table(schema, origin.counted(batches()), first.place, origin)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, origin: Origin, place: str) -> pa.RecordBatch:
    """As `fitted`, but for text that is no UTF-8. Where it stays text it is looked at once: 0.3 us a KB."""
    if all(pa.types.is_string(field.type) or not _is_text(batch.schema.field(field.name)) for field in schema):
        with suppress(DatasetInvalid):
            return fitted(batch, schema, place=place)
    return fitted(_sound(batch, origin), schema, place=place)


def _sound(batch: pa.RecordBatch, origin: Origin) -> pa.RecordBatch:
    """The batch with null for each text that is no UTF-8, which is a fault of its record."""
    for position, field in enumerate(batch.schema):
        array = batch.column(position)
        if not _is_text(field):
            continue
        try:
            array.validate(full=True)
        except pa.ArrowException:
            texts: list[str | None] = []
            for row, value in enumerate(array.cast(pa.large_binary()).to_pylist()):
                try:
                    texts.append(None if value is None else value.decode())
                except UnicodeDecodeError as error:
                    texts.append(None)
                    wrong = f"column {field.name} is not UTF-8 (byte 0x{value[error.start]:02X} at {error.start + 1})"
                    origin.fault(origin.rows + row, Fault("bad_unicode", wrong))
            batch = batch.set_column(position, field, pa.array(texts, field.type))
    return batch


def _is_text(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


def row_group_batches(
    parquet: pq.ParquetFile,
    *,
    columns: Sequence[str] | None = None,
    rows: int = ROWS_PER_BATCH,
    groups: Iterable[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows`, fewer where rows are wide, of these row groups or all. Never across row groups,
    so that one group at most is in memory."""
    for group in range(parquet.num_row_groups) if groups is None else groups:
        facts = parquet.metadata.row_group(group)
        row_bytes = max(1, facts.total_byte_size // max(1, facts.num_rows))
        yield from parquet.iter_batches(
            batch_size=max(1, min(rows, BYTES_PER_BATCH // row_bytes)),
            row_groups=[group],
            columns=None if columns is None else list(columns),
            use_threads=False,
        )


def _batches(parquet: pq.ParquetFile, place: str, old: set[int], origin: Origin) -> Iterator[pa.RecordBatch]:
    try:
        for group in range(parquet.num_row_groups):
            if group in old:
                origin.rows += parquet.metadata.row_group(group).num_rows
            else:
                yield from row_group_batches(parquet, groups=[group])
    except (OSError, pa.ArrowException):
        raise DatasetInvalid(
            "is damaged: a page cannot be read; copy it again from where it was made", place=place
        ) from None


@contextmanager
def _opened(file: SourceFile, scratch: Path) -> Iterator[pq.ParquetFile]:
    with unpacked(file, scratch=scratch) as path:
        if path.stat().st_size == 0:
            raise DatasetInvalid("is empty (0 bytes); copy it again from where it was made", place=file.place)
        try:
            parquet = open_parquet(path)
        except (OSError, pa.ArrowException):
            with path.open("rb") as opened:
                begins = opened.read(4) == b"PAR1"
            what = (
                "is not complete (no footer); copy it again"
                if begins
                else "is no Parquet file; correct its name or format:"
            )
            raise DatasetInvalid(what, place=file.place) from None
        with parquet:
            yield parquet


def _unified(known: pa.Schema, schema: pa.Schema, file: SourceFile) -> pa.Schema:
    check_same_columns(schema.names, known.names, file.place)
    fields = []
    for field in known:
        other = schema.field(field.name)
        try:
            fields += pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive")
        except pa.ArrowException:
            raise DatasetInvalid(
                f"column {field.name!r} is {other.type}, but {field.type} before; write all files with one type",
                place=file.place,
            ) from None
    return pa.schema(fields)
