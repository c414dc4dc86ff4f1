"""A ledger as version 4 of the schema left it, brought to today's: nothing lost, today's rules in force.

`ledger_of_schema_4/` was written by that version itself: a workload whose chunks are collected, live, in doubt and ready.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from claude_pipeline.errors import BudgetReached
from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.ledger.migration import VERSION
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import NO_WALLS
from claude_pipeline_tests.integration.ledger_case import COLLECTED, SPEND, opened

pytestmark = pytest.mark.both_databases

FOLDER = Path(__file__).parent / "ledger_of_schema_4"
Rows = dict[str, list[dict[str, Any]]]


def rows_of(connection: Connection, columns: Rows | None = None) -> Rows:
    """All tables, or the tables and columns that another reading had; in a fixed order."""
    found: Rows = {}
    for name in columns or inspect(connection).get_table_names():
        rows = [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
        if columns is not None and columns[name]:
            rows = [{key: row[key] for key in columns[name][0]} for row in rows]
        found[name] = sorted(rows, key=repr)
    return found


@pytest.fixture
def sql(home: Home, ledger_url: str | None) -> Iterator[Connection]:
    """The old ledger, before today's version has seen it."""
    script = (FOLDER / ("postgresql.sql" if ledger_url else "sqlite.sql")).read_text(encoding="utf-8")
    if ledger_url is None:
        with closing(sqlite3.connect(home.ledger)) as old:
            old.executescript(script)
    engine = create_engine(ledger_url or f"sqlite:///{home.ledger}")
    with engine.connect() as connection:
        if ledger_url is not None:
            connection.exec_driver_sql(script)
            connection.commit()
        yield connection
    engine.dispose()


@pytest.fixture
def before(sql: Connection) -> Rows:
    """What it holds; read in a transaction that is over."""
    found = rows_of(sql)
    sql.rollback()
    return found


@pytest.fixture
def migrated(before: Rows, home: Home, ledger_url: str | None) -> Iterator[Ledger]:
    with Ledger.open(ledger_url, path=home.ledger) as ledger:
        yield ledger


def test_nothing_is_lost(migrated: Ledger, before: Rows, sql: Connection) -> None:
    assert [len(before[name]) for name in ("chunk", "intent", "batch", "spend", "event")] == [4, 3, 2, 1, 12]
    after = rows_of(sql, before)
    after["setting"] = [{**row, "value": "4"} if row["key"] == "schema_version" else row for row in after["setting"]]
    assert after == before
    assert migrated.get_setting("schema_version") == str(VERSION)


def test_its_chunks_are_of_the_batch_lane(migrated: Ledger) -> None:
    chunks = migrated.chunks("notes")
    states = [ChunkState.DONE, ChunkState.LIVE, ChunkState.SENDING, ChunkState.READY]
    assert [(c.state, c.lane, c.lost, c.rescued_at) for c in chunks] == [(state, "batch", 0, None) for state in states]
    assert migrated.spent("notes", snapshot=chunks[0].snapshot) == [SPEND]


def test_it_goes_on_in_both_lanes(migrated: Ledger) -> None:
    done, _, _, ready = migrated.chunks("notes")
    with pytest.raises(BudgetReached):  # the old spending counts
        migrated.asking_started(
            ready, reserve_units=1, walls=replace(NO_WALLS, ledger_units=done.cost_units), why="", at=NOW
        )
    ready = migrated.chunk(ready.id)
    asking = migrated.asking_started(ready, reserve_units=2, walls=NO_WALLS, why="it is late", at=NOW)
    minutes = [replace(SPEND, lane="realtime", billed_at=NOW.replace(minute=minute), requests=5) for minute in (1, 2)]
    migrated.chunk_collected(asking, replace(COLLECTED, spend=tuple(minutes)), [], at=NOW)
    found = migrated.chunk(asking.id)
    assert (found.state, found.lane, found.batch_id, found.cost_units) == (ChunkState.DONE, "realtime", None, 14)
    assert len(migrated.spent("notes", snapshot=found.snapshot)) == 3
    last = migrated.unsettled_intents()[0]
    migrated.intent_absent(last, at=NOW)
    assert opened(migrated, migrated.chunk(last.chunk_id), 9).id > last.id


