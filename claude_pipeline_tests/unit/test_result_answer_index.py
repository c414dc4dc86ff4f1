"""Answers are found by the fingerprints of their questions, all of which counts."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.result.answer_index import AnswerIndex, are_distinct, prints_of

PRINTS = [bytes([number]) * 32 for number in range(1, 7)]


def index_of(rows: list[int]) -> AnswerIndex:
    """Of the answers to PRINTS, whose records stood in these rows."""
    count = len(rows)
    column = pa.array(PRINTS[:count], pa.binary(32))
    return AnswerIndex(prints_of(column), np.arange(count) + 100, np.array(rows, np.int64), np.zeros(count, np.bool_))


def found(index: AnswerIndex, prints: list[bytes | None], rows: list[int] | None = None) -> list[int]:
    column = pa.array(prints, pa.binary(32))
    return index.of_each(column, np.array(rows if rows is not None else range(len(prints)), np.int64)).tolist()


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 2, 1, 0], [90, 80, 70, 60], [0, 0, 0, 0], [10**12, 1, 0, 7]])
def test_an_answer_is_found_wherever_its_record_stood(rows: list[int]) -> None:
    index = index_of(rows)
    assert found(index, PRINTS[:4]) == [0, 1, 2, 3]
    assert found(index, PRINTS[3::-1]) == [3, 2, 1, 0]
    assert found(index, [PRINTS[5], PRINTS[2], PRINTS[2], PRINTS[4]], [5, 8, 9, 40]) == [-1, 2, 2, -1]
    assert [index.places[at] for at in found(index, [PRINTS[3], PRINTS[0]])] == [103, 100]


def test_a_record_without_a_question_has_no_answer_and_moves_no_other() -> None:
    index = index_of([1, 3, 4])
    assert found(index, [None, PRINTS[0], None, PRINTS[1], PRINTS[2], None]) == [-1, 0, -1, 1, 2, -1]
    assert found(index, [None, None]) == [-1, -1]
    assert found(index, []) == []


@pytest.mark.parametrize("place", range(32))
@pytest.mark.parametrize("row", [0, 9], ids=["the same row", "another row"])
def test_each_byte_of_a_fingerprint_counts(place: int, row: int) -> None:
    other = bytearray(PRINTS[0])
    other[place] ^= 1
    assert found(index_of([row]), [bytes(other)]) == [-1]


@pytest.mark.parametrize("shift", [0, 1], ids=["the same rows", "other rows"])
def test_many_questions_find_each_its_own_answer(shift: int) -> None:
    count = 40_000  # more than are compared at once
    prints = [number.to_bytes(8, "big") * 4 for number in range(1, count + 1)]
    column = pa.array(prints, pa.binary(32))
    index = AnswerIndex(prints_of(column), np.arange(count), np.arange(count) + shift, np.zeros(count, np.bool_))
    asked = [*prints]
    asked[17_000] = prints[17_000][:31] + b"?"
    assert found(index, asked) == [*range(17_000), -1, *range(17_001, count)]


def test_without_answers_nothing_is_found() -> None:
    index = index_of([])
    assert found(index, [PRINTS[0], bytes(32)]) == [-1, -1]
    assert (index.rows.tolist(), index.is_here.tolist()) == ([-1], [False])


def test_what_stands_for_no_answer_is_that_of_no_record() -> None:
    """Whatever a row says, and whatever a question's fingerprint is."""
    index = index_of([4, 5])
    (at,) = found(index, [bytes(32)], [4])
    assert (at, index.rows[at], bool(index.is_here[at])) == (-1, -1, False)


@pytest.mark.parametrize("first", range(4))
def test_a_part_of_a_column_is_read_where_it_begins(first: int) -> None:
    column = pa.array(PRINTS, pa.binary(32)).slice(first, 2)
    for some in (column, pa.chunked_array([column]), pa.chunked_array([column.slice(0, 1), column.slice(1)])):
        assert [row.tobytes() for row in prints_of(some)] == PRINTS[first : first + 2]


