"""Records become requests by the thousand as each does by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.request import Prompt, Rejection, Request, RequestMaker
from claude_pipeline.request_table import RequestTable
from claude_pipeline.stage.render import PROMPTS, made_of
from claude_pipeline.template import PROMPT_CHARACTERS_MAX
from claude_pipeline_tests.factory import make_workload

FIRST = 7  # row of the first record
ODD_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["", " \n", "a\0b", "\\u0000"])
)


def made(template: str, batch: pa.RecordBatch) -> RequestTable | list[Request | Rejection]:
    maker = RequestMaker.of(make_workload(prompt=template), batch.schema.names)
    found = made_of(maker, batch, range(FIRST, FIRST + batch.num_rows))
    return found if isinstance(found, RequestTable) else list(found)


def alone(template: str, batch: pa.RecordBatch) -> list[Request | Rejection]:
    maker = RequestMaker.of(make_workload(prompt=template), batch.schema.names)
    records = enumerate(batch.to_pylist(), start=FIRST)
    return [maker.make(row, record["record_id"], record) for row, record in records]


def batch_of(*, a: Sequence[object], b: Sequence[object] | None = None) -> pa.RecordBatch:
    ids = [f"n{number}" for number in range(len(a))]
    kind = None if a else pa.string()
    columns = {"a": pa.array(a, kind), "b": pa.array(a if b is None else b, kind)}
    return pa.record_batch({"record_id": pa.array(ids, pa.string()), **columns})


@pytest.mark.parametrize(
    "template",
    ["{{ a }}", "{{ a }} {{ b }}{{ a }}", "Which? {{ b }}", "{{ a | upper }} {{ b }}", "{% if a %}{{ b }}{% endif %}"],
)
@settings(deadline=None)  # the first example imports what the others use
@given(texts=st.lists(st.tuples(ODD_TEXTS, ODD_TEXTS), max_size=8))
def test_many_records_of_texts_become_what_each_becomes_by_itself(template: str, texts: list[tuple[str, str]]) -> None:
    batch = batch_of(a=[a for a, _ in texts], b=[b for _, b in texts])
    found = made(template, batch)
    assert (found.requests() if isinstance(found, RequestTable) else found) == alone(template, batch)


def test_records_that_are_all_asked_are_a_table_in_the_order_of_their_rows() -> None:
    batch = batch_of(a=[f"text {number}" for number in range(2 * PROMPTS + 1)])
    found = made("Which? {{ a }}", batch)
    assert isinstance(found, RequestTable)
    assert found.requests() == alone("Which? {{ a }}", batch)
    assert found.sizes.tolist() == [len(line) for line in found.lines()]


def test_some_that_cannot_be_asked_stand_among_the_others() -> None:
    texts = [f"text {number}" for number in range(2 * PROMPTS + 1)]
    texts[0], texts[PROMPTS - 1], texts[2 * PROMPTS] = " ", "\0", ""
    batch = batch_of(a=texts)
    found = made("Which? {{ a }}", batch)
    assert found == alone("Which? {{ a }}", batch)
    assert sum(isinstance(one, Rejection) for one in found) == 3


def test_a_prompt_that_is_too_long_is_refused_among_many() -> None:
    batch = batch_of(a=["short", "x" * (PROMPT_CHARACTERS_MAX + 1)])
    found = made("{{ a }}", batch)
    assert isinstance(found, list)
    assert isinstance(found[0], Request)
    assert isinstance(found[1], Rejection)
    assert found == alone("{{ a }}", batch)


NUMBERS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    st.lists(st.booleans(), min_size=2, max_size=2),
)


@pytest.mark.parametrize("template", ["{{ a }}", "{{ a }}{{ b }}", "{{ b }} has {{ a }} %"])
@given(numbers=NUMBERS, texts=st.lists(ODD_TEXTS, min_size=2, max_size=2))
def test_numbers_are_printed_as_they_are_by_themselves(template: str, numbers: list[object], texts: list[str]) -> None:
    batch = batch_of(a=numbers, b=texts)
    found = made(template, batch)
    assert (found.requests() if isinstance(found, RequestTable) else found) == alone(template, batch)


def test_a_number_beside_an_empty_text_is_something_to_ask() -> None:
    assert isinstance(made("{{ a }}{{ b }}", batch_of(a=[0, 0.0, 1], b=["", " ", "x"])), RequestTable)


@pytest.mark.parametrize(
    "values",
    [["x", None], [True, None], [0.5, float("nan")], [float("inf"), 1.0], [[1], [2]], [b"x", b"y"]],
    ids=["some-null", "null-beside-a-truth-value", "nan", "infinite", "lists", "bytes"],
)
def test_what_is_not_printed_as_it_is_is_made_by_itself(values: list[object]) -> None:
    batch = batch_of(a=values)
    found = made("{{ a }}", batch)
    assert isinstance(found, list)
    assert found == alone("{{ a }}", batch)


class Counting:
    """A maker that is none of one model, and counts what it makes."""

    def __init__(self) -> None:
        self.count = 0
        self.prompt = Prompt("{{ a }}", ["record_id", "a"])

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        self.count += 1
        return Rejection(row, record_id, "empty_text", "")


def test_what_is_made_one_by_one_comes_as_it_is_made() -> None:
    # A template that runs away takes a second for each record: three of them say enough.
    maker = Counting()
    found = made_of(maker, batch_of(a=["x"] * 9), range(9))
    assert not isinstance(found, RequestTable)
    assert (next(iter(found)).row, maker.count) == (0, 1)


def test_a_template_that_runs_away_is_left_as_soon_as_it_does() -> None:
    template = "{% for x in range(100000) %}{% for y in range(100000) %}{{ a }}{% endfor %}{% endfor %}"
    maker = RequestMaker.of(make_workload(prompt=template), ["a"])
    found = made_of(maker, batch_of(a=["x"] * PROMPTS), range(PROMPTS))  # all of them would take half a minute
    assert not isinstance(found, RequestTable | list)
    first = next(iter(found))
    assert isinstance(first, Rejection)
    assert first.code == "too_much_work"
