"""Build the next version of the warehouse and switch to it.

The file that analysts open is a link. A publish builds `v<N>.duckdb` beside it, checkpoints and
fsyncs it, and replaces the link: a reader that holds the old file keeps it, a reader that opens
anew sees the new one, and nobody ever waits or sees half of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.crash import crash_point
from claude_pipeline.duckdb_pool import leased
from claude_pipeline.home import Home, make_folder, sync_folder, written
from claude_pipeline.result import Measure, attempts_schema, comments_of
from claude_pipeline.sql import identifier, literal
from claude_pipeline.warehouse.ops import OPS, SLA, STAGED, OpsTable, stage
from claude_pipeline.warehouse.ops_comment import OPS_COMMENTS
from claude_pipeline.warehouse.view import ENUMS, comments, measures, types, views

STORAGE_VERSION = "v1.5.0"  # so that DuckDB 1.5 clients open it too
VERSIONS_KEPT = 5
PARTS_ASKED = 50  # newest parts that are asked what the output's columns mean


@dataclass(frozen=True)
class Contents:
    """What a version holds: rows of the ledger's tables, and the parts of each workload.

    `merged` has them by snapshot, oldest first; a snapshot has at least one.
    """

    tables: Mapping[str, Iterable[Mapping[str, object]]]
    merged: Mapping[str, Mapping[str, list[Path]]]
    attempts: Mapping[str, list[Path]]
    measures: Mapping[str, Measure] = field(default_factory=dict)


def build(contents: Contents, home: Home, version: int) -> Path:
    """Build, fsync and link version `version`; returns its file.

    An existing file of that version is one whose publication was never recorded: it is replaced.
    """
    target = home.warehouse_versions / f"v{version}.duckdb"
    scratch = make_folder(home.scratch() / f"publish-{version}")
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
    # One thread: each of hundreds of small statements would wait for a second one to wake.
    with leased(scratch, threads=1) as duck:
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute(f"ATTACH {literal(str(path))} AS warehouse (STORAGE_VERSION {literal(STORAGE_VERSION)})")
        duck.execute("CREATE SCHEMA staged")
        for name in STAGED:
            stage(duck, name, contents.tables[name], scratch)
        duck.execute("BEGIN")  # one write of the log for all of it: each statement would wait for the disk
        duck.execute("CREATE SCHEMA warehouse.ops")
        for statement in types("warehouse"):
            duck.execute(statement)
        for table in OPS:
            _ops_table(duck, table)
        duck.execute("USE warehouse")
        _ops_view(duck, SLA)
        duck.execute("COMMIT")
        for workload, merged in contents.merged.items():
            if merged:
                attempts = contents.attempts.get(workload) or [_no_attempts(home, _newest_part(merged))]
                duck.execute("BEGIN")
                _views(duck, workload, merged, attempts)
                duck.execute("COMMIT")
                if workload in contents.measures:
                    _measured(duck, workload, contents.measures[workload])
        duck.execute("USE memory")
        duck.execute("DETACH warehouse")  # checkpoints: no WAL stays behind


def _ops_table(duck: duckdb.DuckDBPyConnection, table: OpsTable) -> None:
    target = f"warehouse.ops.{identifier(table.name)}"
    columns = duck.sql(table.query).columns
    typed = [f"CAST({name} AS warehouse.ops.{name}) AS {name}" for name in columns if name in ENUMS]
    replaced = f"* REPLACE ({', '.join(typed)})" if typed else "*"
    duck.execute(f"CREATE TABLE {target} AS SELECT {replaced} FROM ({table.query})")
    _comment(duck, [f"COMMENT ON TABLE {target} IS {literal(table.comment)}", *_meanings(table, target, columns)])


def _ops_view(duck: duckdb.DuckDBPyConnection, view: OpsTable) -> None:
    target = f"ops.{identifier(view.name)}"
    duck.execute(f"CREATE VIEW {target} AS {view.query}")
    columns = duck.sql(f"FROM {target} LIMIT 0").columns
    _comment(duck, [f"COMMENT ON VIEW {target} IS {literal(view.comment)}", *_meanings(view, target, columns)])


def _meanings(table: OpsTable, target: str, columns: Sequence[str]) -> list[str]:
    said = {**OPS_COMMENTS, **table.columns}
    return [f"COMMENT ON COLUMN {target}.{identifier(name)} IS {literal(said[name])}" for name in columns]


def _comment(duck: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> None:
    """All in one: said one by one, some two hundred are nearly half of what a small publication takes."""
    duck.execute(";\n".join(statements))


def _newest_part(merged: Mapping[str, list[Path]]) -> Path:
    return list(merged.values())[-1][-1]


def _views(
    duck: duckdb.DuckDBPyConnection, workload: str, merged: Mapping[str, list[Path]], attempts: list[Path]
) -> None:
    duck.execute(f"CREATE SCHEMA {identifier(workload)}")
    for view, query in views(workload, merged, attempts).items():
        duck.execute(f"CREATE VIEW {identifier(workload)}.{identifier(view)} AS {query}")
    output: dict[str, str] = {}
    for path in [_newest_part(merged), *attempts[-PARTS_ASKED:]]:  # a later part says it in its own words
        output |= comments_of(pq.read_schema(path))
    asked = {view: _columns(duck, workload, view) for view in ("results", "attempts")}
    for view in views(workload, merged, attempts):
        # The others' columns are those of results: to ask each would open every file once more.
        _comment(duck, comments(workload, view, asked.get(view, asked["results"]), output))


def _measured(duck: duckdb.DuckDBPyConnection, workload: str, measure: Measure) -> None:
    """The views that measure answers. Where what is published has not the columns (yet), they are left out."""
    for view, query in measures(workload, measure).items():
        try:
            duck.execute(f"CREATE VIEW {identifier(workload)}.{identifier(view)} AS {query}")
        except duckdb.Error:
            continue
        _comment(duck, comments(workload, view, _columns(duck, workload, view), {}))


def _columns(duck: duckdb.DuckDBPyConnection, workload: str, view: str) -> list[str]:
    return duck.sql(f"FROM {identifier(workload)}.{identifier(view)} LIMIT 0").columns


def _no_attempts(home: Home, merged: Path) -> Path:
    """An empty file of attempts, for a workload that asked nothing: its records were answered before, or there are none."""
    output = [field for field in pq.read_schema(merged) if field.name in comments_of(pa.schema([field]))]
    schema = attempts_schema(output)
    digest = hashlib.sha256(str(schema).encode()).hexdigest()[:16]
    path = home.root / "results" / f"none-{digest}.parquet"
    if not path.exists():
        with written(path) as temporary:
            pq.write_table(schema.empty_table(), temporary)
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
