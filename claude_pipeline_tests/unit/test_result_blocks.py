"""Lines become rows a block at a time; which block one stands in makes no difference."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.result import AskedFacts, OutputReader, Parsed, parse_results
from claude_pipeline.result.parse import BYTES, LINES
from claude_pipeline_tests.unit.test_result_parse import CREATED, TAG, errored, index_of, line, rates_of, succeeded

COUNT = 250  # of requests; `index_of` numbers them in a byte
FACTS = AskedFacts(
    snapshot="2026-11-22.1", chunk="r1-0001", attempt=1, tag=TAG, batch_id="msgbatch_1", model="claude-asked",
    max_tokens=64, billed_at=CREATED,
)  # fmt: skip
WIDE = "x" * (BYTES // 100)  # a hundred such lines fill a block


def parse(
    lines: list[bytes],
    *,
    counts: Mapping[str, int] | None = None,
    as_is: bool = False,
    billed_at: datetime | None = CREATED,
) -> Parsed:
    facts = replace(FACTS, counts={"succeeded": COUNT} if counts is None else counts, billed_at=billed_at)
    return parse_results(
        lines, index_of(COUNT), facts, OutputReader(None, []), rates_of=rates_of,
        verdict_of=lambda kind, text: "permanent", as_is=as_is,
    )  # fmt: skip


def answers(parsed: Parsed) -> list[str | None]:
    found: list[str | None] = [answer and answer.split()[-1] for answer in parsed.table.column("answer").to_pylist()]
    return found


def lines_of(text: str = WIDE) -> list[bytes]:
    """Of all requests, in any order; they fill some blocks."""
    lines = [line(n, succeeded(f"{text} {n}")) for n in range(COUNT)]
    random.Random(3).shuffle(lines)
    return lines


def test_lines_of_several_blocks_meet_their_own_request() -> None:
    parsed = parse(lines_of())
    assert answers(parsed) == [str(n) for n in range(COUNT)]
    assert [column.num_chunks for column in parsed.table.columns] == [1] * parsed.table.num_columns


def test_more_lines_than_a_block_takes_are_read() -> None:
    lines = lines_of("") * (2 * LINES // COUNT + 1)  # equal lines, again and again
    assert answers(parse(lines)) == [str(n) for n in range(COUNT)]


def test_an_equal_line_in_another_block_does_not_count() -> None:
    lines = lines_of()
    assert answers(parse([*lines, *lines[:3]])) == [str(n) for n in range(COUNT)]


@pytest.mark.parametrize("number", [0, COUNT - 1], ids=["first-block", "last-block"])
def test_another_answer_in_another_block_is_a_contradiction(number: int) -> None:
    lines = [*lines_of(), line(number, succeeded("else"))]
    with pytest.raises(ResultsIncomplete, match=f"two different answers to {TAG}-{number}"):
        parse(lines)


def test_taken_as_they_are_contradicted_requests_are_as_good_as_without_a_line() -> None:
    lines = lines_of()
    parsed = parse([*lines, lines[0], line(7, succeeded("else")), line(7, errored("api_error"))], as_is=True)
    found = parsed.table.to_pylist()
    assert [row["position"] for row in found if row["answer"] is None] == [7]
    assert (found[7]["error_type"], found[7]["cost_usd"]) == ("missing_result", None)
    assert parsed.outcomes == {"succeeded": COUNT - 1, "errored": 1}


def test_errors_and_answers_stand_in_their_own_places() -> None:
    results: list[Any] = [errored("api_error") if n % 3 else succeeded(f"{WIDE} {n}") for n in range(COUNT)]
    ok = sum(result["type"] == "succeeded" for result in results)
    parsed = parse([line(n, r) for n, r in enumerate(results)], counts={"succeeded": ok, "errored": COUNT - ok})
    assert answers(parsed) == [None if n % 3 else str(n) for n in range(COUNT)]
    assert parsed.table.column("cost_usd").to_pylist() == [0.0 if n % 3 else 500 / 1e10 for n in range(COUNT)]


def test_of_a_moment_that_nobody_knows_the_cost_is_unknown() -> None:
    assert parse(lines_of(""), billed_at=None).table.column("cost_usd").null_count == COUNT
