"""Datasets for tests: a workload over a dataset, the snapshot taken of it, and its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claude_pipeline.dataset import SnapshotFile, record_batches, take_snapshot
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
