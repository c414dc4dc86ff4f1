"""A watermark as a condition of SQL, so that a database reads what may be new and leaves the rest.

A condition may let old rows by, which are filtered later; it must hold for every new one, and for what somebody
must see: nulls, and values of another type or form. A mark's text has letters, digits and `-_:.+ ` only
(`watermark.form_of`), so no literal of one can end early, whatever a database makes of quotes and backslashes.
"""

from __future__ import annotations

from collections.abc import Callable

from claude_pipeline.dataset.watermark import Mark, is_iso
from claude_pipeline.sql import literal

Dialect = Callable[[str, Mark], str | None]


def duckdb_bound(column: str, mark: Mark) -> str | None:
    """For DuckDB; `column` is quoted already. It must be of the mark's own kind."""
    match mark.kind:
        case "whole number":
            value = str(mark.number)
        case "date":
            value = f"CAST({literal(mark.text)} AS DATE)"
        case "timestamp":
            value = f"CAST({literal(_microseconds(mark))} AS TIMESTAMP)"
        case "timestamp with time zone":
            value = f"CAST({literal(_microseconds(mark))} AS TIMESTAMPTZ)"
        case "text":
            value = literal(mark.text)
    return f"{column} >= {value} OR {column} IS NULL{_other_widths(column, mark)}"


def sqlite_bound(column: str, mark: Mark) -> str | None:
    """For SQLite, which has numbers and text only and sorts all numbers before all text."""
    match mark.kind:
        case "whole number":
            return f"{column} >= {mark.number} OR {column} IS NULL"
        case "text":
            text = f"{column} COLLATE BINARY"
            return f"{text} >= {literal(mark.text)} OR {column} < '' OR {column} IS NULL{_other_widths(column, mark)}"
        case "date" | "timestamp" | "timestamp with time zone":
            return None


def postgresql_bound(column: str, mark: Mark) -> str | None:
    """For PostgreSQL; text by bytes, whatever the column's collation."""
    match mark.kind:
        case "whole number":
            value = str(mark.number)
        case "date":
            value = f"DATE {literal(mark.text)}"
        case "timestamp":
            value = f"TIMESTAMP {literal(_microseconds(mark))}"
        case "timestamp with time zone":
            value = f"TIMESTAMPTZ {literal(_microseconds(mark))}"
        case "text":
            return (
                f'{column} COLLATE "C" >= {literal(mark.text)} OR {column} IS NULL{_other_widths(column, mark)}'
            )  # fmt: skip
    return f"{column} >= {value} OR {column} IS NULL"


DIALECTS: dict[str, Dialect] = {"sqlite": sqlite_bound, "postgresql": postgresql_bound}  # others are read in full


def _microseconds(mark: Mark) -> str:
    """The moment cut to what these databases keep, which is never later."""
    whole, _, fraction = mark.text.removesuffix("+00:00").partition(".")
    return f"{whole}.{fraction[:6]}" + ("+00:00" if mark.kind == "timestamp with time zone" else "")


def _other_widths(column: str, mark: Mark) -> str:
    """`10` sorts before `9`: text of one width is watched for a longer one."""
    if mark.kind != "text" or is_iso(mark.text):
        return ""
    return f" OR length({column}) <> {len(mark.text)}"
