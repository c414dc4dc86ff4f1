"""The rows of a DuckDB query as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from claude_pipeline.dataset.bound import duckdb_bound
from claude_pipeline.dataset.duck import alone, reader
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.table import Table, check_names, fitted, plain_schema
from claude_pipeline.dataset.watermark import Mark, kind_of
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.sql import identifier, literal
from claude_pipeline.whereabouts import roots
from claude_pipeline.workload import Workload

# These speak of the query; all others, and InvalidInputException among these, can quote what the rows hold.
_ABOUT_THE_QUERY = (duckdb.ProgrammingError, duckdb.IOException, duckdb.PermissionException)


def query_table(workload: Workload, *, scratch: Path, mark: Mark | None = None) -> Table:
    """`dataset.sql` run by DuckDB; relative paths in it start where the workload's own do.

    Rows that lie below `mark`, of the dataset's watermark, are left unread where the sources of the query let it.

    Raises:
        DatasetInvalid: the query is not one SELECT, or fails.
    """
    place = f"{workload.place}: sql"
    rows = _rows(workload, place, scratch, mark)
    schema = next(rows)
    assert isinstance(schema, pa.Schema)
    check_names(schema.names, id_column=workload.dataset.id, place=place)
    own = plain_schema(schema)
    origin = Origin()
    if mark is not None:
        origin.begin(f"sql from {workload.dataset.watermark} = {mark.text} on")
    return Table(own, origin.counted(fitted(batch, own, place=place) for batch in rows), place, origin)


def _unended(query: str) -> str:
    """One statement up to its semicolon, which with a comment behind it could not stand within another query."""
    text = query.encode()
    ends = (place for place, _ in duckdb.tokenize(query) if text[place : place + 1] == b";")
    return text[: next(ends, None)].decode()


def _bounded(query: duckdb.DuckDBPyRelation, column: str, mark: Mark) -> duckdb.DuckDBPyRelation:
    """The rows that may be new. As they are where the column is missing or of another type: that is told later."""
    schema = query.limit(0).to_arrow_table().schema
    if schema.names.count(column) != 1 or kind_of(schema.field(column).type) != mark.kind:
        return query
    bound = duckdb_bound(identifier(column), mark)
    return query.filter(bound) if bound is not None else query


def _rows(workload: Workload, place: str, scratch: Path, mark: Mark | None) -> Iterator[pa.Schema | pa.RecordBatch]:
    """The schema, then the batches: one generator, so that the connection closes with the last."""
    query = workload.dataset.sql or ""
    folders = roots(workload.source) if workload.source else [Path.cwd()]
    with alone(scratch) as connection:
        try:
            # A comma separates the folders, so one that holds a comma cannot be given.
            search = ",".join(str(folder) for folder in folders if "," not in str(folder))
            connection.execute(f"SET file_search_path = {literal(search)}")
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise DatasetInvalid("sql: must be one query that gives rows, a SELECT", place=workload.place)
            relation = connection.sql(_unended(query))
            column = workload.dataset.watermark
            stream = reader(_bounded(relation, column, mark) if column and mark else relation)
            yield stream.schema
            yield from stream
        except (duckdb.Error, pa.ArrowException) as error:
            if isinstance(error, _ABOUT_THE_QUERY) and not isinstance(error, duckdb.InvalidInputException):
                raise DatasetInvalid(f"DuckDB refuses the query: {str(error).splitlines()[0]}", place=place) from None
            raise DatasetInvalid(
                f"DuckDB failed on a row of the query ({type(error).__name__}); run it in a DuckDB shell to see which, "
                "or use try_cast and the like",
                place=place,
            ) from None
