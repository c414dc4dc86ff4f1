"""Two real datasets that lie beside a checkout of ours; elsewhere these tests skip."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from claude_pipeline_tests.dataset_factory import records_of, snapshot_of


def _real(name: str) -> Path:
    for parent in Path(__file__).resolve().parents:
        if (path := parent / "shared" / "data" / name).exists():
            return path
    pytest.skip(f"the real dataset {name} is not beside this checkout")


@pytest.mark.parametrize(("name", "rows"), [("banking77/train.csv", 10_003), ("banking77/test.csv", 3_080)])
def test_banking77_comes_back_exactly_with_an_id_for_each_record(tmp_path: Path, name: str, rows: int) -> None:
    path = _real(name)
    with path.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    snapshot = snapshot_of(tmp_path, path=str(path))
    records = records_of(snapshot)
    assert (snapshot.records, snapshot.columns) == (rows, ("text", "category"))
    assert len({record.pop("record_id") for record in records}) == rows
    assert records == expected


def test_gsm8k_comes_back_exactly_with_an_id_for_each_record(tmp_path: Path) -> None:
    path = _real("gsm8k/train.jsonl")
    expected = [json.loads(line) for line in path.read_bytes().splitlines()]
    snapshot = snapshot_of(tmp_path, path=str(path))
    records = records_of(snapshot)
    assert (snapshot.records, snapshot.columns) == (7_473, ("question", "answer"))
    assert len({record.pop("record_id") for record in records}) == 7_473
    assert records == expected
