"""Numbered steps from one schema of the ledger to the next.

A new ledger is `table.metadata` as it is now; a step brings an older one there, and `VERSION` grows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Table, exists, insert, inspect, select, update

from claude_pipeline.errors import LedgerNewer
from claude_pipeline.ledger import table

Step = Callable[[Connection], None]


def _m001_first_schema(connection: Connection) -> None:
    table.metadata.create_all(connection)
    connection.execute(insert(table.setting).values(key="ledger_id", value=secrets.token_hex(4)))
    connection.execute(insert(table.setting).values(key="schema_version", value="0"))


def _m002_account_stop_cancel_and_retry(connection: Connection) -> None:
    """Columns that came with cancel, retry and merges told apart by number instead of by time."""
    _add_missing_columns(connection, [table.snapshot, table.chunk, table.part, table.batch])
    merged = table.snapshot.c.merged_at.is_not(None)
    connection.execute(update(table.snapshot).where(merged, table.snapshot.c.merge_number == 0).values(merge_number=1))
    part, snapshot = table.part, table.snapshot
    in_the_merge = exists().where(
        snapshot.c.workload == part.c.workload,
        snapshot.c.id == part.c.snapshot,
        snapshot.c.merged_plan == part.c.plan_number,
        snapshot.c.merged_at >= part.c.created_at,
    )
    connection.execute(update(part).where(part.c.current == 1, in_the_merge).values(merged=1))


def _m003_budget_and_prompt_cache(connection: Connection) -> None:
    """Columns that came with reserves kept for answers of unknown cost, and with chunks that wait for a primer."""
    _add_missing_columns(connection, [table.chunk])


def _m004_cascades_and_measures(connection: Connection) -> None:
    """Columns that came with cascades, and with answers measured against labels."""
    _add_missing_columns(connection, [table.workload, table.chunk])


def _add_missing_columns(connection: Connection, tables: Sequence[Table]) -> None:
    """`ALTER TABLE … ADD COLUMN` for each column that the database has not; new ones are nullable or have a default."""
    quote = connection.dialect.identifier_preparer.format_column
    for each in tables:
        there = {column["name"] for column in inspect(connection).get_columns(each.name)}
        for column in each.columns:
            if column.name not in there:
                kind = column.type.compile(connection.dialect)
                rule = " NOT NULL DEFAULT 0" if column.server_default is not None else ""
                connection.exec_driver_sql(f"ALTER TABLE {each.name} ADD COLUMN {quote(column)} {kind}{rule}")


STEPS: list[Step] = [
    _m001_first_schema,
    _m002_account_stop_cancel_and_retry,
    _m003_budget_and_prompt_cache,
    _m004_cascades_and_measures,
]
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
