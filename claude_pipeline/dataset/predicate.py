"""Conditions that users write in SQL: checked before anything is sent, evaluated where nothing else can be reached.

A condition is one boolean expression over the columns it is given. Its parsed form is looked at, not
its text: no subquery, aggregate or window, no function whose value changes from call to call, no
column that is not there. DuckDB then binds it over an empty table, which gives its type. It is
evaluated without access to files but the one it is about, without extensions, and in bounded time.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset.records import Records
from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.sql import QUIET, file_literal, identifier, literal

MEMORY_LIMIT = "1GB"
CHECK_SECONDS = 10.0  # over no rows: what takes longer computes something beside the records
EVALUATE_SECONDS = 900.0  # over a snapshot: a hundred million rows of a plain comparison take less
_REFUSED = {
    "SUBQUERY": "holds a query of its own",
    "WINDOW": "looks at other rows (OVER)",
    "STAR": "names all columns at once",
    "PARAMETER": "has a parameter",
    "POSITIONAL_REFERENCE": "names a column by number",
}


@contextmanager
def guarded(
    scratch: Path, readable: Sequence[Path] = (), *, seconds: float = EVALUATE_SECONDS
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that reaches the `readable` folders and files and nothing else, for so long at most."""
    duck = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": 1,
            "temp_directory": str(scratch / "duckdb"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    timer = threading.Timer(seconds, duck.interrupt)
    timer.daemon = True
    try:
        duck.execute(QUIET)
        folders = [scratch, *(path for path in readable if path.is_dir())]
        files = [path for path in readable if not path.is_dir()]
        duck.execute(f"SET allowed_directories = [{', '.join(literal(f'{path}/') for path in folders)}]")
        duck.execute(f"SET allowed_paths = [{', '.join(literal(str(path)) for path in files)}]::VARCHAR[]")
        duck.execute("SET enable_external_access = false")
        duck.execute("SET lock_configuration = true")
        timer.start()
        yield duck
    finally:
        timer.cancel()
        duck.close()


def check_predicate(sql: str, columns: Mapping[str, pa.DataType], *, field: str, place: str, scratch: Path) -> None:
    """Whether `sql` is one boolean expression over `columns`.

    Raises:
        WorkloadInvalid: names the field, what is wrong and what there is.
    """

    def refuse(why: str) -> WorkloadInvalid:
        return WorkloadInvalid(f"{field}: {why}", place=place)

    with guarded(scratch, seconds=CHECK_SECONDS) as duck:
        tree = _parsed(duck, sql, refuse)
        names: set[str] = set()
        _walk(tree, duck, {name.lower() for name in columns}, names, refuse, list(columns))
        empty = ", ".join(f"{identifier(name)} {_sql_type(kind)}" for name, kind in columns.items())
        try:
            duck.execute(f"CREATE TABLE given ({empty})")
            kind = duck.sql(f"SELECT ({sql}\n) AS found FROM given").types[0]
        except duckdb.InterruptException:
            raise refuse(f"takes longer than {CHECK_SECONDS:g} s over no rows at all") from None
        except duckdb.Error as error:
            raise refuse(f"DuckDB refuses it: {str(error).splitlines()[0]}") from None
        if str(kind) != "BOOLEAN":
            raise refuse(f"gives {kind}, and must be true or false; write a comparison")


def _parsed(duck: duckdb.DuckDBPyConnection, sql: str, refuse: Any) -> Any:
    """The one expression as DuckDB's parser sees it."""
    if "\0" in sql or not sql.strip():
        raise refuse("is blank")
    text = duck.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT ({sql}\n) AS found"]).fetchall()[0][0]
    found = json.loads(text)
    if found["error"]:
        raise refuse(f"is no SQL condition: {str(found.get('error_message', '')).splitlines()[0]}")
    node = found["statements"][0]["node"] if len(found["statements"]) == 1 else {}
    whole = node.get("type") == "SELECT_NODE" and len(node["select_list"]) == 1
    others = ("where_clause", "group_expressions", "having", "qualify", "sample", "modifiers")
    if not whole or node["from_table"]["type"] != "EMPTY" or any(node.get(other) for other in others):
        raise refuse("must be one expression, as after WHERE")
    return node["select_list"][0]


def _walk(
    tree: Any, duck: duckdb.DuckDBPyConnection, known: set[str], own: set[str], refuse: Any, columns: list[str]
) -> None:
    """Refuse what an expression may not hold; `own` are the parameters of lambdas around it."""
    if isinstance(tree, list):
        for part in tree:
            _walk(part, duck, known, own, refuse, columns)
        return
    if not isinstance(tree, dict):
        return
    kind = tree.get("class")
    if kind in _REFUSED:
        raise refuse(f"{_REFUSED[kind]}; it may only look at the record before it")
    if kind == "COLUMN_REF" and tree["column_names"][0].lower() not in known | own:
        raise refuse(f"there is no column {tree['column_names'][0]!r}, only {', '.join(columns)}")
    if kind == "FUNCTION":
        _check_function(duck, tree["function_name"], refuse)
    if kind == "LAMBDA":
        own = own | {name.lower() for name in _names(tree["lhs"])}
    for name, part in tree.items():
        if not (kind == "LAMBDA" and name == "lhs"):
            _walk(part, duck, known, own, refuse, columns)


def _names(tree: Any) -> Iterator[str]:
    """The parameters of a lambda."""
    if isinstance(tree, list):
        for part in tree:
            yield from _names(part)
    elif isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            yield tree["column_names"][0]
        else:
            for part in tree.values():
                yield from _names(part)


def _check_function(duck: duckdb.DuckDBPyConnection, name: str, refuse: Any) -> None:
    found = duck.execute(
        "SELECT DISTINCT function_type, stability FROM duckdb_functions() WHERE function_name = ?", [name.lower()]
    ).fetchall()
    if any(kind == "aggregate" for kind, _ in found) and not any(kind == "scalar" for kind, _ in found):
        raise refuse(f"{name}() looks at other rows; it may only look at the record before it")
    if any(kind == "scalar" and stability != "CONSISTENT" for kind, stability in found):
        raise refuse(f"{name}() changes from one look to the next; the same record must always get the same answer")


@lru_cache(maxsize=64)
def _sql_type(kind: pa.DataType) -> str:
    """The column type that DuckDB reads an Arrow type from Parquet as: of a database of its own, which takes 20 ms to make."""
    with duckdb.connect() as duck:
        empty = pa.table({"c": pa.array([], kind)})
        return str(duck.from_arrow(empty).types[0])


def first_true(
    file: Path, predicates: Sequence[str], *, fields: Sequence[str], place: str, scratch: Path
) -> Iterator[pa.Array]:
    """For each record of a snapshot's file, in order, the number of the first predicate that is true; their
    count where none is. Null counts as false. Evaluated whole, then streamed from a file of one byte a row.

    `fields` name the predicates in messages; all of them were checked before.

    Raises:
        WorkloadInvalid: one fails on a row, or all take too long. The message never quotes a record.
    """
    cases = " ".join(f"WHEN ({sql}\n) THEN {number}" for number, sql in enumerate(predicates))
    with tempfile.TemporaryDirectory(dir=scratch, prefix="route-") as folder:
        file = _whole(file, Path(folder))
        rows = f"read_parquet({file_literal(file)})"
        query = f"SELECT (CASE {cases} ELSE {len(predicates)} END)::UTINYINT AS choice FROM {rows}"
        choices = Path(folder) / "choices.parquet"
        with guarded(scratch, [file]) as duck:
            try:
                duck.execute(f"COPY ({query}) TO {literal(str(choices))} (FORMAT parquet)")
            except duckdb.Error as error:
                raise WorkloadInvalid(_failed(duck, file, predicates, fields, error), place=place) from None
        with pq.ParquetFile(choices, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(50_000):
                yield batch.column(0)


def _whole(file: Path, folder: Path) -> Path:
    """The snapshot's file, or one of all its records, where it holds what differs from another one."""
    with Records(file) as records:
        if records.is_full:
            return file
        with pq.ParquetWriter(folder / "records.parquet", records.schema) as writer:
            for group in range(len(records.spans)):
                writer.write_table(pa.Table.from_batches(records.batches(group), records.schema))
    return folder / "records.parquet"


def _failed(
    duck: duckdb.DuckDBPyConnection, file: Path, predicates: Sequence[str], fields: Sequence[str], error: Exception
) -> str:
    """Which one it was, in a sentence."""
    if isinstance(error, duckdb.InterruptException) or "nterrupt" in str(error):
        return (
            f"{fields[0].split('.')[0]}: its conditions take longer than {EVALUATE_SECONDS / 60:g} min over the records"
        )
    for field, sql in zip(fields, predicates, strict=True):
        try:
            duck.sql(f"SELECT count(*) FILTER (WHERE ({sql}\n)) FROM read_parquet({file_literal(file)})").fetchall()
        except duckdb.Error as found:
            return (
                f"{field}: fails on a record ({type(found).__name__}); use TRY_CAST, or TRY( … ) around what may fail"
            )
    return f"{fields[0].split('.')[0]}: its conditions fail on a record ({type(error).__name__})"


__all__ = ["check_predicate", "first_true", "guarded"]
