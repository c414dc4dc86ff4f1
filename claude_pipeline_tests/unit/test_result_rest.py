"""What became of a snapshot's rest: what one join of everything would say, without holding everything."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.result import AnswerIndex, MergeInput, comments_of, merged_schema, write_rest
from claude_pipeline.sql import identifier
from claude_pipeline_tests.unit.rest_case import NIGHT, RestCase, fingerprint, reused
from claude_pipeline_tests.unit.rest_oracle import oracle_rows

RATIO_MAX = 1.5
# VmHWM is the peak of resident memory since the process began, in kB.
MEASURE = """
import sys
from pathlib import Path
from claude_pipeline.result import write_rest
from claude_pipeline_tests.unit.rest_case import merge_of_reused
folder = Path(sys.argv[1])
outcomes = write_rest(merge_of_reused(folder), folder / "rest.parquet", scratch=folder / "scratch")
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(outcomes["succeeded"], peak)
"""


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
@pytest.mark.parametrize("seed", range(8))
def test_the_rest_is_what_one_join_of_everything_says(tmp_path: Path, seed: int, cascade: bool) -> None:
    for number in range(2):
        folder = tmp_path / str(number)
        merge = RestCase(seed * 10 + number, folder, cascade=cascade).merge()
        wanted = oracle_rows(merge, folder)

        rows, outcomes = _written(merge, folder, rows_per_pass=[7, 1_000][number % 2])

        assert _rows(rows) == _rows(wanted)
        assert outcomes == Counter(row["outcome"] or "pending" for row in wanted)
        assert list(folder.glob("scratch/*")) == []


@pytest.mark.parametrize("seed", range(12))
def test_what_was_answered_once_is_looked_up_and_the_rest_is_the_same(tmp_path: Path, seed: int) -> None:
    """Own answers, duplicates, reuse, failures and rejections, without a join."""
    merge = RestCase(seed, tmp_path, once=True, records=[0, 7, 40, 90][seed % 4]).merge()
    wanted = oracle_rows(merge, tmp_path)
    assert AnswerIndex.read([*merge.own_attempts, *merge.other_attempts], merge.snapshot_id) is not None

    rows, outcomes = _written(merge, tmp_path, rows_per_pass=[7, 1_000][seed % 2])

    assert _rows(rows) == _rows(wanted)
    assert outcomes == Counter(row["outcome"] or "pending" for row in wanted)


def test_an_answer_from_before_costs_nothing_though_its_record_stands_where_it_stood(tmp_path: Path) -> None:
    rows, _ = _written(reused(tmp_path, 30), tmp_path)

    assert {(row["answer_source"], row["cost_usd"], row["input_tokens"]) for row in rows} == {("reuse", 0.0, 0)}
    assert {(row["stop_reason"], row["answered_at"]) for row in rows} == {("end_turn", NIGHT)}


def test_a_plan_that_is_not_what_was_written_is_named(tmp_path: Path) -> None:
    merge = reused(tmp_path, 30)
    pq.write_table(
        pq.read_table(merge.plan), merge.plan, compression="none", use_dictionary=False, write_page_checksum=True
    )
    whole = bytearray(merge.plan.read_bytes())
    whole[whole.index(fingerprint(7)) + 3] ^= 1
    merge.plan.write_bytes(whole)

    with pytest.raises(LedgerDamaged, match=r"plan\.parquet cannot be read .*CRC"):
        _written(merge, tmp_path)


def test_a_snapshot_whose_records_all_were_answered_has_no_rest(tmp_path: Path) -> None:
    merge = reused(tmp_path, 30)
    (attempts,) = merge.other_attempts

    rows, outcomes = _written(replace(merge, own_attempts=[attempts], other_attempts=[]), tmp_path)

    assert (rows, outcomes) == ([], Counter())


def test_answers_in_another_order_than_the_records_are_sorted_through_scratch_files(tmp_path: Path) -> None:
    merge = reused(tmp_path, 500, answer="x" * 200_000, shuffled=True)  # 100 MB: several stretches

    rows, outcomes = _written(merge, tmp_path)

    assert outcomes == {"succeeded": 500}
    assert [(row["text"], row["answer"][:12].rstrip("x")) for row in rows] == [
        (f"text {n}", f"answer {n} ") for n in range(500)
    ]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("name", ["file_row_number", "file_index", "row", "place", "whose", "at", "attempt", "outcome"])
def test_a_records_column_may_have_any_name(tmp_path: Path, name: str) -> None:
    merge = reused(tmp_path, 30, column=name)

    rows, _ = _written(merge, tmp_path)

    kept = f"record_{name}" if name in ("attempt", "outcome") else name
    assert [(row[kept], row["answer"]) for row in rows] == [(f"text {n}", f"answer {n} ") for n in range(30)]


@pytest.mark.parametrize("cascade", [False, True], ids=["plain", "cascade"])
@pytest.mark.parametrize(
    "name", ["file_row_number", "FILE_INDEX", "place", "good", "is_good", "standing", "at", "whose"]
)
def test_a_property_of_the_output_may_have_any_name(tmp_path: Path, name: str, cascade: bool) -> None:
    field = pa.field(name, pa.string())
    merge = reused(tmp_path, 30, output={field: lambda row: f"of {row}"})
    rule = f"{identifier(name)} = 'of 7'" if cascade else None

    rows, outcomes = _written(replace(merge, cascade=cascade, gives_up_when=rule), tmp_path)

    assert outcomes == {"succeeded": 30}
    assert [(row[name], row["answer"]) for row in rows] == [(f"of {n}", f"answer {n} ") for n in range(30)]


def test_an_answer_read_under_another_type_is_cast_to_that_of_today(tmp_path: Path) -> None:
    merge = reused(tmp_path, 30, output={pa.field("score", pa.int64()): lambda row: row})

    rows, _ = _written(replace(merge, output=[pa.field("score", pa.float64())]), tmp_path)

    assert [row["score"] for row in rows] == [float(n) for n in range(30)]


def test_an_answer_that_does_not_fit_the_type_of_today_is_refused_by_its_files_name(tmp_path: Path) -> None:
    merge = reused(tmp_path, 30, output={pa.field("score", pa.string()): lambda row: "high"})

    with pytest.raises(LedgerDamaged, match=r"earlier\.parquet: the column 'score' is string.*reuse: false"):
        _written(replace(merge, output=[pa.field("score", pa.int64())]), tmp_path)


@pytest.mark.parametrize("which", ["snapshot", "earlier"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, which: str) -> None:
    merge = reused(tmp_path, 2_000, answer="naïve " * 50)
    path = tmp_path / f"{which}.parquet"
    meta = pq.read_metadata(path).row_group(0)
    column = next(
        meta.column(n) for n in range(meta.num_columns) if meta.column(n).path_in_schema in ("text", "answer")
    )
    damaged = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    damaged[start + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(damaged)

    with pytest.raises(LedgerDamaged, match=rf"{which}\.parquet cannot be read .*; restore it from a backup"):
        _written(merge, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_merge_of_four_times_the_records_takes_little_more_memory(tmp_path: Path) -> None:
    peaks = []
    for records in (50_000, 200_000):
        folder = tmp_path / str(records)
        reused(folder, records, text=" and more" * 155, answer="because " * 30, shuffled=True)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder)], check=True, capture_output=True, text=True, timeout=300
        )
        merged, peak = map(int, done.stdout.split())
        assert merged == records
        peaks.append(peak)

    assert peaks[1] < peaks[0] * RATIO_MAX
