"""Requests are cut into chunks that each fit one batch."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.chunk import (
    BODY_OVERHEAD_BYTES,
    ENTRY_OVERHEAD_BYTES,
    INDEX,
    TAG_LENGTH,
    Body,
    Chunk,
    ChunkLimit,
    cut_chunks,
)
from claude_pipeline.errors import RequestTooLarge
from claude_pipeline.home import sha256_of
from claude_pipeline.request import Request
from claude_pipeline.request_table import tables_of
from claude_pipeline_tests.factory import make_requests

TAG = "0123abcd-0123456789abcdef"
SIZE_BYTES = 100  # of a request's params
ENTRY_BYTES = SIZE_BYTES + ENTRY_OVERHEAD_BYTES
ROWS = 2  # of a table, so that chunks end within one and between two


def cut(folder: Path, requests: list[Request], limit: ChunkLimit, **options: Any) -> list[Chunk]:
    def place(number: int) -> tuple[Path, Path]:
        return folder / f"{number}.jsonl", folder / f"{number}.parquet"

    tables = tables_of(requests, rows=ROWS)
    return list(cut_chunks(tables, limit, reserve_units=lambda table: table.sizes * 2, place=place, **options))


def bytes_of(requests: int) -> int:
    return BODY_OVERHEAD_BYTES + requests * ENTRY_BYTES


CUTS: list[Any] = [
    pytest.param(0, ChunkLimit(10, 10_000), [], id="no-requests"),
    pytest.param(1, ChunkLimit(10, 10_000), [1], id="one"),
    pytest.param(7, ChunkLimit(3, 10_000), [3, 3, 1], id="full-by-count"),
    pytest.param(6, ChunkLimit(3, 10_000), [3, 3], id="full-by-count-exactly"),
    pytest.param(5, ChunkLimit(100, bytes_of(2)), [2, 2, 1], id="full-by-bytes-exactly"),
    pytest.param(5, ChunkLimit(100, bytes_of(3) - 1), [2, 2, 1], id="full-by-bytes-one-short"),
    pytest.param(3, ChunkLimit(100, bytes_of(1)), [1, 1, 1], id="one-a-chunk"),
]


@pytest.mark.parametrize(("count", "limit", "expected"), CUTS)
def test_a_chunk_closes_where_the_next_request_would_pass_a_limit(
    tmp_path: Path, count: int, limit: ChunkLimit, expected: list[int]
) -> None:
    chunks = cut(tmp_path, make_requests(count, size_bytes=SIZE_BYTES), limit)
    assert [chunk.requests for chunk in chunks] == expected
    assert [chunk.number for chunk in chunks] == list(range(1, len(expected) + 1))
    assert all(chunk.size_bytes <= limit.bytes for chunk in chunks)


def test_one_request_that_is_too_large_is_named(tmp_path: Path) -> None:
    requests = [*make_requests(2, size_bytes=SIZE_BYTES), Request(2, "n2", b"\0" * 32, b"x" * (ENTRY_BYTES + 1))]
    with pytest.raises(RequestTooLarge, match="record 'n2': its request is") as refused:
        cut(tmp_path, requests, ChunkLimit(2, bytes_of(1)))
    assert (refused.value.record_id, refused.value.limit_bytes) == ("n2", bytes_of(1))
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_a_chunk_is_there_before_the_next_request_is_made(tmp_path: Path) -> None:
    made = []

    def stream() -> Any:
        for request in make_requests(10):
            made.append(request.row)
            yield request

    tables = tables_of(stream(), rows=1)
    chunks = cut_chunks(tables, ChunkLimit(3, 10_000), reserve_units=lambda table: table.sizes,
                        place=lambda n: (tmp_path / f"{n}.jsonl", tmp_path / f"{n}.parquet"))  # fmt: skip
    next(iter(chunks))
    assert made == [0, 1, 2]


def test_the_index_names_each_line_with_its_reserve(tmp_path: Path) -> None:
    requests = make_requests(4, size_bytes=SIZE_BYTES)
    chunk = cut(tmp_path, requests, ChunkLimit(10, 10_000), first_number=7)[0]
    index = pq.read_table(chunk.index_path)
    assert index.schema.equals(INDEX)
    assert index.column("position").to_pylist() == [0, 1, 2, 3]
    assert index.column("record_id").to_pylist() == ["n0", "n1", "n2", "n3"]
    assert index.column("fingerprint").to_pylist() == [request.fingerprint for request in requests]
    assert chunk.reserve_units == sum(index.column("reserve_units").to_pylist()) == 4 * 2 * SIZE_BYTES
    assert (chunk.number, chunk.first_row, chunk.last_row) == (7, 0, 3)


def test_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    chunk = cut(tmp_path, make_requests(3), ChunkLimit(10, 10_000))[0]
    assert chunk.params_sha256 == sha256_of(chunk.params_path)
    assert chunk.index_sha256 == sha256_of(chunk.index_path)


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=30)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, most_requests=st.integers(1, 8), most_bytes=st.integers(600, 2_000), piece=st.integers(1, 300))
def test_every_request_is_in_exactly_one_chunk_in_order_and_bodies_are_valid(
    texts: list[str], most_requests: int, most_bytes: int, piece: int
) -> None:
    requests = []
    for row, text in enumerate(texts):
        params = json.dumps({"row": row, "text": text}, ensure_ascii=False).encode()
        requests.append(Request(row, f"n{row}", hashlib.sha256(params).digest(), params))
    with tempfile.TemporaryDirectory() as folder:
        chunks = cut(Path(folder), requests, ChunkLimit(most_requests, most_bytes))
        sent = []
        for chunk in chunks:
            body = Body(chunk.params_path, TAG, piece_bytes=piece)
            data = b"".join(body)
            assert b"".join(body) == data
            assert body.length == len(data) <= chunk.size_bytes <= most_bytes
            assert Body(chunk.params_path, TAG, requests=chunk.requests).length == body.length
            entries = json.loads(data)["requests"]
            assert [entry["custom_id"] for entry in entries] == [f"{TAG}-{n}" for n in range(chunk.requests)]
            sent += [entry["params"] for entry in entries]
    assert sent == [json.loads(request.params) for request in requests]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 1_234])
@pytest.mark.parametrize("piece_bytes", [1, 300, 1 << 18])
def test_a_body_is_as_long_as_it_says_whatever_digits_its_positions_have(
    tmp_path: Path, count: int, piece_bytes: int
) -> None:
    lines = [
        json.dumps({"row": row, "text": "\u2028\x85" + "x" * (row % 7)}, ensure_ascii=False) for row in range(count)
    ]
    (tmp_path / "params.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    body = Body(tmp_path / "params.jsonl", TAG, piece_bytes=piece_bytes)
    data = b"".join(body)
    assert body.length == len(data)
    assert json.loads(data)["requests"] == [
        {"custom_id": f"{TAG}-{position}", "params": json.loads(line)} for position, line in enumerate(lines)
    ]


def test_a_custom_id_has_the_length_that_chunks_reckon_with() -> None:
    assert len(TAG) == TAG_LENGTH
    assert len(f"{TAG}-123456") <= 64
