"""What was rendered for a plan is cut as if it were rendered again."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline.stage.plan_file import PLAN
from claude_pipeline.stage.spool import Spool
from claude_pipeline_tests.factory import make_requests


def write(folder: Path, rejected: set[int], count: int, **options: int) -> tuple[Spool, Path]:
    """The spool and the plan of so many records."""
    requests = make_requests(count, size_bytes=100)
    spool = Spool(folder / "params.jsonl", **options)
    for first in range(0, count, 3):
        spool.add([request.params for request in requests[first : first + 3] if request.row not in rejected])
    rows = [
        {
            "row": request.row,
            "record_id": request.record_id,
            "fingerprint": None if request.row in rejected else request.fingerprint,
            "size_bytes": None if request.row in rejected else len(request.params),
        }
        for request in requests
    ]
    plan = folder / "plan.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), plan)
    return spool, plan


def pieces(rows: Sequence[int], size: int) -> Iterator[pa.Array]:
    for first in range(0, len(rows), size):
        yield pa.array(rows[first : first + size], pa.int64())


def told(tables: Iterator[RequestTable]) -> list[tuple[int, str, bytes, bytes]]:
    return [
        row
        for table in tables
        for row in zip(
            table.rows.tolist(),
            table.record_ids.to_pylist(),
            table.fingerprints.to_pylist(),
            table.lines(),
            strict=True,
        )
    ]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), count=st.integers(0, 40), plan_rows=st.integers(1, 50), size=st.integers(1, 9))
def test_chosen_rows_come_as_they_were_planned(
    tmp_path: Path, data: st.DataObject, count: int, plan_rows: int, size: int
) -> None:
    rejected = data.draw(st.sets(st.integers(0, max(0, count - 1))))
    chosen = sorted(data.draw(st.sets(st.sampled_from(sorted(set(range(count)) - rejected) or [0]))) - rejected)
    chosen = [row for row in chosen if row < count]
    spool, plan = write(tmp_path, rejected, count)
    found = told(spool.tables(plan, pieces(chosen, size), at_once=plan_rows))
    expected = told(tables_of(request for request in make_requests(count, size_bytes=100) if request.row in chosen))
    assert found == expected
    spool.close()
    assert not (tmp_path / "params.jsonl").exists()


def test_a_spool_that_grows_too_large_is_dropped(tmp_path: Path) -> None:
    spool, _plan = write(tmp_path, set(), 6, most_bytes=250)
    assert not spool.is_whole
    assert not (tmp_path / "params.jsonl").exists()
    spool.add([b"more"])
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.parquet"]


def test_a_spool_for_which_the_disk_has_no_room_is_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "params.jsonl")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, usual[1]))
    try:
        spool.add([b"x" * 2_000_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert not spool.is_whole
    assert list(tmp_path.iterdir()) == []


def test_wide_requests_come_in_small_pieces(tmp_path: Path) -> None:
    requests = make_requests(6, size_bytes=6_000_000)
    spool = Spool(tmp_path / "params.jsonl")
    rows = []
    for request in requests:
        spool.add([request.params])
        rows.append({"row": request.row, "record_id": request.record_id, "fingerprint": request.fingerprint,
                     "size_bytes": len(request.params)})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=PLAN), tmp_path / "plan.parquet")
    tables = list(spool.tables(tmp_path / "plan.parquet", pieces(range(6), 6)))
    assert [len(table) for table in tables] == [2, 2, 2]
    assert told(iter(tables)) == told(tables_of(requests))
    spool.close()
