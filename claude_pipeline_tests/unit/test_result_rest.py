"""What became of a snapshot's rest: what one join of everything would say, without holding everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from claude_pipeline.result import MergeInput, comments_of, merged_schema, write_rest
from claude_pipeline_tests.unit.rest_case import RestCase
from claude_pipeline_tests.unit.rest_oracle import oracle_rows


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 14)  # sums of floats come in any order
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat()
    return value


def _rows(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(repr({name: _plain(value) for name, value in row.items()}) for row in rows)


def _written(
    merge: MergeInput, folder: Path, *, rows_per_pass: int = 1_000
) -> tuple[list[dict[str, Any]], Counter[str]]:
    path, scratch = folder / "rest.parquet", folder / "scratch"
    outcomes = write_rest(merge, path, scratch=scratch, rows_per_pass=rows_per_pass)
    assert path.exists() == bool(outcomes)
    if not outcomes:
        return [], outcomes
    with pq.ParquetFile(path) as file:
        wanted = merged_schema(pq.read_schema(merge.snapshot), merge.output)
        assert file.schema_arrow.equals(wanted)
        assert comments_of(file.schema_arrow) == comments_of(wanted)
        return file.read().to_pylist(), outcomes


@pytest.mark.parametrize("cascade", [False, True], ids=["plain", "cascade"])
@pytest.mark.parametrize("seed", range(20))
def test_the_rest_is_what_one_join_of_everything_says(tmp_path: Path, seed: int, cascade: bool) -> None:
    for number in range(4):
        folder = tmp_path / str(number)
        merge = RestCase(seed * 10 + number, folder, cascade=cascade).merge()
        wanted = oracle_rows(merge, folder)

        rows, outcomes = _written(merge, folder, rows_per_pass=[7, 1_000][number % 2])

        assert _rows(rows) == _rows(wanted)
        assert outcomes == Counter(row["outcome"] or "pending" for row in wanted)
        assert list(folder.glob("scratch/*")) == []
