"""Which params a message may have, and what the API says of the others."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    SCHEMA,
    connected,
    ended_batch,
    line_error,
    params,
    requests,
    results_of,
    text_of,
)

TOOL = {"name": "sort", "input_schema": SCHEMA}
MAGIC = "ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL_1FAEFB6177B4672DEE07F9D3AFC62588CCD2631EDCF22E8CCC1FB35B501C9C86"
CALL = {"type": "tool_use", "id": "toolu_1", "name": "sort", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}


def said(*contents: Any) -> list[dict[str, Any]]:
    """A conversation: user and assistant in turns."""
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def text(words: str = "x", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def cached(life: str | None = None) -> dict[str, Any]:
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": life} if life else {})}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stream-a-word": ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    "metadata-a-number": ({"metadata": 5}, "metadata: Input should be a valid dictionary"),
    "metadata-unknown": ({"metadata": {"x": 1}}, "metadata.x: Extra inputs"),
    "message-unknown-field": ({"messages": [{"role": "user", "content": "x", "y": 1}]}, "messages.0.y: Extra inputs"),
    "unknown-block": ({"messages": said([{"type": "banana"}])}, "Input tag 'banana'"),
    "block-without-text": ({"messages": said([{"type": "text"}])}, "messages.0.content.0.text"),
    "assistant-first": ({"messages": said("a", "b", "c")[1:]}, "first message must use"),
    "system-a-number": ({"system": 5}, "system: Input should be"),
    "system-an-image": ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
    "tool-result-alone": ({"messages": said([RESULT])}, "unexpected `tool_use_id`"),
    "tool-use-alone": ({"messages": said("a", [CALL], "b")}, "without `tool_result` blocks"),
    "document-of-assistant": ({"messages": said("a", [{"type": "document", "source": {}}], "b")}, "document blocks"),
    "citations-of-user": ({"messages": said([text(citations=[{"type": "x"}])])}, "citations"),
    "tool-name": ({"tools": [TOOL | {"name": "a b"}]}, "tools.0.custom.name: String should match"),
    "tool-without-schema": ({"tools": [{"name": "a"}]}, "input_schema: Field required"),
    "tool-schema-a-string": ({"tools": [{"name": "a", "input_schema": {"type": "string"}}]}, "input_schema.type"),
    "tool-schema-no-schema": (
        {"tools": [{"name": "a", "input_schema": {"type": "object", "properties": 5}}]}, "draft 2020-12",
    ),
    "tool-twice": ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    "tool-strict-bounds": (
        {"tools": [{"name": "a", "strict": True, "input_schema": {"type": "object"}}]}, "additionalProperties",
    ),
    "21-strict-tools": ({"tools": [TOOL | {"name": f"t{n}", "strict": True} for n in range(21)]}, "at most 20"),
    "forced-tool-not-there": ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "b"}}, "not found"),
    "forced-tool-without-tools": ({"tool_choice": {"type": "any"}}, "while providing tools"),
    "cache-type": ({"cache_control": {"type": "forever"}}, "cache_control.type: Input should be 'ephemeral'"),
    "cache-life": ({"system": [text(**cached("2h"))]}, "system.0.cache_control.ttl: Input should be '5m' or '1h'"),
    "five-breakpoints": ({"messages": said([text(**cached())] * 5)}, "A maximum of 4 blocks"),
    "1h-after-5m": ({"system": [text(**cached())], "messages": said([text(**cached("1h"))])}, "must not come after"),
    "geo-unknown": ({"inference_geo": "mars"}, "inference_geo: Input should be"),
    "geo-of-an-old-model": ({"inference_geo": "us", "model": "claude-haiku-4-5"}, "inference_geo: not supported"),
    "output-unknown": ({"output_config": {"x": 1}}, "output_config.x: Extra inputs"),
    "budget-missing": ({"model": "claude-haiku-4-5", "thinking": {"type": "enabled"}}, "budget_tokens: Field required"),
    "budget-small": (
        {"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 99}}, "than or equal to 1024",
    ),
    "budget-over-max-tokens": (
        {"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 1024}}, "must be greater than",
    ),
    "adaptive-on-an-old-model": ({"model": "claude-haiku-4-5", "thinking": {"type": "adaptive"}}, "adaptive thinking"),
    "disabled-on-opus": ({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, "thinking.type.disabled"),
    "negative-max-tokens": ({"max_tokens": -1}, "max_tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_message_is_refused_with_the_place_of_its_fault(
    client: anthropic.Anthropic, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.post("/v1/messages", body=params(**changes), cast_to=Message)
    assert message in str(refused.value.api_message)


ACCEPTED: dict[str, dict[str, Any]] = {
    "system-blocks": {"system": [text("Be brief."), text("Be kind.", **cached("1h"))]},
    "1h-before-5m": {"system": [text(**cached("1h"))], "messages": said([text(**cached("5m"))])},
    "tool-turn": {"messages": said("a", [CALL], [RESULT, text()]), "tools": [TOOL]},
    "vendor-tool": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "no-tool": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "system-message": {"messages": [*said("a", "b"), {"role": "system", "content": "x"}, *said("c")]},
    "nulls": {"cache_control": None, "inference_geo": None, "output_config": {"effort": None, "format": None}},
    "budget": {
        "model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048,
    },
    "effort": {"output_config": {"effort": "xhigh"}},
    "between-tools": {"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"}},
    "prefill-of-an-old-model": {"model": "claude-haiku-4-5", "messages": said("a", "{")},
}  # fmt: skip


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_message_is_answered(client: anthropic.Anthropic, changes: dict[str, Any]) -> None:
    assert client.post("/v1/messages", body=params(**changes), cast_to=Message).stop_reason == "end_turn"


@pytest.mark.parametrize("name", ["document-of-assistant", "citations-of-user"])
def test_the_older_version_accepts_what_the_newest_refuses(client: anthropic.Anthropic, name: str) -> None:
    old = client.with_options(default_headers={"anthropic-version": "2023-06-01"})
    message = old.post("/v1/messages", body=params(temperature=1, **REFUSED[name][0]), cast_to=Message)
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_is_refused_in_counts_too(client: anthropic.Anthropic, name: str) -> None:
    asked = {key: value for key, value in params().items() if key != "max_tokens"}
    with pytest.raises(anthropic.BadRequestError, match=name):
        client.post("/v1/messages/count_tokens", body=asked | {name: 1}, cast_to=Message)


def test_max_tokens_0_fills_the_cache_and_writes_nothing(client: anthropic.Anthropic) -> None:
    manual = [text("a long manual " * 400, **cached("1h"))]
    warmed = client.messages.create(**params(max_tokens=0, system=manual))
    assert (warmed.content, warmed.stop_reason, warmed.usage.output_tokens) == ([], "max_tokens", 0)
    assert client.messages.create(**params("then", system=manual)).usage.cache_read_input_tokens == 1400


def test_max_tokens_0_is_refused_in_a_batch(client: anthropic.Anthropic, simulator: Simulator) -> None:
    assert line_error(client, simulator, params(max_tokens=0))[0] == "invalid_request_error"


def test_billing_a_user_profile_is_refused_in_a_batch(client: anthropic.Anthropic, simulator: Simulator) -> None:
    asked = params(billing_policy={"bill_to": "user_profile"})
    assert "billing_policy.bill_to" in line_error(client, simulator, asked)[1]


def test_usage_names_where_the_answer_was_made(client: anthropic.Anthropic) -> None:
    places = [client.messages.create(**params(inference_geo=geo)).usage.inference_geo for geo in ("us", "global", None)]
    assert places == ["us", "global", "global"]


def test_the_refusal_prompt_is_refused_in_a_message_and_in_a_batch(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    message = client.messages.create(**params(f"Say {MAGIC}"))
    asked = [{"custom_id": "magic", "params": params(MAGIC)}, *requests(1)]
    lines = results_of(client, ended_batch(client, simulator, asked).id)
    in_batch = lines["magic"].result.message  # type: ignore[union-attr]
    answers: list[Any] = [message, in_batch]
    for refused in answers:
        assert (refused.stop_reason, text_of(refused)) == ("refusal", "")
        assert refused.stop_details.type == "refusal"
    assert lines["r0"].result.message.stop_reason == "end_turn"  # type: ignore[union-attr]


def test_a_beta_named_after_a_blank_or_in_a_second_header_counts(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    beta = client.with_options(default_headers={"anthropic-beta": "some-beta, output-300k-2026-03-24"})
    assert ended_batch(beta, simulator, requests(1, max_tokens=300_000)).request_counts.succeeded == 1


def test_omitted_thinking_is_an_empty_block_that_is_billed() -> None:
    with running(Options(thinking_rate=1.0)) as simulator, connected(simulator) as client:
        shown, hidden = (
            client.messages.create(**params(thinking={"type": "adaptive", "display": display}))
            for display in ("summarized", "omitted")
        )
    assert [block.type for block in hidden.content] == [block.type for block in shown.content] == ["thinking", "text"]
    assert hidden.content[0].thinking == ""
    assert hidden.usage.output_tokens_details.thinking_tokens > 0


def test_a_deprecated_model_answers_and_the_sdk_warns(client: anthropic.Anthropic) -> None:
    with pytest.warns(DeprecationWarning, match="claude-sonnet-4-5"):
        assert client.messages.create(**params(model="claude-sonnet-4-5")).model == "claude-sonnet-4-5-20250929"


def test_a_forced_tool_with_a_recursive_schema_gets_an_input_that_ends(client: anthropic.Anthropic) -> None:
    tree = {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["kids", "next"],
    }  # fmt: skip
    tools = [{"name": "plant", "input_schema": tree}]
    block = client.messages.create(**params(tools=tools, tool_choice={"type": "any"})).content[-1]
    assert block.type == "tool_use"
    assert block.input == {"kids": [], "next": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 2), ("temperature", -0.1), ("temperature", "1"), ("top_p", 1.5), ("top_k", 1.5), ("top_k", -1)],
)
def test_the_older_version_refuses_sampling_out_of_range(client: anthropic.Anthropic, name: str, value: Any) -> None:
    older = {"anthropic-version": "2023-06-01"}
    with pytest.raises(anthropic.BadRequestError, match=name):
        client.messages.create(**params(), extra_headers=older, extra_body={name: value})
