"""Requests whose params lie in a file of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline.segment import Segment, in_tables, starts_of
from claude_pipeline_tests.factory import make_requests


@pytest.fixture
def whole() -> RequestTable:
    (table,) = tables_of(make_requests(5))
    return table


@pytest.fixture
def segment(tmp_path: Path, whole: RequestTable) -> Segment:
    path = tmp_path / "1.jsonl"
    path.write_bytes(whole.params)
    return Segment(path, hashlib.sha256(whole.params), whole.rows, whole.record_ids, whole.fingerprints, whole.sizes)


def test_its_table_is_read_on_when_the_file_has_another_name(segment: Segment, whole: RequestTable) -> None:
    table = segment.table()
    segment.path.replace(segment.path.with_name("other.jsonl"))
    assert table.lines() == whole.lines()
    assert [table.line(number) for number in range(5)] == whole.lines()
    assert table.slice(2, 4).lines() == whole.lines()[2:4]


def test_segments_and_tables_come_in_their_order(segment: Segment, whole: RequestTable) -> None:
    found = list(in_tables([segment, whole.slice(0, 0), segment]))
    assert [line for table in found for line in table.lines()] == whole.lines() * 2
    assert pa.concat_arrays([table.record_ids for table in found]).to_pylist() == [f"n{n}" for n in range(5)] * 2


def test_lines_begin_after_the_newline_of_the_one_before() -> None:
    assert starts_of(np.array([3, 0, 5], np.int64)).tolist() == [0, 4, 5]
