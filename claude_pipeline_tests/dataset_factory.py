"""Datasets for tests: a workload over a dataset, the snapshot taken of it, and its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset import Records, SnapshotFile, record_batches, take_snapshot
from claude_pipeline.dataset.differential import Difference
from claude_pipeline.parquet_file import footer_sha256
from claude_pipeline.workload import Workload


def make_workload(source: Path | None = None, /, **dataset: Any) -> Workload:
    """A workload over `dataset`; `source` is the YAML it seems to come from."""
    workload = Workload.model_validate(
        {"name": "tickets", "dataset": dataset, "model": "claude-haiku-5-5", "prompt": "{{ text }}"}
    )
    return workload.at(source) if source else workload


def snapshot_of(folder: Path, source: Path | None = None, /, **dataset: Any) -> SnapshotFile:
    """Take a snapshot of `dataset` in `folder`."""
    return take_snapshot(make_workload(source, **dataset), folder / "taken" / "s.parquet", scratch=folder / "scratch")


def records_of(snapshot: SnapshotFile) -> list[dict[str, Any]]:
    """The records with their ids, in order."""
    return [record for batch in record_batches(snapshot.path) for record in batch.to_pylist()]


def records_in(folder: Path, source: Path | None = None, /, **dataset: Any) -> list[dict[str, Any]]:
    """The records of `dataset` as the user knows them: without `record_id`."""
    snapshot = snapshot_of(folder, source, **dataset)
    return [{name: record[name] for name in snapshot.columns} for record in records_of(snapshot)]


def write_differential(records: pa.Table, path: Path, full: Path, *, row_group_rows: int = 4) -> Path:
    """A snapshot's records as what differs from a `full` one beside it, however much that is."""
    before = [repr(record) for batch in record_batches(full) for record in batch.to_pylist()]
    new = records.to_pylist()
    own = [number for number, record in enumerate(new) if number >= len(before) or repr(record) != before[number]]
    rows = np.array(own, np.int64)
    with pq.ParquetWriter(path, records.schema, write_page_checksum=True) as writer:
        if own:
            writer.write_table(records.take(pa.array(rows)), row_group_size=row_group_rows)
        writer.add_key_value_metadata(Difference(full.name, footer_sha256(full), len(new), rows).metadata())
    return path


def all_records(path: Path, *, rows: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The records of a snapshot as they come, some at a time."""
    with Records(path) as records:
        batches = [b for group in range(len(records.spans)) for b in records.batches(group, rows=rows, columns=columns)]
    assert all(0 < batch.num_rows <= rows for batch in batches)
    return [record for batch in batches for record in batch.to_pylist()]
