"""Statements of the ledger are made once; their values stand beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, create_engine, event, select

from claude_pipeline.ledger.statement import insert_row, rows_where, update_rows

JOBS = Table(
    "job", MetaData(), Column("id", Integer, primary_key=True), Column("state", String), Column("note", String)
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    JOBS.metadata.create_all(engine)
    with engine.connect() as opened:
        for state in ("ready", "ready", "done"):
            insert_row(opened, JOBS, state=state, note=None)
        yield opened
    engine.dispose()


def told(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(select(JOBS).order_by(JOBS.c.id))]


def test_a_row_is_inserted_with_its_key(connection: Connection) -> None:
    assert insert_row(connection, JOBS, state="new").inserted_primary_key == (4,)
    assert told(connection)[3] == (4, "new", None)


def test_a_column_is_looked_for_and_set(connection: Connection) -> None:
    """A compare-and-set: nothing moves where the state is another."""
    assert update_rows(connection, JOBS, {"id": 1, "state": "ready"}, state="done", note="moved") == 1
    assert update_rows(connection, JOBS, {"id": 1, "state": "ready"}, state="lost", note="again") == 0
    assert told(connection) == [(1, "done", "moved"), (2, "ready", None), (3, "done", None)]


def test_all_that_fit_are_set_to_null_as_well(connection: Connection) -> None:
    assert update_rows(connection, JOBS, {"state": "ready"}, state=None) == 2
    assert told(connection) == [(1, None, None), (2, None, None), (3, "done", None)]


def test_rows_are_found_by_all_of_the_columns(connection: Connection) -> None:
    assert [row["id"] for row in rows_where(connection, JOBS, state="ready")] == [1, 2]
    assert [row["id"] for row in rows_where(connection, JOBS, state="ready", id=2)] == [2]
    assert rows_where(connection, JOBS, id=9).first() is None


def test_a_statement_is_the_same_for_other_values(connection: Connection) -> None:
    made: list[object] = []
    event.listen(connection, "before_execute", lambda _connection, statement, *_: made.append(statement))
    for number in (1, 2):
        update_rows(connection, JOBS, {"id": number}, note=f"{number}")
        rows_where(connection, JOBS, id=number).all()
        insert_row(connection, JOBS, state=f"{number}")
    assert len(made) == 6
    assert len({id(statement) for statement in made}) == 3
