"""Numbered steps from one schema of the ledger to the next.

Version 1 is `table.metadata` itself; a later version appends a step here, and `VERSION` grows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, update

from claude_pipeline.errors import LedgerNewer
from claude_pipeline.ledger import table

Step = Callable[[Connection], None]


def _m001_first_schema(connection: Connection) -> None:
    table.metadata.create_all(connection)
    connection.execute(insert(table.setting).values(key="ledger_id", value=secrets.token_hex(4)))
    connection.execute(insert(table.setting).values(key="schema_version", value="0"))


STEPS: list[Step] = [_m001_first_schema]
VERSION = len(STEPS)


def migrate(connection: Connection) -> None:
    """Bring the ledger to VERSION, inside the caller's transaction.

    Raises:
        LedgerNewer: it was written by a newer version of this package.
    """
    found = version_of(connection)
    if found > VERSION:
        raise LedgerNewer(
            f"the ledger has schema {found}, this version of claude_pipeline knows {VERSION}; upgrade claude_pipeline"
        )
    for number, step in enumerate(STEPS[found:], start=found + 1):
        step(connection)
        connection.execute(
            update(table.setting).where(table.setting.c.key == "schema_version").values(value=str(number))
        )


def version_of(connection: Connection) -> int:
    """The schema's number; 0 where there is no ledger yet."""
    if not inspect(connection).has_table(table.setting.name):
        return 0
    row = connection.execute(select(table.setting.c.value).where(table.setting.c.key == "schema_version")).scalar()
    return int(row) if row is not None else 0
