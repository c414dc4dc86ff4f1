"""Which prefix of a workload's requests is marked for the prompt cache, how, and what it saves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from claude_pipeline.cache import CONTROL, cache_saving, choose, is_marked
from claude_pipeline.catalog import load
from claude_pipeline.request import Request, RequestMaker, constant_head
from claude_pipeline_tests.factory import make_workload

LONG = "Rules. " * 400  # 2,800 bytes: 700 tokens, over the 512 of Haiku 5.5
MODEL = load().model("claude-haiku-5-5")
TOOL = {"name": "look_up", "description": LONG, "input_schema": {"type": "object"}}


def marked(record: dict[str, Any], **fields: Any) -> tuple[Request, dict[str, Any]]:
    """The request of a record, and its params as they are sent under `cache: auto`."""
    workload = make_workload(cache="auto", **fields)
    made = RequestMaker.of(workload, record).make(0, "n0", record)
    choice = choose(workload, MODEL, 100)
    assert isinstance(made, Request)
    assert choice.mark is not None, choice.why
    params: dict[str, Any] = orjson.loads(choice.mark(made.params))
    return made, params


def test_a_long_system_prompt_becomes_a_marked_block() -> None:
    made, params = marked({"text": 'say "system":'}, system=LONG)
    assert params["system"] == [{"type": "text", "text": LONG, "cache_control": CONTROL}]
    assert params["messages"] == orjson.loads(made.params)["messages"]


def test_the_last_tool_is_marked_where_there_is_no_system_prompt() -> None:
    _, params = marked({"text": "a"}, params={"tools": [TOOL | {"name": "first"}, TOOL]})
    assert [tool.get("cache_control") for tool in params["tools"]] == [None, CONTROL]


@pytest.mark.parametrize("text", ["plain", 'quotes "," and \\ and \n', "日本語", '","role":"user"}]'])
def test_the_constant_head_of_a_long_prompt_becomes_a_block_of_its_own(text: str) -> None:
    _, params = marked({"text": text}, prompt=LONG + "Sort:\n{{ text }}", system="Be brief.")
    first, second = params["messages"][0]["content"]
    assert first == {"type": "text", "text": LONG + "Sort:\n", "cache_control": CONTROL}
    assert second == {"type": "text", "text": text}
    assert params["system"] == "Be brief."


def test_a_prompt_with_nothing_behind_its_head_stays_one_text() -> None:
    made, params = marked({"text": ""}, prompt=LONG + "{{ text or '' }}")
    assert params == orjson.loads(made.params)


def test_the_mark_is_known_again_and_a_text_about_it_is_not() -> None:
    made, params = marked({"text": '"cache_control": {}'}, system=LONG)
    assert not is_marked(made.params)
    assert is_marked(orjson.dumps(params))


HEADS = [
    ("Sort: {{ text }}", "Sort: "),
    ("Sort:\n\n{{- text }}", "Sort:"),
    ("{{ text }} please", ""),
    ("a {# said aside #}b {{ text }}", "a b "),
    ("{% if text %}a{% endif %}", ""),
    ("{% raw %}{{ no column }}{% endraw %} {{ text }}", "{{ no column }} "),
    ("no column at all", "no column at all"),
]


@pytest.mark.parametrize(("template", "head"), HEADS)
def test_the_head_of_a_template_ends_before_its_first_column(template: str, head: str) -> None:
    assert constant_head(template) == head


OFF: list[Any] = [
    pytest.param({"cache": "off", "system": LONG}, {}, 100, "cache: auto turns it on", id="off"),
    pytest.param({"system": "Sort."}, {}, 100, "caches from 512 on", id="short"),
    pytest.param({"system": LONG}, {}, 19, "too few", id="few-requests"),
    pytest.param({"system": LONG}, {"min_cacheable_tokens": None}, 100, "is not known", id="unknown-minimum"),
    pytest.param(
        {"system": LONG, "params": {"cache_control": {"type": "ephemeral"}}}, {}, 100, "of their own", id="own-mark"
    ),
]


@pytest.mark.parametrize(("fields", "model", "requests", "why"), OFF)
def test_where_it_cannot_pay_it_is_off_and_says_why(
    fields: dict[str, Any], model: dict[str, Any], requests: int, why: str
) -> None:
    choice = choose(make_workload(**{"cache": "auto", **fields}), replace(MODEL, **model), requests)
    assert not choice.on
    assert choice.why.startswith("off: ")
    assert why in choice.why


def test_yaml_reads_a_bare_off_as_false_and_means_off() -> None:
    assert make_workload(cache=False).cache == "off"


def test_a_saving_counts_the_write_of_the_primer_and_of_what_misses() -> None:
    price = load().price("claude-haiku-5-5", datetime(2026, 11, 22, tzinfo=UTC))
    # In units a token in a batch: 500 plain, 1,000 written for an hour, 50 read.
    saving = cache_saving(price, prefix_tokens=1_000, requests=101, hit_rate=0.9)
    assert saving.primer_units == 500 * 1_000
    assert saving.units == 100 * 1_000 * (500 - (0.9 * 50 + 0.1 * 1_000)) - 500 * 1_000
    assert saving.break_even_hit_rate == pytest.approx(500 / 950)
    assert cache_saving(price, prefix_tokens=1_000, requests=101, hit_rate=0.3).units < 0
