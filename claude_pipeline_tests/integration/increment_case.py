"""One append-only table in each form that a dataset can have, and snapshots of it that rest on each other."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset import Base, SnapshotFile, take_snapshot
from claude_pipeline_tests.dataset_factory import make_workload
from claude_pipeline_tests.factory import write_dataset

Row = dict[str, Any]
Write = Callable[[Path, Sequence[Row]], dict[str, Any]]  # the rows as they stand tonight -> the dataset that reads them
ROWS_PER_GROUP = 10


def write_parquet(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "notes.parquet", row_group_size=ROWS_PER_GROUP)
    return {"path": str(folder / "notes.parquet")}


def write_jsonl(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    return {"path": str(write_dataset(folder / "notes.jsonl", rows))}


def write_csv(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    with (folder / "notes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {"path": str(folder / "notes.csv")}


def write_duckdb(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """A query over JSON lines that casts the watermark, ordered against it; with what may end a query."""
    path = write_dataset(folder / "rows.jsonl", rows)
    query = f"""SELECT * REPLACE (CAST("at" AS TIMESTAMP) AS "at") FROM read_json('{path}') ORDER BY "at" DESC, id; -- all"""
    return {"sql": query}


def write_sqlite(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    with closing(sqlite3.connect(folder / "shop.db")) as database, database:
        database.execute("DROP TABLE IF EXISTS note")
        database.execute(f"CREATE TABLE note ({', '.join(rows[0])})")
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO note VALUES ({marks})", [tuple(row.values()) for row in rows])
    return {"sql": "SELECT * FROM note ORDER BY rowid;", "database": f"sqlite:///{folder / 'shop.db'}"}


def write_days(folder: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """A folder for each day, which is its watermark: `at=2026-11-20/notes.jsonl`."""
    for day in {row["at"] for row in rows}:
        own = [{name: value for name, value in row.items() if name != "at"} for row in rows if row["at"] == day]
        (folder / "days" / f"at={day}").mkdir(parents=True, exist_ok=True)
        (folder / "days" / f"at={day}" / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return {"path": str(folder / "days")}


SOURCES: dict[str, Write] = {
    "parquet": write_parquet,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "duckdb": write_duckdb,
    "sqlite": write_sqlite,
    "day-folders": write_days,
}


def taken_after(folder: Path, bases: Sequence[SnapshotFile], name: str, **dataset: Any) -> SnapshotFile:
    """The snapshot that rests on `bases`, the newest last."""
    workload = make_workload(**{"id": "id", "watermark": "at", **dataset})
    base = None
    if bases:
        mark = bases[-1].mark
        assert mark is not None
        base = Base(f"{bases[-1].path.stem}.1", mark, bases[-1].path, [b.path for b in bases if b.mark == mark])
    return take_snapshot(workload, folder / f"{name}.snapshot", scratch=folder / "scratch", base=base)
