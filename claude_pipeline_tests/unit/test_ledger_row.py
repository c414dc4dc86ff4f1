"""A record is made of a row by the names of its columns, wherever they stand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import RowMapping, create_engine, text

from claude_pipeline.ledger.row import Row


@dataclass(frozen=True)
class Two(Row):
    name: str
    number: int


@dataclass(frozen=True)
class TwoMore(Row):
    number: int
    name: str


def row(columns: str) -> RowMapping:
    with create_engine("sqlite://").connect() as connection:
        return connection.execute(text(f"SELECT {columns}")).mappings().one()


@pytest.mark.parametrize("columns", ["'a' AS name, 1 AS number", "1 AS number, 2 AS further, 'a' AS name"])
def test_each_field_has_the_column_of_its_name(columns: str) -> None:
    assert Two.of(row(columns)) == Two("a", 1)
    assert TwoMore.of(row(columns)) == TwoMore(1, "a")


def test_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="number"):
        Two.of(row("'a' AS name"))
