"""Conditions in SQL: one boolean expression over the record, and nothing else can be reached from it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import check_predicate, first_true, guarded
from claude_pipeline.errors import WorkloadInvalid

COLUMNS = {
    "text": pa.string(),
    "size": pa.int64(),
    "customer": pa.struct([("plan", pa.string())]),
    "tags": pa.list_(pa.string()),
    "odd name": pa.bool_(),
    "seen_at": pa.timestamp("us", tz="UTC"),
}


def check(sql: str, scratch: Path) -> None:
    check_predicate(sql, COLUMNS, field="route.0.when", place="notes", scratch=scratch)


@pytest.mark.parametrize(
    "sql",
    [
        "size < 5",
        "SIZE BETWEEN 1 AND 3 OR text IS NULL",
        "text LIKE 'x%' -- and a word",
        "customer.plan = 'free'",
        "'vip' IN tags",
        '"odd name"',
        "list_transform(tags, lambda tag: upper(tag))[1] = 'A'",
        "TRY(CAST(text AS INT)) > 1",
        "CASE WHEN size = 1 THEN true END",
        "regexp_matches(text, '^a+$')",
        "seen_at > TIMESTAMP '2026-01-01'",
    ],
)
def test_a_condition_over_the_record_passes(tmp_path: Path, sql: str) -> None:
    check(sql, tmp_path)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        pytest.param("", "is blank", id="blank"),
        pytest.param("size <", "is no SQL condition: syntax error", id="syntax"),
        pytest.param("size = 1 /* open", "is no SQL condition", id="open-comment"),
        pytest.param("sise < 5", "there is no column 'sise', only text, size, customer", id="unknown-column"),
        pytest.param("current_date > '2026-01-01'", "there is no column 'current_date'", id="the-day"),
        pytest.param("nope(text)", "nope does not exist", id="unknown-function"),
        pytest.param("size", "gives BIGINT, and must be true or false", id="a-number"),
        pytest.param("text", "gives VARCHAR, and must be true or false", id="a-text"),
        pytest.param("true) FROM x; SELECT (1", "must be one expression", id="two-statements"),
        pytest.param("size IN (SELECT 1)", "holds a query of its own", id="subquery"),
        pytest.param("EXISTS (FROM read_text('/etc/hostname'))", "holds a query of its own", id="a-file"),
        pytest.param("EXISTS (FROM 'https://example.com/x.parquet')", "holds a query of its own", id="the-network"),
        pytest.param("sum(size) > 1", r"sum\(\) looks at other rows", id="aggregate"),
        pytest.param("row_number() OVER () = 1", "looks at other rows", id="window"),
        pytest.param("random() < 0.5", r"random\(\) changes from one look", id="random"),
        pytest.param("now() > seen_at", r"now\(\) changes from one look", id="now"),
        pytest.param("current_setting('home_directory') = 'x'", "changes from one look", id="setting"),
        pytest.param("*", "names all columns at once", id="star"),
        pytest.param("size = $1", "has a parameter", id="parameter"),
        pytest.param("#1", "names a column by number", id="by-number"),
    ],
)
def test_anything_else_is_refused_with_the_reason(tmp_path: Path, sql: str, sentence: str) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence) as refused:
        check(sql, tmp_path)
    assert str(refused.value).startswith("notes: route.0.when: ")


def written(folder: Path, values: list[str | None]) -> Path:
    """A file whose name DuckDB would read as a pattern."""
    path = folder / "texts[1].parquet"
    pq.write_table(pa.table({"text": values}), path)
    return path


def chosen(file: Path, *conditions: str) -> list[int]:
    fields = [f"route.{number}.when" for number in range(len(conditions))]
    found = first_true(file, conditions, fields=fields, place="notes", scratch=file.parent)
    return [choice for batch in found for choice in batch.to_pylist()]


def test_the_first_that_is_true_decides_and_null_is_false(tmp_path: Path) -> None:
    file = written(tmp_path, ["a", "b", "ab", None])
    assert chosen(file, "text LIKE 'a%'", "text LIKE '%b'") == [0, 1, 0, 2]


def test_rows_keep_their_order(tmp_path: Path) -> None:
    values: list[str | None] = [str(n % 7) for n in range(130_000)]
    assert chosen(written(tmp_path, values), "text = '3'") == [0 if value == "3" else 1 for value in values]


def test_a_condition_that_fails_on_a_record_is_named_and_the_record_is_not(tmp_path: Path) -> None:
    file = written(tmp_path, ["1", "secret"])
    with pytest.raises(WorkloadInvalid, match=r"route.1.when: fails on a record \(ConversionException\)") as failed:
        chosen(file, "text = '0'", "CAST(text AS INT) > 1")
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/hostname')",
        "FROM 'other.parquet'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "ATTACH 'x.db'",
        "COPY (SELECT 1) TO 'out.csv'",
    ],
)
def test_where_conditions_are_evaluated_nothing_else_can_be_reached(tmp_path: Path, sql: str) -> None:
    file = written(tmp_path, ["a"])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with guarded(scratch, [file]) as duck, pytest.raises(duckdb.Error):
        duck.execute(sql)


def test_what_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with guarded(tmp_path, seconds=0.2) as duck, pytest.raises(duckdb.InterruptException):
        duck.execute("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b").fetchall()
