"""What is newer than a base: what is read for it, what is refused, and where its rows say they came from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from claude_pipeline.dataset import Mark, SnapshotFile
from claude_pipeline.dataset.bound import sqlite_bound
from claude_pipeline.errors import DatasetInvalid, DuplicateIds, LedgerDamaged
from claude_pipeline_tests.dataset_factory import records_of
from claude_pipeline_tests.factory import write_dataset
from claude_pipeline_tests.integration.increment_case import (
    ROWS_PER_GROUP,
    SOURCES,
    Row,
    Write,
    taken_after,
    write_csv,
    write_days,
    write_jsonl,
    write_parquet,
    write_sqlite,
)

FIRST = datetime(2026, 11, 1)  # noqa: DTZ001  a column without a time zone


def by_minute(first: int, last: int) -> list[Row]:
    return [{"id": n, "text": f"note {n}", "at": FIRST + timedelta(minutes=n)} for n in range(first, last)]


def ids_of(snapshot: SnapshotFile) -> list[int]:
    return [int(record["id"]) for record in records_of(snapshot)]


def damage_groups(path: Path, groups: int) -> None:
    """Overwrite the pages of the first row groups."""
    facts = pq.read_metadata(path)
    content = bytearray(path.read_bytes())
    for group in range(groups):
        for number in range(facts.num_columns):
            column = facts.row_group(group).column(number)
            begin = column.dictionary_page_offset or column.data_page_offset
            content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


VALUES: list[Any] = [
    pytest.param(lambda n: n, pa.int32(), id="int32"),
    pytest.param(lambda n: n - 50, pa.int64(), id="negative"),
    pytest.param(lambda n: date(2026, 1, 1) + timedelta(n), pa.date32(), id="date"),
    pytest.param(lambda n: FIRST + timedelta(minutes=n), pa.timestamp("s"), id="seconds"),
    pytest.param(lambda n: FIRST + timedelta(minutes=n), pa.timestamp("us", "Europe/Berlin"), id="time-zone"),
    pytest.param(lambda n: FIRST + timedelta(minutes=n), pa.timestamp("ns"), id="nanoseconds"),
    pytest.param(lambda n: (FIRST + timedelta(minutes=n)).isoformat(), pa.string(), id="iso-text"),
    pytest.param(lambda n: f"n{n:06d}", pa.large_string(), id="padded-text"),
]


@pytest.mark.parametrize(("value", "column"), VALUES)
@pytest.mark.parametrize("way", ["path", "sql"])
def test_row_groups_that_are_old_are_not_read(value: Any, column: pa.DataType, way: str, tmp_path: Path) -> None:
    if way == "sql" and column == pa.large_string():
        pytest.skip("DuckDB reads it all: text of one width is watched for a longer one")

    def write(count: int) -> dict[str, Any]:
        rows = {"id": list(range(count)), "text": ["a"] * count, "at": pa.array(map(value, range(count)), column)}
        pq.write_table(pa.table(rows), tmp_path / "x.parquet", row_group_size=ROWS_PER_GROUP)
        path = str(tmp_path / "x.parquet")
        return {"path": path} if way == "path" else {"sql": f"SELECT * FROM '{path}'"}

    base = taken_after(tmp_path, [], "base", **write(43))
    dataset = write(61)
    damage_groups(tmp_path / "x.parquet", 4)
    snapshot = taken_after(tmp_path, [base], "next", **dataset)
    assert ids_of(snapshot) == list(range(43, 61))
    with pytest.raises(DatasetInvalid):  # the damage is one: who reads all meets it
        taken_after(tmp_path, [], "all", **dataset)


def test_files_of_folders_that_are_old_are_not_opened(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "a", "at": f"2026-11-{n + 10}"} for n in range(5)]
    base = taken_after(tmp_path, [], "base", **write_days(tmp_path, rows[:3]))
    dataset = write_days(tmp_path, rows)
    for day in (10, 11):
        (tmp_path / "days" / f"at=2026-11-{day}" / "notes.jsonl").write_text("no JSON at all\n")
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset)) == [3, 4]


def test_row_groups_of_the_base_that_hold_no_tie_are_not_read(tmp_path: Path) -> None:
    base = taken_after(tmp_path, [], "base", **write_parquet(tmp_path, by_minute(0, 20_001)))
    assert pq.read_metadata(base.path).num_row_groups == 3
    damage_groups(base.path, 2)
    assert ids_of(taken_after(tmp_path, [base], "next", **write_parquet(tmp_path, by_minute(0, 20_003)))) == [
        20_001,
        20_002,
    ]
    damage_groups(base.path, 3)
    with pytest.raises(LedgerDamaged, match=r"base\.snapshot cannot be read .*restore it from a backup"):
        taken_after(tmp_path, [base], "again", **write_parquet(tmp_path, by_minute(0, 20_003)))


def test_a_row_group_with_a_null_is_never_old(tmp_path: Path) -> None:
    base = taken_after(tmp_path, [], "base", **write_parquet(tmp_path, by_minute(0, 40)))
    rows = by_minute(0, 45)
    rows[7]["at"] = None
    with pytest.raises(DatasetInvalid, match=r"1 record has no at \(first: notes.parquet, record 8\)"):
        taken_after(tmp_path, [base], "next", **write_parquet(tmp_path, rows))


def test_a_database_is_asked_for_new_rows_alone(tmp_path: Path) -> None:
    """`json` fails on what is no JSON, once it is asked for that row."""
    rows = [{"id": n, "text": '{"a": 1}', "at": f"2026-11-22 10:{n:02d}:00"} for n in range(20)]
    dataset = {**write_sqlite(tmp_path, rows[:12]), "sql": "SELECT id, json(text) AS text, at FROM note"}
    base = taken_after(tmp_path, [], "base", **dataset)
    write_sqlite(tmp_path, [*({**row, "text": "no JSON"} for row in rows[:11]), *rows[11:]])
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset)) == list(range(12, 20))
    with pytest.raises(DatasetInvalid, match="the database refuses"):
        taken_after(tmp_path, [], "all", **dataset)


KINDS_OF_POSTGRESQL: list[Any] = [
    pytest.param("bigint", "g", id="number"),
    pytest.param("timestamp", "timestamp '2026-11-01' + g * interval '1 minute'", id="timestamp"),
    pytest.param("timestamptz", "timestamptz '2026-11-01 00:00+05' + g * interval '1 minute'", id="time-zone"),
    pytest.param("date", "date '2026-01-01' + g", id="date"),
    pytest.param("text", "to_char(timestamp '2026-11-01' + g * interval '1 minute', 'YYYY-MM-DD HH24:MI:SS')", id="text"),
    pytest.param("text", "CASE WHEN g < 3 THEN 'B' ELSE 'a' END || lpad(g::text, 6, '0')", id="text-by-code-points"),
]  # fmt: skip


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> Iterator[str]:
    with postgresql_server.database() as url:
        yield url


@pytest.mark.parametrize(("column", "value"), KINDS_OF_POSTGRESQL)
def test_postgresql_is_asked_for_new_rows_alone(column: str, value: str, postgresql_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(postgresql_url)

    def grow(first: int, last: int) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'CREATE TABLE IF NOT EXISTS n (id int, part int, "at" {column})')
            connection.exec_driver_sql("UPDATE n SET part = 0 WHERE id < 4")  # a division by zero, once it is asked for
            connection.exec_driver_sql(f"INSERT INTO n SELECT g, 1, {value} FROM generate_series({first}, {last}) AS g")

    dataset = {"sql": 'SELECT id, 1 / part AS text, "at" FROM n ORDER BY id', "database": postgresql_url}
    grow(0, 4)
    base = taken_after(tmp_path, [], "base", **dataset)
    grow(5, 8)
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset)) == [5, 6, 7, 8]
    engine.dispose()
    with pytest.raises(DatasetInvalid, match="the database refuses"):
        taken_after(tmp_path, [], "all", **dataset)


@pytest.mark.parametrize("column", ['say "at"', "it's", "at; DROP TABLE note", "select", "100 %s"])
@pytest.mark.parametrize("write", [write_parquet, write_sqlite], ids=["duckdb", "sqlite"])
def test_a_column_may_have_any_name(write: Write, column: str, tmp_path: Path) -> None:
    def dataset(count: int) -> dict[str, Any]:
        quoted = column.replace('"', '""')
        found = write(tmp_path, [{"id": n, "at": f"2026-11-22T10:{n:02d}:00Z"} for n in range(count)])
        source = "note" if "sql" in found else f"'{found.pop('path')}'"
        return {**found, "sql": f'SELECT id, "at" AS "{quoted}" FROM {source}', "watermark": column}

    base = taken_after(tmp_path, [], "base", **dataset(5))
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset(8))) == [5, 6, 7]


@pytest.mark.parametrize("value", ["x' OR '1'='1", "2026-11-22'; DROP TABLE note; --", 'a"b', "a\\'"])
@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_text_that_could_end_a_literal_is_refused_and_never_reaches_one(
    write: Write, value: str, tmp_path: Path
) -> None:
    if write in (SOURCES["duckdb"], SOURCES["day-folders"]):
        pytest.skip("casts it, or could not name a folder so")
    with pytest.raises(DatasetInvalid, match="'at' holds text that does not grow") as refused:
        taken_after(tmp_path, [], "base", **write(tmp_path, [{"id": 1, "text": "a", "at": value}]))
    assert value not in str(refused.value)


NO_WATERMARKS: list[Any] = [
    pytest.param([1.5, 2.5], r"'at' is double; name one of whole numbers, .*or cast it in sql:", id="float"),
    pytest.param([True, False], r"'at' is bool; ", id="bool"),
    pytest.param([[1], [2]], r"'at' is list", id="list"),
    pytest.param([1, None], r"1 record has no at \(first: notes.\w+, (record|line) 2\)", id="null"),
    pytest.param(["2026-11-22", ""], r"1 record has no at \(first: notes.\w+, (record|line) 2\)", id="blank"),
    pytest.param(
        ["9", "10"], r"several forms, here as xx and before as x, .*CAST\(id AS BIGINT\)", id="numbers-as-text"
    ),
    pytest.param(["22.11.2026", "23.11.2026"], r"does not grow .*, (record|line) 1\), so a new record", id="day-first"),
]


@pytest.mark.parametrize("write", [write_parquet, write_jsonl], ids=["parquet", "jsonl"])
@pytest.mark.parametrize(("values", "message"), NO_WATERMARKS)
def test_what_does_not_grow_in_one_order_is_refused(
    write: Write, values: list[Any], message: str, tmp_path: Path
) -> None:
    rows = [{"id": n, "text": "a", "at": value} for n, value in enumerate(values)]
    with pytest.raises(DatasetInvalid, match=message):
        taken_after(tmp_path, [], "base", **write(tmp_path, rows))


@pytest.mark.parametrize("write", [write_parquet, write_csv, write_sqlite, SOURCES["jsonl"]])
def test_a_number_of_more_digits_than_the_base_has_is_refused_and_not_skipped(write: Write, tmp_path: Path) -> None:
    """As text `100` is less than `99`: it would never be read."""
    rows = [{"id": n, "text": "a", "at": str(n)} for n in range(88, 112)]
    base = taken_after(tmp_path, [], "base", **write(tmp_path, rows[:12]))
    with pytest.raises(DatasetInvalid, match="several forms, here as xxx and before as xx"):
        taken_after(tmp_path, [base], "next", **write(tmp_path, rows))


CHANGED: list[Any] = [
    pytest.param([1, 2], ["2026-11-22"], "text now, and was whole number", id="number-to-text"),
    pytest.param(["2026-11-22"], [5], "whole number now, and was text", id="text-to-number"),
    pytest.param([FIRST], [date(2026, 11, 2)], "date now, and was timestamp", id="timestamp-to-date"),
]


@pytest.mark.parametrize(("before", "after", "message"), CHANGED)
@pytest.mark.parametrize("way", ["parquet", "duckdb", "sqlite"])
def test_a_type_that_changed_is_refused(
    before: list[Any], after: list[Any], message: str, way: str, tmp_path: Path
) -> None:
    if way == "sqlite" and isinstance(before[0], datetime):
        pytest.skip("SQLite has no such types")

    def dataset(values: list[Any]) -> dict[str, Any]:
        write = write_sqlite if way == "sqlite" else write_parquet
        found = write(tmp_path, [{"id": n, "text": "a", "at": value} for n, value in enumerate(values)])
        return {"sql": f"SELECT * FROM '{found['path']}'"} if way == "duckdb" else found

    base = taken_after(tmp_path, [], "base", **dataset(before))
    with pytest.raises(DatasetInvalid, match=f"'at' is {message} in snapshot base.1.*cast it back in sql:"):
        taken_after(tmp_path, [base], "next", **dataset(after))


def test_a_finer_unit_is_no_other_type(tmp_path: Path) -> None:
    def dataset(count: int, unit: str) -> dict[str, Any]:
        table = pa.Table.from_pylist(by_minute(0, count))
        table = table.set_column(2, "at", table["at"].cast(pa.timestamp(unit)))
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=ROWS_PER_GROUP)
        return {"path": str(tmp_path / "x.parquet")}

    base = taken_after(tmp_path, [], "base", **dataset(15, "ms"))
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset(31, "ns"))) == list(range(15, 31))


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="watermark: there is no column 'att'; there are: at, text, id"):
        taken_after(tmp_path, [], "base", **write_parquet(tmp_path, by_minute(0, 3)), watermark="att")


def test_rows_say_where_they_stand_in_the_source(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "a", "at": f"2026-11-{20 + n % 2}"} for n in range(8)]
    base = taken_after(tmp_path, [], "base", **write_jsonl(tmp_path, [row for row in rows if row["at"].endswith("20")]))
    path = write_dataset(tmp_path / "notes.jsonl", rows)
    lines = path.read_text().splitlines(keepends=True)
    half = json.dumps({"id": 9, "text": "\ud83d", "at": "2026-11-21"}) + "\n"
    old_half = json.dumps({"id": 0, "text": "\ud83d", "at": "2026-11-20"}) + "\n"
    path.write_text("".join([old_half, "\n", *lines[1:6], half, *lines[6:]]))

    snapshot = taken_after(tmp_path, [base], "next", path=str(path))

    assert ids_of(snapshot) == [1, 3, 5, 9, 7]
    assert [snapshot.origin.place_of(row) for row in range(5)] == [
        f"notes.jsonl, line {line}" for line in (3, 5, 7, 8, 10)
    ]
    assert list(snapshot.origin.faults) == [3]  # the old record's fault is no concern of tonight


def test_a_repeated_id_names_the_lines_of_the_source(tmp_path: Path) -> None:
    base = taken_after(tmp_path, [], "base", **write_parquet(tmp_path, by_minute(0, 25)))
    rows = by_minute(0, 30)
    rows[28]["id"] = 26
    with pytest.raises(DuplicateIds, match=r"notes.parquet, record 27 and notes.parquet, record 29"):
        taken_after(tmp_path, [base], "next", **write_parquet(tmp_path, rows))


def test_rows_of_a_query_are_counted_from_where_it_was_read(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "a", "at": n} for n in range(9)]
    base = taken_after(tmp_path, [], "base", **write_sqlite(tmp_path, rows[:5]))
    snapshot = taken_after(tmp_path, [base], "next", **write_sqlite(tmp_path, rows))
    assert snapshot.origin.place_of(0) == "sql from at = 4 on, record 2"


def test_a_column_of_nulls_alone_keeps_the_type_it_had(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "a", "stars": None if n > 4 else n, "at": n} for n in range(9)]
    base = taken_after(tmp_path, [], "base", **write_sqlite(tmp_path, rows[:5]))
    snapshot = taken_after(tmp_path, [base], "next", **write_sqlite(tmp_path, rows))
    assert pq.read_schema(snapshot.path).field("stars").type == pa.int64()


def test_a_query_that_cannot_stand_within_another_is_read_in_full(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "a", "at": n} for n in range(9)]
    base = taken_after(tmp_path, [], "base", **write_sqlite(tmp_path, rows[:5]))
    dataset = {**write_sqlite(tmp_path, rows), "sql": "SELECT * FROM note; -- all"}
    assert ids_of(taken_after(tmp_path, [base], "next", **dataset)) == [5, 6, 7, 8]


def test_an_index_serves_the_condition(tmp_path: Path) -> None:
    """Else the database would read every row to leave the old ones out."""
    write_sqlite(tmp_path, [{"id": 1, "at": "2026-11-22"}])
    bound = sqlite_bound('"at"', Mark("text", "2026-11-22"))
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE INDEX by_time ON note (at)")
        plan = database.execute(
            f"EXPLAIN QUERY PLAN SELECT * FROM (SELECT * FROM note) AS every_record WHERE {bound}"
        ).fetchall()
    assert "SCAN" not in str(plan)
    assert str(plan).count("USING INDEX by_time") == 3
