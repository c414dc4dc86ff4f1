"""What was rendered for a plan is cut as if it were rendered again."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_pipeline.chunk import BODY_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES, Chunk, ChunkLimit, cut_chunks
from claude_pipeline.request import Request
from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline.segment import Segment, in_tables
from claude_pipeline.stage.plan_file import PLAN
from claude_pipeline.stage.spool import Spool
from claude_pipeline_tests.factory import make_requests

MANY = ChunkLimit(100, 100_000_000)
SIZE_BYTES = 100  # of a request's params


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where segments lie."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def spooled(place: Path, requests: Sequence[Request], without: set[int], limit: ChunkLimit, **options: Any) -> Spool:
    spool = Spool(place, limit, **options)
    for first in range(0, len(requests), 3):
        for table in tables_of(request for request in requests[first : first + 3] if request.row not in without):
            spool.add(table)
    return spool


def plan_of(folder: Path, requests: Sequence[Request], rejected: set[int]) -> Path:
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
    return plan


def pieces(rows: Sequence[int], size: int) -> Iterator[pa.Array]:
    for first in range(0, len(rows), size):
        yield pa.array(rows[first : first + size], pa.int64())


def told(requests: Iterator[RequestTable | Segment]) -> list[tuple[int, str, bytes, bytes]]:
    return [
        row
        for table in in_tables(requests)
        for row in zip(
            table.rows.tolist(),
            table.record_ids.to_pylist(),
            table.fingerprints.to_pylist(),
            table.lines(),
            strict=True,
        )
    ]


def cut(folder: Path, requests: Iterator[RequestTable | Segment], limit: ChunkLimit) -> list[Chunk]:
    folder.mkdir(exist_ok=True)
    files = lambda number: (folder / f"{number}.jsonl", folder / f"{number}.parquet")  # noqa: E731
    return list(cut_chunks(requests, limit, reserve_units=lambda table: table.sizes * 2, place=files))


def looked_at(chunk: Chunk) -> tuple[object, ...]:
    index = pq.read_table(chunk.index_path)
    return (
        chunk.params_path.read_bytes(), chunk.params_sha256, index.to_pylist(), chunk.requests, chunk.size_bytes,
        chunk.reserve_units, chunk.first_row, chunk.last_row,
    )  # fmt: skip


SEGMENTS = st.builds(
    ChunkLimit,
    st.integers(1, 50),
    st.integers(1, 12).map(lambda requests: BODY_OVERHEAD_BYTES + requests * (SIZE_BYTES + ENTRY_OVERHEAD_BYTES) + 7),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), count=st.integers(0, 40), plan_rows=st.integers(1, 50), size=st.integers(1, 9), limit=SEGMENTS)
def test_chosen_rows_are_cut_as_if_they_were_rendered_again(
    tmp_path: Path, place: Path, data: st.DataObject, count: int, plan_rows: int, size: int, limit: ChunkLimit
) -> None:
    rejected = data.draw(st.sets(st.integers(0, max(0, count - 1))))
    known = data.draw(st.none() | st.sets(st.integers(0, max(0, count - 1))))  # of an earlier plan, and not rendered
    asked = sorted(set(range(count)) - rejected - (known or set()))
    chosen = (
        asked
        if data.draw(st.booleans())
        else sorted(data.draw(st.sets(st.sampled_from(asked or [0]))))
        if asked
        else []
    )
    chunks = data.draw(st.sampled_from([limit, ChunkLimit(7, limit.bytes), MANY]))
    requests = make_requests(count, size_bytes=SIZE_BYTES)
    plan = plan_of(tmp_path, requests, rejected)
    spool = spooled(place, requests, rejected | (known or set()), limit, is_of_all=known is None)

    assert spool.holds(pieces(chosen, size))
    assert told(spool.requests(plan, pieces(chosen, size), at_once=plan_rows)) == told(
        tables_of(request for request in requests if request.row in chosen)
    )
    found = cut(tmp_path / "found", spool.requests(plan, pieces(chosen, size), at_once=plan_rows), chunks)
    again = cut(tmp_path / "again", tables_of(request for request in requests if request.row in chosen), chunks)
    assert list(map(looked_at, found)) == list(map(looked_at, again))
    spool.close()
    assert list(place.iterdir()) == []


def test_a_segment_that_is_asked_whole_becomes_the_file_of_a_chunk(tmp_path: Path, place: Path) -> None:
    requests = make_requests(7)
    plan = plan_of(tmp_path, requests, set())
    limit = ChunkLimit(3, 10_000)
    spool = spooled(place, requests, set(), limit)
    held = {path.stat().st_ino for path in place.iterdir()}

    chunks = cut(tmp_path / "chunks", spool.requests(plan, pieces(range(7), 7)), limit)

    assert [chunk.requests for chunk in chunks] == [3, 3, 1]
    assert {chunk.params_path.stat().st_ino for chunk in chunks} == held
    spool.close()
    assert all(chunk.params_path.exists() for chunk in chunks)


def test_a_spool_that_grows_too_large_is_dropped(place: Path) -> None:
    spool = spooled(place, make_requests(6, size_bytes=SIZE_BYTES), set(), MANY, most_bytes=250)
    assert not spool.is_whole
    (more,) = tables_of(make_requests(1))
    spool.add(more)
    assert list(place.iterdir()) == []


def test_a_spool_for_which_the_disk_has_no_room_is_dropped(place: Path) -> None:
    spool = Spool(place, MANY)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, usual[1]))
    try:
        for table in tables_of(make_requests(1, size_bytes=2_000_000)):
            spool.add(table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert not spool.is_whole
    assert list(place.iterdir()) == []


def test_a_spool_of_some_tells_what_it_lacks_and_reads_the_question_to_its_end(place: Path) -> None:
    spool = spooled(place, make_requests(9), {2, 5}, MANY, is_of_all=False)
    assert spool.holds(pieces([0, 1, 8], 2))
    rows = pieces([0, 2, 3, 4], 1)
    assert not spool.holds(rows)
    assert next(rows, None) is None
    spool.close()
    assert not spool.holds(pieces([0], 1))


def test_a_spool_of_some_that_are_many_is_dropped(place: Path) -> None:
    spool = spooled(place, make_requests(6), set(), MANY, is_of_all=False, most_rows=5)
    assert not spool.is_whole
    assert list(place.iterdir()) == []
    for options in ({"is_of_all": False, "most_rows": 6}, {"most_rows": 5}):
        spool = spooled(place, make_requests(6), set(), MANY, **options)
        assert spool.is_whole
        spool.close()


@pytest.mark.parametrize("chosen", [range(6), range(5)], ids=["all", "some"])
def test_wide_requests_come_in_small_pieces(tmp_path: Path, place: Path, chosen: range) -> None:
    requests = make_requests(6, size_bytes=6_000_000)
    spool = spooled(place, requests, set(), MANY)
    tables = list(in_tables(spool.requests(plan_of(tmp_path, requests, set()), pieces(chosen, 6))))
    assert [len(table) for table in tables] == ([2, 2, 2] if len(chosen) == 6 else [2, 2, 1])
    assert told(iter(tables)) == told(tables_of(requests[: len(chosen)]))
    spool.close()
