"""Build the next version of the warehouse and switch to it.

The file that analysts open is a link. A publish builds `v<N>.duckdb` beside it, checkpoints and
fsyncs it, and replaces the link: a reader that holds the old file keeps it, a reader that opens
anew sees the new one, and nobody ever waits or sees half of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import UsageError
from claude_pipeline.home import Home, sync_folder, written
from claude_pipeline.result import Measure, attempts_schema
from claude_pipeline.sql import QUIET, identifier, literal
from claude_pipeline.warehouse.ops import OPS, STAGED, stage
from claude_pipeline.warehouse.view import comments, measures, views

STORAGE_VERSION = "v1.5.0"  # so that DuckDB 1.5 clients open it too
VERSIONS_KEPT = 5


@dataclass(frozen=True)
class Contents:
    """What a version holds: rows of the ledger's tables, and the parts of each workload."""

    tables: Mapping[str, Iterable[Mapping[str, object]]]
    merged: Mapping[str, list[Path]]
    attempts: Mapping[str, list[Path]]
    measures: Mapping[str, Measure] = field(default_factory=dict)


def build(contents: Contents, home: Home, version: int) -> Path:
    """Build, fsync and link version `version`; returns its file.

    An existing file of that version is one whose publication was never recorded: it is replaced.
    """
    target = home.warehouse_versions / f"v{version}.duckdb"
    scratch = home.scratch() / f"publish-{version}"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with written(target) as temporary:
            _write(contents, temporary, scratch, home)
        crash_point("publish.before_switch")
        _switch(home.warehouse, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _drop_old(home, version)
    return target


def _write(contents: Contents, path: Path, scratch: Path, home: Home) -> None:
    with duckdb.connect(config={"temp_directory": str(scratch), "autoload_known_extensions": False}) as duck:
        duck.execute(QUIET)
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute("ATTACH ':memory:' AS stage")
        duck.execute(f"ATTACH {literal(str(path))} AS warehouse (STORAGE_VERSION {literal(STORAGE_VERSION)})")
        duck.execute("USE stage")
        duck.execute("CREATE SCHEMA staged")
        for name in STAGED:
            stage(duck, name, contents.tables[name], scratch)
        duck.execute("CREATE SCHEMA warehouse.ops")
        for table in OPS:
            target = f"warehouse.ops.{identifier(table.name)}"
            duck.execute(f"CREATE TABLE {target} AS {table.query}")
            duck.execute(f"COMMENT ON TABLE {target} IS {literal(table.comment)}")
            for column, meaning in table.columns.items():
                duck.execute(f"COMMENT ON COLUMN {target}.{identifier(column)} IS {literal(meaning)}")
        duck.execute("USE warehouse")
        for workload, parts in contents.merged.items():
            if parts:
                _views(duck, workload, parts, contents.attempts.get(workload) or [_no_attempts(home)])
                if workload in contents.measures:
                    _measured(duck, workload, contents.measures[workload])
        duck.execute("USE memory")
        duck.execute("DETACH warehouse")  # checkpoints: no WAL stays behind


def _views(duck: duckdb.DuckDBPyConnection, workload: str, merged: list[Path], attempts: list[Path]) -> None:
    duck.execute(f"CREATE SCHEMA {identifier(workload)}")
    for view, query in views(workload, merged, attempts).items():
        duck.execute(f"CREATE VIEW {identifier(workload)}.{identifier(view)} AS {query}")
        _comment(duck, workload, view)


def _measured(duck: duckdb.DuckDBPyConnection, workload: str, measure: Measure) -> None:
    """The views that measure answers. Where what is published has not the columns (yet), they are left out."""
    for view, query in measures(workload, measure).items():
        try:
            duck.execute(f"CREATE VIEW {identifier(workload)}.{identifier(view)} AS {query}")
        except duckdb.Error:
            continue
        _comment(duck, workload, view)


def _comment(duck: duckdb.DuckDBPyConnection, workload: str, view: str) -> None:
    columns = duck.sql(f"FROM {identifier(workload)}.{identifier(view)} LIMIT 0").columns
    for statement in comments(workload, view, columns):
        duck.execute(statement)


def _no_attempts(home: Home) -> Path:
    """An empty file of attempts, for a workload whose records were all answered before or rejected."""
    path = home.root / "results" / "none.parquet"
    if not path.exists():
        with written(path) as temporary:
            pq.write_table(attempts_schema([]).empty_table(), temporary)
    return path


def _switch(link: Path, target: Path) -> None:
    """Point the link at `target`, atomically."""
    draft = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.relative_to(link.parent))
    draft.replace(link)
    sync_folder(link.parent)


def _drop_old(home: Home, version: int) -> None:
    for path in home.warehouse_versions.glob("v*.duckdb"):
        number = path.stem.removeprefix("v")
        if number.isdecimal() and int(number) <= version - VERSIONS_KEPT:
            path.unlink(missing_ok=True)


def copy_to(home: Home, target: Path) -> int:
    """Write a self-contained copy, all views as tables, to `target`; returns its number of tables.

    Raises:
        UsageError: nothing is published yet, or the target is the warehouse itself.
    """
    if not home.warehouse.exists():
        raise UsageError(f"nothing is published yet at {home.warehouse}; run a workload first")
    if target.resolve() == home.warehouse.resolve():
        raise UsageError("--to names the warehouse itself; name another file")
    if target.exists():
        with target.open("rb") as file:
            if file.read(12)[8:] != b"DUCK":
                raise UsageError(f"--to: {target} exists and is no DuckDB file; name another one")
    tables = 0
    with written(target) as temporary, duckdb.connect() as duck:
        duck.execute(QUIET)
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute(f"ATTACH {literal(str(home.warehouse.resolve()))} AS source (READ_ONLY)")
        duck.execute(f"ATTACH {literal(str(temporary))} AS copy (STORAGE_VERSION {literal(STORAGE_VERSION)})")
        found = duck.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'source' ORDER BY ALL"
        ).fetchall()
        # The views name their own schema without the database, so they are read from inside it.
        for schema, name in found:
            duck.execute(f"CREATE SCHEMA IF NOT EXISTS copy.{identifier(schema)}")
            duck.execute("USE source")
            duck.execute(
                f"CREATE TABLE copy.{identifier(schema)}.{identifier(name)} AS FROM {identifier(schema)}.{identifier(name)}"
            )
            duck.execute("USE memory")
            tables += 1
        duck.execute("DETACH copy")
    return tables
