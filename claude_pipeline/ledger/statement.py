"""Statements that are made once, with their values beside them.

SQLAlchemy keeps what it made of a statement. One that holds its values is put together anew for each of them, and looked
up by all that it consists of: half of what a move took (2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Insert,
    MappingResult,
    Select,
    Table,
    Update,
    bindparam,
    insert,
    select,
    update,
)

_WHERE = "where_"  # before the name of a column that is looked for: it may be set as well


def insert_row(connection: Connection, to: Table, **columns: object) -> CursorResult[Any]:
    """Insert one row."""
    return connection.execute(_insert(to), columns)


def update_rows(connection: Connection, of: Table, where: Mapping[str, object], **columns: object) -> int:
    """Set columns of the rows whose columns equal those of `where`, none of which is null; returns how many there were."""
    return connection.execute(_update(of, tuple(where)), columns | _marked(where)).rowcount


def rows_where(connection: Connection, of: Table, **where: object) -> MappingResult:
    """The rows whose columns equal these, none of which is null; in no order."""
    return connection.execute(_select(of, tuple(where)), _marked(where)).mappings()


def _marked(where: Mapping[str, object]) -> dict[str, object]:
    return {f"{_WHERE}{name}": value for name, value in where.items()}


@cache
def _insert(to: Table) -> Insert:
    return insert(to)


@cache
def _update(of: Table, names: tuple[str, ...]) -> Update:
    return update(of).where(*(of.c[name] == bindparam(f"{_WHERE}{name}") for name in names))


@cache
def _select(of: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(of).where(*(of.c[name] == bindparam(f"{_WHERE}{name}") for name in names))
