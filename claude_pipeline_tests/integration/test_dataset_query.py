"""Datasets that are queries: DuckDB over files, and SQLite through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import record_batches
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline_tests.dataset_factory import records_in, snapshot_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with data/x.parquet, data/shop.db and workloads/w.yaml; its YAML is the return value."""
    (tmp_path / "data").mkdir()
    (tmp_path / "workloads").mkdir()
    (tmp_path / "pyproject.toml").touch()
    pq.write_table(pa.table({"id": [1, 2, 3], "text": ["a", "b", "c"]}), tmp_path / "data" / "x.parquet")
    with sqlite3.connect(tmp_path / "data" / "shop.db") as database:
        database.execute("CREATE TABLE review (id INTEGER, text TEXT, stars, extra, note)")
        rows = [(n, f"text {n}", n % 5, None, None if n < 15_000 else "late") for n in range(20_000)]
        database.executemany("INSERT INTO review VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("CREATE TABLE mixed (id INTEGER, value)")
        database.executemany("INSERT INTO mixed VALUES (?, ?)", [(n, n) for n in range(10_000)])
    database.close()
    return tmp_path / "workloads" / "w.yaml"


def test_a_duckdb_query_finds_files_where_the_workload_does(project: Path) -> None:
    records = records_in(
        project.parent, project, sql="select id, upper(text) as text from 'data/x.parquet' where id > 1"
    )
    assert records == [{"id": 2, "text": "B"}, {"id": 3, "text": "C"}]


def test_a_duckdb_query_keeps_types_and_ids(project: Path) -> None:
    sql = """select 1 as n, sum(id) as total, [1, 2] as list, {'a': 'x'} as struct, 'x'::enum('x', 'y') as choice,
             date '2024-01-01' as day, null as nothing, 1.50::decimal(4, 2) as price from 'data/x.parquet'"""
    snapshot = snapshot_of(project.parent, project, sql=sql, id="total")
    (batch,) = record_batches(snapshot.path)
    assert batch.column("record_id").to_pylist() == ["6"]
    assert batch.column("struct").to_pylist() == [{"a": "x"}]
    types = {name: str(batch.schema.field(name).type) for name in ("choice", "day", "nothing", "price", "total")}
    assert types == {
        "choice": "string",
        "day": "date32[day]",
        "nothing": "string",
        "price": "decimal128(4, 2)",
        "total": "decimal128(38, 0)",
    }


QUERIES: list[Any] = [
    pytest.param("selct 1", r"sql: DuckDB refuses the query: Parser Error", id="syntax"),
    pytest.param("select nope from 'data/x.parquet'", r"refuses the query: Binder Error: .*nope", id="unknown-column"),
    pytest.param("select * from 'data/no.parquet'", r"refuses the query: .*data/no.parquet", id="unknown-file"),
    pytest.param("select 1 as a; select 2 as a", r"sql: must be one query", id="two-statements"),
    pytest.param("create table t (a int)", r"sql: must be one query", id="no-rows"),
    pytest.param("copy (select 1) to 'out.csv'", r"sql: must be one query", id="copy"),
    pytest.param("", r"sql: must be one query", id="nothing"),
    pytest.param("select 1 as a, 2 as a", r"column 'a' occurs 2 times", id="repeated-name"),
    pytest.param("select id from 'data/x.parquet' where false", r"sql: holds no records", id="no-records"),
    pytest.param(
        "select cast(text || ' private' as int) as n from 'data/x.parquet'",
        r"DuckDB failed on a row of the query \(ConversionException\)",
        id="bad-row",
    ),
]


@pytest.mark.parametrize(("sql", "message"), QUERIES)
def test_a_duckdb_query_that_cannot_be_used_is_refused(project: Path, sql: str, message: str) -> None:
    with pytest.raises(DatasetInvalid, match=message) as caught:
        snapshot_of(project.parent, project, sql=sql)
    assert "private" not in str(caught.value)


def test_rows_of_a_database_are_streamed_in_order_with_types(project: Path) -> None:
    sql = "select * from review order by id"
    snapshot = snapshot_of(project.parent, project, sql=sql, database="sqlite:///data/shop.db", id="id")
    batches = list(record_batches(snapshot.path))
    types = {field.name: str(field.type) for field in batches[0].schema}
    assert types == {
        "record_id": "string",
        "id": "int64",
        "text": "string",
        "stars": "int64",
        "extra": "string",
        "note": "string",
    }
    notes = [value for batch in batches for value in batch.column("note").to_pylist()]
    assert notes == [None] * 15_000 + ["late"] * 5_000


LATE: list[Any] = [
    pytest.param("x", ["0", "9999", "x"], id="text"),
    pytest.param(2.5, ["0", "9999", "2.5"], id="fraction"),
    pytest.param(b"\xffa", ["0", "9999", "\\xffa"], id="bytes"),
    pytest.param(None, [0, 9999, None], id="null-fits"),
    pytest.param(2**62, [0, 9999, 2**62], id="integer-fits"),
]


@pytest.mark.parametrize(("late", "expected"), LATE)
def test_a_late_value_of_another_type_makes_the_whole_column_text(
    project: Path, late: Any, expected: list[Any]
) -> None:
    with sqlite3.connect(project.parent.parent / "data" / "shop.db") as database:
        database.execute("INSERT INTO mixed VALUES (?, ?)", (10_000, late))
    database.close()
    records = records_in(project.parent, project, sql="select * from mixed", database="sqlite:///data/shop.db")
    assert [records[position]["value"] for position in (0, 9_999, 10_000)] == expected


DATABASES: list[Any] = [
    pytest.param("sqlite:///data/no.db", "select 1", r"database: there is no file .*data/no\.db", id="no-file"),
    pytest.param("no url", "select 1", r"database: the URL cannot be used", id="no-url"),
    pytest.param("oracle://u:hunter2@h/db", "select 1", r"URL cannot be used.*install its driver", id="no-driver"),
    pytest.param(
        "sqlite:///data/shop.db", "select nope from review", r"database refuses \(OperationalError\)", id="bad-query"
    ),
    pytest.param(
        "sqlite:///data/shop.db", "pragma user_version = 1", r"must be one query that gives rows", id="no-rows"
    ),
    pytest.param(
        "sqlite:///data/shop.db", "select * from review where id < 0", r"sql: holds no records", id="no-records"
    ),
    pytest.param(
        "sqlite:///data/shop.db", "select id, id from review", r"column 'id' occurs 2 times", id="repeated-name"
    ),
]


@pytest.mark.parametrize(("database", "sql", "message"), DATABASES)
def test_a_database_that_cannot_be_used_is_refused(project: Path, database: str, sql: str, message: str) -> None:
    with pytest.raises(DatasetInvalid, match=message) as caught:
        snapshot_of(project.parent, project, sql=sql, database=database)
    assert "hunter2" not in str(caught.value)


def test_a_percent_sign_and_a_colon_in_a_query_are_themselves(project: Path) -> None:
    sql = "select id, ':name' as colon from review where text like '%9999'"
    records = records_in(project.parent, project, sql=sql, database="sqlite:///data/shop.db")
    assert records == [{"id": 9_999, "colon": ":name"}, {"id": 19_999, "colon": ":name"}]
