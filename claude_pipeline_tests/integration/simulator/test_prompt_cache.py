"""Which tokens a prompt writes to the cache, which it reads, and what a batch shares with messages."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic.types import Usage

from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.integration.simulator.case import ended_batch, params, requests, results_of

LONG = "a long manual " * 400  # 1,400 tokens of 4 bytes
MANUAL = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}


def classes(usage: Usage) -> tuple[int, int, int]:
    """(written for 5 minutes, written for 1 hour, read)"""
    made = usage.cache_creation
    assert made is not None
    assert usage.cache_creation_input_tokens == made.ephemeral_5m_input_tokens + made.ephemeral_1h_input_tokens
    return made.ephemeral_5m_input_tokens, made.ephemeral_1h_input_tokens, usage.cache_read_input_tokens or 0


def usages(client: anthropic.Anthropic, simulator: Simulator, count: int) -> list[Usage]:
    """Usage of each line of a batch whose lines share the manual."""
    batch = ended_batch(client, simulator, requests(count, system=[MANUAL]))
    return [line.result.message.usage for line in results_of(client, batch.id).values()]  # type: ignore[union-attr]


def test_the_classes_add_up_to_the_counted_tokens(client: anthropic.Anthropic) -> None:
    tool = {"name": "sort", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    asked = params(system=[MANUAL], tools=[tool])
    counted = client.messages.count_tokens(
        model=asked["model"], messages=asked["messages"], system=asked["system"], tools=asked["tools"]
    )
    for _ in range(2):
        usage = client.messages.create(**asked).usage
        assert usage.input_tokens + sum(classes(usage)) == counted.input_tokens


def test_each_breakpoint_is_written_with_its_own_life(client: anthropic.Anthropic) -> None:
    page = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    asked = params(system=[MANUAL], messages=[{"role": "user", "content": [page]}])
    assert classes(client.messages.create(**asked).usage) == (1400, 1400, 0)
    assert classes(client.messages.create(**asked).usage) == (0, 0, 2800)


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3600)])
def test_a_read_renews_the_life(client: anthropic.Anthropic, simulator: Simulator, ttl: str, seconds: int) -> None:
    block = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": ttl}}
    reads = []
    for wait in (0, seconds - 1, seconds - 1, seconds + 1):
        simulator.clock.advance(wait)
        reads.append(client.messages.create(**params(system=[block])).usage.cache_read_input_tokens)
    assert reads == [0, 1400, 1400, 0]


def test_a_growing_conversation_reads_what_it_wrote_before(client: anthropic.Anthropic) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": LONG}]
    read = []
    for turn in range(3):
        usage = client.messages.create(**params(messages=turns, cache_control={"type": "ephemeral"})).usage
        read.append(usage.cache_read_input_tokens)
        turns = [*turns, {"role": "assistant", "content": "yes"}, {"role": "user", "content": f"and {turn}? " * 8}]
    assert read[0] == 0
    assert 1400 == read[1] < read[2]


def test_a_prefix_more_than_20_blocks_back_is_out_of_sight(client: anthropic.Anthropic) -> None:
    first = {"role": "user", "content": LONG}
    client.messages.create(**params(messages=[first], cache_control={"type": "ephemeral"}))
    read = []
    for more in (19, 20):
        blocks = [{"type": "text", "text": f"word {n} of {more}"} for n in range(more)]
        turns = [first, {"role": "user", "content": blocks}]
        usage = client.messages.create(**params(messages=turns, cache_control={"type": "ephemeral"})).usage
        read.append(usage.cache_read_input_tokens)
    assert read == [1400, 0]


def test_another_output_format_does_not_read_the_prefix(client: anthropic.Anthropic) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": {"type": "string"}}}
    plain, formed = (
        client.messages.create(**params(system=[MANUAL], **more)) for more in ({}, {"output_config": form})
    )
    assert classes(plain.usage) == classes(formed.usage) == (0, 1400, 0)


def test_another_tool_choice_still_reads_the_system_prompt(client: anthropic.Anthropic) -> None:
    tool = {"name": "sort", "input_schema": {"type": "object"}}
    client.messages.create(**params(system=[MANUAL], tools=[tool]))
    usage = client.messages.create(**params(system=[MANUAL], tools=[tool], tool_choice={"type": "any"})).usage
    assert (usage.cache_read_input_tokens or 0) >= 1400


def test_a_batch_warms_the_cache_of_the_next_batch(client: anthropic.Anthropic, simulator: Simulator) -> None:
    assert classes(usages(client, simulator, 1)[0]) == (0, 1400, 0)
    reads = [classes(usage)[2] for usage in usages(client, simulator, 100)]
    assert 75 <= reads.count(1400) <= 99


def test_a_message_does_not_warm_a_batch_nor_a_batch_a_message(
    client: anthropic.Anthropic, simulator: Simulator
) -> None:
    client.messages.create(**params(system=[MANUAL]))
    assert classes(usages(client, simulator, 1)[0]) == (0, 1400, 0)
    other = MANUAL | {"text": LONG + "!"}
    ended_batch(client, simulator, requests(1, system=[other]))
    assert client.messages.create(**params(system=[other])).usage.cache_read_input_tokens == 0


@pytest.mark.parametrize(("model", "tokens"), [("claude-haiku-5-5", 512), ("claude-sonnet-5", 1024)])
def test_a_prefix_is_cached_from_the_models_least_length_on(
    client: anthropic.Anthropic, model: str, tokens: int
) -> None:
    written = []
    for size in (tokens - 1, tokens):
        block = {"type": "text", "text": "abcd" * size, "cache_control": {"type": "ephemeral"}}
        written.append(classes(client.messages.create(**params(model=model, system=[block])).usage)[0])
    assert written == [0, tokens]
