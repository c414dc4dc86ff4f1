"""Which questions of a plan are asked, from what is known of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.stage.decide import QUESTIONS_MAX, Unanswered, answers_query, asked_query, choice_query, unanswered

HERE, BEFORE = "2026-11-22.1", "2026-11-21.1"
WANTED = 64  # tokens
MANY = 1_000_000
ATTEMPTS = pa.schema(
    [("fingerprint", pa.binary(32)), ("snapshot", pa.string()), ("outcome", pa.string()), ("stop_reason", pa.string()),
     ("max_tokens", pa.int64())]
)  # fmt: skip
PRINT = bytes(32)


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with leased(tmp_path, memory_mb=64) as opened:
        yield opened


def ask(duck: duckdb.DuckDBPyConnection, plan: pa.Table, told: Sequence[str | None], *, few: bool = False) -> list[Any]:
    duck.register("planned", plan)
    duck.execute("CREATE OR REPLACE TEMP VIEW current AS SELECT *, 64 AS wanted_tokens FROM planned")
    duck.execute("DROP TYPE IF EXISTS model")
    duck.execute("CREATE TYPE model AS ENUM (SELECT DISTINCT model FROM current)")
    query = choice_query([each for each in told if each is not None], few=few)
    return duck.sql(
        f"SELECT how, count(*), sum(records)::BIGINT, min(row) FROM ({query}) GROUP BY how ORDER BY how"
    ).fetchall()


def answer(**changes: Any) -> dict[str, Any]:
    return {"fingerprint": PRINT, "snapshot": BEFORE, "outcome": "succeeded", "stop_reason": "end_turn",
            "max_tokens": WANTED, **changes}  # fmt: skip


CUT, LONGER = {"stop_reason": "max_tokens", "max_tokens": 32}, {"stop_reason": "max_tokens", "max_tokens": WANTED}
SITUATIONS: list[Any] = [
    pytest.param([], False, False, "ask", id="never-asked"),
    pytest.param([answer()], False, False, "reused", id="answered-before"),
    pytest.param([answer(outcome="errored", stop_reason=None)], False, False, "ask", id="failed-before"),
    pytest.param([answer(stop_reason=None, max_tokens=None)], False, False, "reused", id="no-stop-reason"),
    pytest.param([answer(**CUT)], False, False, "ask", id="cut-before"),
    pytest.param([answer(**CUT), answer()], False, False, "reused", id="cut-and-whole-before"),
    pytest.param([answer(**LONGER)], False, False, "reused", id="cut-at-as-many-tokens"),
    pytest.param([answer(stop_reason="max_tokens", max_tokens=None)], False, False, "ask", id="cut-nobody-knows-where"),
    pytest.param([], True, False, "asked", id="on-its-way-here"),
    pytest.param([answer(snapshot=HERE)], True, False, "asked", id="answered-here"),
    pytest.param([answer(snapshot=HERE, outcome="errored", stop_reason=None)], True, False, "asked", id="failed-here"),
    pytest.param([answer(snapshot=HERE, **CUT)], True, False, "ask", id="cut-here"),
    pytest.param([answer(snapshot=HERE, **CUT), answer()], True, False, "asked", id="cut-here-and-whole-before"),
    pytest.param([answer(**CUT)], True, False, "asked", id="cut-before-and-on-its-way-here"),
    pytest.param([], False, True, "awaited", id="on-its-way-elsewhere"),
    pytest.param([answer()], False, True, "reused", id="answered-and-on-its-way-elsewhere"),
    pytest.param([answer(snapshot=HERE, **CUT)], True, True, "awaited", id="cut-here-and-on-its-way-elsewhere"),
]


@pytest.mark.parametrize(("answers", "is_own", "is_away", "how"), SITUATIONS)
@pytest.mark.parametrize("few", [True, False])
def test_what_is_known_of_a_question_decides(
    duck: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    answers: list[Mapping[str, Any]],
    is_own: bool,
    is_away: bool,
    how: str,
    few: bool,
) -> None:
    attempts, index = tmp_path / "attempts.parquet", tmp_path / "index.parquet"
    others = [answer(fingerprint=bytes([9] * 32))]  # of a question that is not asked here
    pq.write_table(pa.Table.from_pylist([*map(dict, answers), *others], schema=ATTEMPTS), attempts)
    pq.write_table(pa.table({"fingerprint": pa.array([PRINT], pa.binary(32))}), index)
    plan = pa.table(
        {"fingerprint": pa.array([PRINT, PRINT], pa.binary(32)), "row": [3, 5], "model": ["claude-haiku-5-5"] * 2}
    )
    told = [
        answers_query([attempts], HERE),
        asked_query("is_own", [index] if is_own else []),
        asked_query("is_away", [index] if is_away else []),
    ]
    assert ask(duck, plan, told, few=few) == [(how, 1, 2, 3)]


def test_a_million_questions_and_their_answers_take_little_memory(
    duck: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    chance = np.random.default_rng(1)
    prints = pa.Array.from_buffers(pa.binary(32), MANY, [None, pa.py_buffer(chance.bytes(32 * MANY))])
    attempts = tmp_path / "attempts.parquet"
    with pq.ParquetWriter(attempts, ATTEMPTS, compression="none") as writer:
        for first, end in itertools.pairwise(range(0, MANY + 1, 100_000)):
            one = pa.Table.from_pylist([answer()], schema=ATTEMPTS).take(pa.array(np.zeros(end - first, np.int64)))
            writer.write_table(one.set_column(0, "fingerprint", prints.slice(first, end - first)))
    plan = pa.table({"fingerprint": prints, "row": np.arange(MANY)})
    plan = plan.append_column("model", pa.repeat("claude-haiku-5-5", MANY))

    assert ask(duck, plan, [answers_query([attempts], HERE)]) == [("reused", MANY, MANY, 0)]


def print_of(start: int, rest: int = 0) -> bytes:
    return start.to_bytes(8, "little") + rest.to_bytes(24, "little")


def planned(path: Path, prints: Sequence[bytes | None]) -> Path:
    rows = pa.table({"row": range(len(prints)), "fingerprint": pa.array(prints, pa.binary(32))})
    pq.write_table(rows, path, row_group_size=3, use_dictionary=False, compression="none", write_page_checksum=True)
    return path


def attempted(folder: Path, number: int, answers: Sequence[Mapping[str, Any]]) -> Path:
    path = folder / f"attempts-{number}.parquet"
    rows = [{"row": row, **answer} for row, answer in enumerate(answers)]
    table = pa.Table.from_pylist(rows, ATTEMPTS.append(pa.field("row", pa.int64())))
    pq.write_table(table, path, use_dictionary=False, compression="none", write_page_checksum=True)
    return path


def left_and_answered(found: Unanswered | None) -> tuple[list[int], int] | None:
    """Rows without an answer, and how many have one."""
    return None if found is None else (found.rows.column("row").to_pylist(), found.answered)


@pytest.mark.parametrize(
    ("prints", "rows"),
    [
        pytest.param([print_of(number) for number in range(10)], [*range(10)], id="each another"),
        pytest.param([print_of(number % 9) for number in range(10)], None, id="two the same"),
        pytest.param([print_of(7, number) for number in range(2)], None, id="two that begin alike"),
        pytest.param([print_of(number, 5) for number in range(4)], [*range(4)], id="that end alike"),
        pytest.param([None, print_of(0), None, None, None, print_of(1), None], [1, 5], id="some rejected"),
        pytest.param([None, print_of(0), None, None, None, print_of(0), None], None, id="the same, some rejected"),
        pytest.param([None] * 5, [], id="all rejected"),
        pytest.param([], [], id="none"),
    ],
)
def test_distinct_questions_that_were_never_asked_have_no_answer(
    prints: list[bytes | None], rows: list[int] | None, tmp_path: Path
) -> None:
    plan = planned(tmp_path / "plan.parquet", prints)
    for most in (QUESTIONS_MAX, len(prints)):
        found = unanswered(plan, [], most=most)
        assert left_and_answered(found) == (None if rows is None else (rows, 0))
    assert unanswered(plan, [], most=len(prints) - 1) is None


QUESTION = [print_of(number, 3) for number in range(6)]
ONCE: list[Any] = [
    pytest.param([answer(fingerprint=QUESTION[1]), answer(fingerprint=QUESTION[4])], [0, 2, 3, 5], id="two answered"),
    pytest.param([answer(fingerprint=print_of(1, 4))], [0, 1, 2, 3, 4, 5], id="another that begins alike"),
    pytest.param([answer(fingerprint=print_of(99))], [0, 1, 2, 3, 4, 5], id="another"),
    pytest.param([answer(fingerprint=QUESTION[1], outcome="errored")], [0, 1, 2, 3, 4, 5], id="failed"),
    pytest.param(
        [answer(fingerprint=QUESTION[1], outcome="errored"), answer(fingerprint=QUESTION[1])], [0, 2, 3, 4, 5],
        id="failed, then answered",
    ),
    pytest.param([answer(fingerprint=question) for question in QUESTION], [], id="all"),
    pytest.param([answer(fingerprint=QUESTION[1]), answer(fingerprint=QUESTION[1])], None, id="answered twice"),
    pytest.param([answer(fingerprint=QUESTION[1], **CUT)], None, id="cut"),
    pytest.param([answer(fingerprint=print_of(99), **CUT)], None, id="another was cut"),
    pytest.param([answer(fingerprint=QUESTION[1], outcome="errored", **CUT)], [0, 1, 2, 3, 4, 5], id="failed and cut"),
    pytest.param([answer(fingerprint=QUESTION[2], stop_reason=None)], [0, 1, 3, 4, 5], id="ended nobody knows how"),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "rows"), ONCE)
@pytest.mark.parametrize("files", [1, 2])
def test_what_was_answered_once_is_found_in_memory(
    duck: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    answers: list[Mapping[str, Any]],
    rows: list[int] | None,
    files: int,
) -> None:
    """And the query says the same."""
    paths = [attempted(tmp_path, number, answers[number::files]) for number in range(files)]
    plan = planned(tmp_path / "plan.parquet", QUESTION)
    found = unanswered(plan, paths)
    assert left_and_answered(found) == (None if rows is None else (rows, len(QUESTION) - len(rows)))
    if rows is not None:
        current = pq.read_table(plan).append_column("model", pa.array(["a"] * len(QUESTION)))
        counted = {how: questions for how, questions, *_ in ask(duck, current, [answers_query(paths, HERE)])}
        assert counted == {how: n for how, n in (("ask", len(rows)), ("reused", len(QUESTION) - len(rows))) if n}


def test_more_answers_than_are_held_are_not_looked_up_in_memory(tmp_path: Path) -> None:
    paths = [attempted(tmp_path, number, [answer(fingerprint=print_of(number + 50))]) for number in range(3)]
    plan = planned(tmp_path / "plan.parquet", QUESTION[:2])
    assert unanswered(plan, paths, most=2) is None
    assert unanswered(plan, paths, most=3) is not None


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    """In a page of fingerprints."""
    whole = bytearray(path.read_bytes())
    whole[whole.index(QUESTION[1]) + 20] ^= 1
    path.write_bytes(whole)


def narrowed(path: Path) -> None:
    """Each fingerprint is shorter than one is."""
    table = pq.read_table(path)
    short = pa.array([print[:31] for print in table.column("fingerprint").to_pylist()], pa.binary(31))
    pq.write_table(table.set_column(table.schema.get_field_index("fingerprint"), "fingerprint", short), path)


@pytest.mark.parametrize("damage", [cut_off, flipped, narrowed])
@pytest.mark.parametrize("which", ["plan", "attempts-7"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None], which: str) -> None:
    plan = planned(tmp_path / "plan.parquet", QUESTION)
    path = attempted(tmp_path, 7, [answer(fingerprint=question) for question in QUESTION])
    damage(tmp_path / f"{which}.parquet")
    with pytest.raises(LedgerDamaged, match=rf"{which}\.parquet cannot be read"):
        unanswered(plan, [path])


def test_attempts_of_an_older_version_are_left_to_the_query(tmp_path: Path) -> None:
    path = attempted(tmp_path, 7, [answer(fingerprint=QUESTION[1])])
    plan = planned(tmp_path / "plan.parquet", QUESTION)
    assert unanswered(plan, [path]) is not None
    pq.write_table(pq.read_table(path).drop_columns("stop_reason"), path)
    assert unanswered(plan, [path]) is None
