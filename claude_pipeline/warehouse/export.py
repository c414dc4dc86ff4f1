"""Copies of the warehouse that stand alone: one DuckDB file, or a folder of Parquet files with a manifest.

Either is built beside its place and put there in one step, so that a reader sees the old copy or the new one. What
stands there already is replaced only where it is such a copy, or where the caller insists.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import duckdb

from claude_pipeline.errors import UsageError
from claude_pipeline.home import TEMPORARY_SUFFIX, Home, check_writable, sha256_of, sync_folder, written
from claude_pipeline.sql import QUIET, identifier, literal
from claude_pipeline.warehouse.publish import STORAGE_VERSION

MANIFEST = "manifest.json"
MADE_BY = "claude-pipeline publish"
DUCKDB_SUFFIXES = (".duckdb", ".ddb", ".db")
READS_PARTS = ("results", "attempts")  # views over the home's files; the others are made of these two
MEMORY_LIMIT = "2GB"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux, renameat2(2)


class Format(StrEnum):
    """What a copy is."""

    DUCKDB = "duckdb"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Copied:
    """A copy that was made."""

    path: Path
    format: Format
    tables: int  # views included
    rows: int  # of its tables


def format_of(target: Path, *, as_written: str = "") -> Format:
    """By the name: a DuckDB file's suffix; a folder that is there or is written with a slash at its end.

    Raises:
        UsageError: the name does not say.
    """
    if target.is_dir() or as_written.endswith("/"):
        return Format.PARQUET
    if target.suffix.lower() in DUCKDB_SUFFIXES:
        return Format.DUCKDB
    raise UsageError(
        f"--to {target}: end it in .duckdb for one DuckDB file or in / for a folder of Parquet files, or add --format"
    )


def copy_to(home: Home, target: Path, *, format: Format = Format.DUCKDB, force: bool = False) -> Copied:
    """Copy the published warehouse to `target`, whole.

    Raises:
        UsageError: nothing is published yet, or the target is something else than such a copy; `force` replaces
            other files and folders, never the home or what holds it.
    """
    if not home.warehouse.exists():
        raise UsageError(f"nothing is published yet at {home.warehouse}; run a workload first")
    target = Path(os.path.abspath(target))
    _refuse(home, target, format, force)
    return _duckdb(home, target) if format is Format.DUCKDB else _parquet(home, target)


def _refuse(home: Home, target: Path, kind: Format, force: bool) -> None:
    """Say why a copy may not be put there."""
    place, root = target.resolve(), home.root.resolve()
    if place in (home.warehouse.resolve(), home.warehouse):
        raise UsageError("--to names the warehouse itself; name another file")
    if place == root or place in root.parents or home.warehouse_versions.resolve() in (place, *place.parents):
        raise UsageError(f"--to: {target} holds the home, or is part of it; name another place")
    check_writable(target)
    if not target.exists() or (kind is Format.PARQUET and target.is_dir() and not any(target.iterdir())):
        return
    if target.is_dir() != (kind is Format.PARQUET):
        what = "a folder" if target.is_dir() else "a file"
        raise UsageError(f"--to: {target} is {what}; name another place, or another --format")
    if not force and not (_our_folder(target) if kind is Format.PARQUET else _our_file(target)):
        raise UsageError(f"--to: {target} exists and is no copy of a warehouse; name another place, or add --force")


def _our_file(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(12)[8:] != b"DUCK":
            return False
    try:
        with duckdb.connect(str(path), read_only=True) as duck:
            found = duck.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'ops'").fetchall()
    except duckdb.Error:  # open elsewhere for writing, or of a newer version
        return False
    return {("snapshots",), ("chunks",), ("events",)} <= set(found)


def _our_folder(path: Path) -> bool:
    try:
        return bool(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["made_by"] == MADE_BY)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _opened(home: Home, scratch: Path) -> duckdb.DuckDBPyConnection:
    """The newest version, attached as `source`: views of it are read from inside."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(scratch),
        "preserve_insertion_order": False,  # half the memory; nobody may count on an order of rows
        "autoload_known_extensions": False,
    }
    duck = duckdb.connect(config=config)
    duck.execute(QUIET)
    duck.execute("SET TimeZone = 'UTC'")
    duck.execute(f"ATTACH {literal(str(home.warehouse.resolve()))} AS source (READ_ONLY)")
    return duck


