"""Numbered steps from one schema of the ledger to the next.

A new ledger is `table.metadata` as it is now; a step brings an older one there, and `VERSION` grows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    DefaultClause,
    String,
    Table,
    exists,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.schema import AddConstraint

from claude_pipeline.errors import LedgerDamaged, LedgerNewer
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


def _m005_real_time_lane(connection: Connection) -> None:
    """A further state of chunks, a lane, costs by the minute, and the tables of who asks now."""
    _add_missing_columns(connection, [table.snapshot, table.chunk])
    _replace_checks(connection, table.chunk)
    _rekey(connection, table.spend)
    table.metadata.create_all(connection, tables=[table.asking, table.rate])


def _m006_alerts(connection: Connection) -> None:
    """The table of what people were told."""
    table.metadata.create_all(connection, tables=[table.alert])


def _m007_watermarks(connection: Connection) -> None:
    """Columns that came with snapshots that hold what is newer than those before them."""
    _add_missing_columns(connection, [table.snapshot])


def _m008_differential_snapshots(connection: Connection) -> None:
    """A column that came with snapshots whose files hold what differs from that of another one."""
    _add_missing_columns(connection, [table.snapshot])


def _replace_checks(connection: Connection, changed: Table) -> None:
    """Give a table the CHECK constraints that it has in `table.metadata`, in place: others refer to it."""
    checks = [c for c in changed.constraints if isinstance(c, CheckConstraint)]
    if connection.dialect.name == "postgresql":
        for check in checks:
            connection.exec_driver_sql(f"ALTER TABLE {changed.name} DROP CONSTRAINT IF EXISTS {check.name}")
            connection.execute(AddConstraint(check, isolate_from_table=False))
        return
    # SQLite's own way to change a constraint of a table that others refer to is to edit its text.
    text_of = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
    sql = str(connection.exec_driver_sql(text_of, (changed.name,)).scalar_one())
    for check in checks:
        begin = sql.index(f"CONSTRAINT {check.name} CHECK (")
        end = _closing(sql, sql.index("(", begin))
        sql = f"{sql[:begin]}CONSTRAINT {check.name} CHECK ({check.sqltext}){sql[end + 1 :]}"
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?", (sql, changed.name)
    )
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")


def _closing(sql: str, opening: int) -> int:
    """Place of the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if depth == 0:
            return place
    raise LedgerDamaged("the ledger's schema cannot be read; restore a backup")


def _rekey(connection: Connection, changed: Table) -> None:
    """Give a table to which no other refers the primary key that it has in `table.metadata`."""
    columns = ", ".join(column.name for column in changed.columns)
    connection.exec_driver_sql(f"CREATE TABLE {changed.name}_before AS SELECT {columns} FROM {changed.name}")
    connection.exec_driver_sql(f"DROP TABLE {changed.name}")
    changed.create(connection)
    connection.exec_driver_sql(f"INSERT INTO {changed.name} ({columns}) SELECT {columns} FROM {changed.name}_before")
    connection.exec_driver_sql(f"DROP TABLE {changed.name}_before")


def _add_missing_columns(connection: Connection, tables: Sequence[Table]) -> None:
    """`ALTER TABLE … ADD COLUMN` for each column that the database has not; new ones are nullable or have a default."""
    quote = connection.dialect.identifier_preparer.format_column
    for each in tables:
        there = {column["name"] for column in inspect(connection).get_columns(each.name)}
        for column in each.columns:
            if column.name not in there:
                kind = column.type.compile(connection.dialect)
                rule = _default_of(column)
                connection.exec_driver_sql(f"ALTER TABLE {each.name} ADD COLUMN {quote(column)} {kind}{rule}")


def _default_of(column: Column[Any]) -> str:
    default = column.server_default
    if not isinstance(default, DefaultClause):
        return ""
    return (
        f" NOT NULL DEFAULT '{default.arg}'" if isinstance(column.type, String) else f" NOT NULL DEFAULT {default.arg}"
    )


STEPS: list[Step] = [
    _m001_first_schema,
    _m002_account_stop_cancel_and_retry,
    _m003_budget_and_prompt_cache,
    _m004_cascades_and_measures,
    _m005_real_time_lane,
    _m006_alerts,
    _m007_watermarks,
    _m008_differential_snapshots,
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