RULES: list[Any] = [
    pytest.param("UPDATE chunk SET state = 'nonsense' WHERE key = 'r1-0004'", id="states"),
    pytest.param("UPDATE chunk SET state = 'live' WHERE key = 'r1-0004'", id="live-without-a-batch"),
    pytest.param(
        "UPDATE chunk SET state = 'done', lane = 'realtime' WHERE key = 'r1-0004'", id="done-and-not-collected"
    ),
    pytest.param("UPDATE chunk SET lane = NULL WHERE key = 'r1-0004'", id="no-lane"),
    pytest.param("UPDATE chunk SET snapshot = 'another' WHERE key = 'r1-0004'", id="chunk-of-no-snapshot"),
    pytest.param("UPDATE chunk SET key = 'r1-0001' WHERE key = 'r1-0004'", id="two-chunks-of-one-name"),
    pytest.param("UPDATE intent SET chunk_id = 99 WHERE id = 1", id="intent-of-no-chunk"),
    pytest.param("DELETE FROM chunk WHERE key = 'r1-0001'", id="chunk-with-an-intent"),
    pytest.param("INSERT INTO spend SELECT * FROM spend", id="one-cost-twice"),
]


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("statement", RULES)
def test_its_rules_are_in_force(sql: Connection, ledger_url: str | None, statement: str) -> None:
    if ledger_url is None:
        sql.exec_driver_sql("PRAGMA foreign_keys = ON")
    with pytest.raises(IntegrityError):
        sql.execute(text(statement))


@pytest.mark.usefixtures("migrated")
def test_its_files_are_sound(sql: Connection, ledger_url: str | None) -> None:
    if ledger_url is not None:
        pytest.skip("SQLite's own checks")
    assert sql.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
    assert sql.exec_driver_sql("PRAGMA integrity_check").fetchall() == [("ok",)]


def shape_of(connection: Connection) -> dict[str, Any]:
    """Columns, keys, rules and indexes of each table, whatever their order."""
    look = inspect(connection)

    def of(name: str) -> dict[str, Any]:
        columns = {c["name"]: (str(c["type"]), c["nullable"], bare(c["default"])) for c in look.get_columns(name)}
        checks = {c["name"]: " ".join(str(c["sqltext"]).split()) for c in look.get_check_constraints(name)}
        uniques = sorted(tuple(u["column_names"]) for u in look.get_unique_constraints(name))
        foreign = sorted((tuple(f["constrained_columns"]), f["referred_table"]) for f in look.get_foreign_keys(name))
        indexes = sorted((str(i["name"]), tuple(i["column_names"]), bool(i["unique"])) for i in look.get_indexes(name))
        key = look.get_pk_constraint(name)["constrained_columns"]
        return {
            "columns": columns,
            "checks": checks,
            "key": key,
            "uniques": uniques,
            "foreign": foreign,
            "indexes": indexes,
        }

    return {name: of(name) for name in look.get_table_names()}


def bare(default: object) -> str | None:
    """SQLite keeps a default as it was written: `0` and `'0'` are one."""
    return None if default is None else str(default).partition("::")[0].strip("'")


@pytest.mark.usefixtures("migrated")
def test_its_shape_is_that_of_a_new_ledger(
    sql: Connection, ledger_url: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shape = shape_of(sql)
    if ledger_url is None:
        address = f"sqlite:///{tmp_path / 'new' / 'ledger.db'}"
        assert_same_shape(shape, address, tmp_path)
        return
    with request.getfixturevalue("postgresql_server").database() as address:
        assert_same_shape(shape, address, tmp_path)


def assert_same_shape(shape: dict[str, Any], address: str, folder: Path) -> None:
    with Ledger.open(address, path=folder / "new" / "ledger.db"):
        pass
    engine = create_engine(address)
    with engine.connect() as connection:
        new = shape_of(connection)
    engine.dispose()
    assert set(shape) == set(new)
    for name in new:
        assert shape[name] == new[name], name