def _tables(duck: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str, str]]:
    """Schema, name, comment and, of a view, its SQL; schemas by name, and what is made of others after it."""
    return duck.execute(
        f"""SELECT schema_name, name, comment, sql FROM (
                SELECT schema_name, table_name AS name, comment, '' AS sql, table_oid AS oid FROM duckdb_tables()
                WHERE database_name = 'source'
                UNION ALL
                SELECT schema_name, view_name, comment, sql, view_oid FROM duckdb_views()
                WHERE database_name = 'source' AND NOT internal)
            ORDER BY schema_name, name NOT IN {READS_PARTS}, oid"""
    ).fetchall()


def _duckdb(home: Home, target: Path) -> Copied:
    """Tables of the rows; what is made of them stays a view of them."""
    tables = rows = 0
    with written(target, private=False) as temporary, _opened(home, home.scratch()) as duck:
        duck.execute(f"ATTACH {literal(str(temporary))} AS copy (STORAGE_VERSION {literal(STORAGE_VERSION)})")
        duck.execute("CREATE SCHEMA copy.ops")
        for statement in _types(duck):
            duck.execute(statement)
        for schema, name, comment, sql in _tables(duck):
            of = f"{identifier(schema)}.{identifier(name)}"
            duck.execute(f"CREATE SCHEMA IF NOT EXISTS copy.{identifier(schema)}")
            view = bool(sql) and name not in READS_PARTS
            if view:
                duck.execute("USE copy")
                duck.execute(sql)
            else:
                duck.execute("USE source")
                duck.execute(f"CREATE TABLE copy.{of} AS FROM {of}")
                rows += duck.execute(f"SELECT count(*) FROM copy.{of}").fetchall()[0][0]
            duck.execute("USE memory")
            _comment(duck, schema, name, "VIEW" if view else "TABLE", comment)
            tables += 1
        duck.execute("DETACH copy")
    return Copied(target, Format.DUCKDB, tables, rows)


def _types(duck: duckdb.DuckDBPyConnection) -> list[str]:
    found = duck.execute(
        """SELECT type_name, labels FROM duckdb_types()
           WHERE database_name = 'source' AND schema_name = 'ops' AND logical_type = 'ENUM'"""
    ).fetchall()
    return [f"CREATE TYPE copy.ops.{identifier(n)} AS ENUM ({', '.join(map(literal, labels))})" for n, labels in found]


def _comment(duck: duckdb.DuckDBPyConnection, schema: str, name: str, kind: str, comment: str) -> None:
    of = f"copy.{identifier(schema)}.{identifier(name)}"
    duck.execute(f"COMMENT ON {kind} {of} IS {literal(comment or '')}")
    for column, _, meaning in _columns(duck, schema, name):
        duck.execute(f"COMMENT ON COLUMN {of}.{identifier(column)} IS {literal(meaning or '')}")


def _columns(duck: duckdb.DuckDBPyConnection, schema: str, name: str) -> list[tuple[str, str, str]]:
    """Name, type and comment."""
    return duck.execute(
        """SELECT column_name, data_type, comment FROM duckdb_columns()
           WHERE database_name = 'source' AND schema_name = ? AND table_name = ? ORDER BY column_index""",
        [schema, name],
    ).fetchall()


def _parquet(home: Home, target: Path) -> Copied:
    """`<schema>/<table>.parquet`, views included, and a manifest with counts, digests and what columns mean."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    listed = []
    try:
        with _opened(home, home.scratch()) as duck:
            for schema, name, comment, _ in _tables(duck):
                path = draft / schema / f"{name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                columns = [{"name": n, "type": t, "comment": c} for n, t, c in _columns(duck, schema, name)]
                duck.execute("USE source")
                of = f"{identifier(schema)}.{identifier(name)}"
                count = duck.execute(
                    f"COPY (FROM {of}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
                ).fetchall()[0][0]
                duck.execute("USE memory")
                _synced(path)
                listed.append(
                    {"schema": schema, "table": name, "comment": comment, "file": f"{schema}/{name}.parquet", "rows": count,
                     "sha256": sha256_of(path), "columns": columns}
                )  # fmt: skip
        manifest = {"made_by": MADE_BY, "version": home.warehouse.resolve().stem, "tables": listed}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        _synced(draft / MANIFEST)
        _put(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # after an exchange: what stood there before
    return Copied(target, Format.PARQUET, len(listed), sum(int(table["rows"]) for table in listed))


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _put(draft: Path, target: Path) -> None:
    """Put a folder in the place of another one: on Linux they change places in one step."""
    if target.exists() and not _exchanged(draft, target):
        aside = target.with_name(f"{draft.name}.old")
        target.rename(aside)
        draft.rename(target)
        shutil.rmtree(aside)
    elif not target.exists():
        draft.rename(target)
    sync_folder(target.parent)


def _exchanged(first: Path, second: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # not Linux
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0
