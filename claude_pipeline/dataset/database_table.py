"""The rows of a query in a database (any SQLAlchemy URL) as a table.

They are streamed from the server in pieces and staged in a scratch file, because a type is only
known when the last row is: it comes from the first piece, and where a later value does not fit,
the query is read again with that column as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from claude_pipeline.dataset.bound import DIALECTS
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.parquet_table import row_group_batches
from claude_pipeline.dataset.table import Table, check_names, fitted, plain_schema, plain_type
from claude_pipeline.dataset.watermark import Mark
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.workload import Workload

ROWS_PER_PIECE = 10_000


class _Misfit(Exception):
    def __init__(self, column: str) -> None:
        self.column = column


@dataclass(frozen=True)
class _Query:
    """What is run, and the types of columns for those that hold nothing but nulls."""

    sql: str
    known: Mapping[str, pa.DataType] = field(default_factory=dict)


def database_table(
    workload: Workload, *, scratch: Path, mark: Mark | None = None, known: pa.Schema | None = None
) -> Table:
    """`dataset.sql` run in `dataset.database`.

    Rows that lie below `mark`, of the dataset's watermark, are left unread where the database is one of
    `bound.DIALECTS`. `known` are the columns of an earlier snapshot.

    Raises:
        DatasetInvalid: the URL cannot be used, the database refuses, or the columns cannot be kept.
    """
    place = f"{workload.place}: sql"
    engine = _engine(workload)
    staged = scratch / "database.parquet"
    types = {each.name: each.type for each in known} if known is not None else {}
    query = _Query(workload.dataset.sql or "", types)
    bounded = _bounded(engine, workload, query, mark)
    origin = Origin()
    try:
        try:
            schema = _staged(engine, workload, bounded, staged, place)
            if bounded is not query and mark is not None:
                origin.begin(f"sql from {workload.dataset.watermark} = {mark.text} on")
        except DatasetInvalid:
            if bounded is query:
                raise
            # The column is of another type now, or the query none that can stand within another one.
            schema = _staged(engine, workload, query, staged, place)
    finally:
        engine.dispose()

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(staged, pre_buffer=False) as parquet:
            for batch in row_group_batches(parquet):
                yield fitted(batch, schema, place=place)
        staged.unlink()

    return Table(schema, origin.counted(batches()), place, origin)


def _bounded(engine: sa.Engine, workload: Workload, query: _Query, mark: Mark | None) -> _Query:
    """The query for the rows that may be new; itself where it is read in full."""
    column, dialect = workload.dataset.watermark, DIALECTS.get(engine.dialect.name)
    if column is None or mark is None or dialect is None:
        return query
    bound = dialect(engine.dialect.identifier_preparer.quote_identifier(column), mark)
    if bound is None:
        return query
    inner = query.sql.strip().removesuffix(";")
    return _Query(f"SELECT * FROM (\n{inner}\n) AS every_record WHERE {bound}", query.known)


def _staged(engine: sa.Engine, workload: Workload, query: _Query, path: Path, place: str) -> pa.Schema:
    as_text: set[str] = set()
    while True:
        try:
            return _stage(engine, workload, query, path, as_text, place)
        except _Misfit as misfit:
            as_text.add(misfit.column)


def _engine(workload: Workload) -> sa.Engine:
    assert workload.dataset.database is not None
    try:
        url = sa.make_url(workload.dataset.database)
        if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
            path = workload.find(url.database)
            if not path.is_file():  # SQLite would make an empty one
                raise DatasetInvalid(f"database: there is no file {path}", place=workload.place)
            url = url.set(database=str(path))
        return sa.create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # The URL can carry a password: it is never shown.
        raise DatasetInvalid(
            f"database: the URL cannot be used ({type(error).__name__}); write it as in sqlite:///data/shop.db, "
            "and install its driver",
            place=workload.place,
        ) from None


def _stage(
    engine: sa.Engine, workload: Workload, query: _Query, path: Path, as_text: set[str], place: str
) -> pa.Schema:
    try:
        with engine.connect() as connection:
            # no_parameters: a % in the query is itself, not a placeholder.
            options = {"stream_results": True, "yield_per": ROWS_PER_PIECE, "no_parameters": True}
            result = connection.execution_options(**options).exec_driver_sql(query.sql)
            if not result.returns_rows:
                raise DatasetInvalid("must be one query that gives rows, a SELECT", place=place)
            names = list(result.keys())
            check_names(names, id_column=workload.dataset.id, place=place)
            return _write(result.partitions(ROWS_PER_PIECE), names, path, as_text, query.known)
    except SQLAlchemyError as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        raise DatasetInvalid(
            f"the database refuses ({kind}); try the query with the database's own client", place=place
        ) from None


def _write(
    pieces: Iterator[Sequence[sa.Row[Any]]],
    names: list[str],
    path: Path,
    as_text: set[str],
    known: Mapping[str, pa.DataType],
) -> pa.Schema:
    first = next(pieces, [])
    columns = _columns(first, len(names))
    schema = pa.schema(
        [
            (name, _inferred(column, name in as_text, known.get(name)))
            for name, column in zip(names, columns, strict=True)
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        rows: Sequence[sa.Row[Any]] | None = first
        while rows:
            arrays = [_array(c, field) for c, field in zip(_columns(rows, len(names)), schema, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            rows = next(pieces, None)
    return plain_schema(schema)


def _columns(rows: Sequence[sa.Row[Any]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _inferred(values: Sequence[Any], as_text: bool, known: pa.DataType | None) -> pa.DataType:
    if as_text:
        return pa.string()
    if known is not None and all(value is None for value in values):
        return known
    try:
        return plain_type(pa.array(values).type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.string()


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    if field.type == pa.string():
        if any(type(value) not in (str, type(None)) for value in values):
            values = [_text(value) for value in values]
        return pa.array(values, pa.string())
    try:
        array = pa.array(values, field.type)
        # Arrow takes 1.5 into an integer column by cutting it, and True as 1.
        if array.type != plain_type(pa.array(values).type) and not _widened(values, field.type):
            raise _Misfit(field.name)
        return array
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise _Misfit(field.name) from None


def _widened(values: Sequence[Any], kind: pa.DataType) -> bool:
    """Whether values of another type still are themselves in `kind`: nulls only, or integers exact as doubles."""
    present = [value for value in values if value is not None]
    if not present:
        return True
    if pa.types.is_floating(kind):
        return all(type(v) is float or (type(v) is int and abs(v) <= 2**53) for v in present)
    return bool(pa.types.is_decimal(kind) or pa.types.is_nested(kind))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return str(value)