def test_questions_are_distinct_where_no_two_begin_alike() -> None:
    assert are_distinct(prints_of(pa.array(PRINTS, pa.binary(32))))
    assert not are_distinct(prints_of(pa.array([*PRINTS, PRINTS[0]], pa.binary(32))))
    assert not are_distinct(prints_of(pa.array([*PRINTS, PRINTS[0][:8] + bytes(24)], pa.binary(32))))
    assert are_distinct(prints_of(pa.array([], pa.binary(32))))


HERE, BEFORE = "2026-01-02.1", "2026-01-01.1"
OUTCOMES = {"all": ["succeeded"] * 4, "some": ["succeeded", "errored", "succeeded", "errored"], "none": ["errored"] * 4}
ENDS = {"known": ["end_turn"] * 4, "partly": ["end_turn", None, "stop_sequence", None], "unknown": [None] * 4}
SNAPSHOTS = {"here": [HERE] * 4, "before": [BEFORE] * 4, "both": [HERE, HERE, BEFORE, BEFORE]}


def attempts_file(path: Path, *, group: int = 4, statistics: bool = True, **columns: list[str | None]) -> Path:
    """Four attempts at the first questions, which stood in rows 7, 5, 3, 1."""
    told = {"outcome": OUTCOMES["all"], "snapshot": SNAPSHOTS["before"], "stop_reason": ENDS["known"]} | columns
    table = pa.table(
        {"fingerprint": pa.array(PRINTS[:4], pa.binary(32)), "row": pa.array([7, 5, 3, 1], pa.int64())}
        | {name: pa.array(values, pa.string()) for name, values in told.items()}
    )
    pq.write_table(table, path, row_group_size=group, write_page_checksum=True, write_statistics=statistics)
    return path


@pytest.mark.parametrize(("outcome", "snapshot", "end"), list(product(OUTCOMES, SNAPSHOTS, ENDS)))
@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("statistics", [True, False])
def test_answers_are_those_of_the_file_whatever_its_footer_says(
    outcome: str, snapshot: str, end: str, group: int, statistics: bool, tmp_path: Path
) -> None:
    """By the footer, where all rows are alike, or by what stands in them."""
    told = {"outcome": OUTCOMES[outcome], "snapshot": SNAPSHOTS[snapshot], "stop_reason": ENDS[end]}
    empty = pq.ParquetFile(attempts_file(tmp_path / "some")).schema_arrow.empty_table()
    pq.write_table(empty, tmp_path / "empty")
    asked = attempts_file(tmp_path / "asked", group=group, statistics=statistics, **told)
    index = AnswerIndex.read([tmp_path / "empty", asked], HERE)
    assert index is not None
    answered = [at for at in range(4) if OUTCOMES[outcome][at] == "succeeded"]
    assert found(index, PRINTS[:5]) == [answered.index(at) if at in answered else -1 for at in range(5)]
    assert index.rows.tolist() == [*([7, 5, 3, 1][at] for at in answered), -1]
    assert index.is_here.tolist() == [*(SNAPSHOTS[snapshot][at] == HERE for at in answered), False]
    assert [place & 0xFFFF for place in index.places[:-1].tolist()] == answered
    assert len({place - at for place, at in zip(index.places[:-1].tolist(), answered, strict=True)}) <= 1


@pytest.mark.parametrize("ends", [["max_tokens"] * 4, ["end_turn", None, "max_tokens", None]], ids=["all", "one"])
@pytest.mark.parametrize("group", [1, 4])
def test_an_answer_that_was_cut_is_left_to_the_queries(ends: list[str | None], group: int, tmp_path: Path) -> None:
    path = attempts_file(tmp_path / "cut", stop_reason=ends, group=group)
    assert AnswerIndex.read([path], HERE) is None
    none = attempts_file(tmp_path / "no answer", stop_reason=ends, outcome=OUTCOMES["none"], group=group)
    assert AnswerIndex.read([none], HERE) is not None
