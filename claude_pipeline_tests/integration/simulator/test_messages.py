"""Messages, token counts and models as the real SDK sees them."""

from __future__ import annotations

import json

import anthropic
import pydantic
import pytest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import (
    SCHEMA,
    connected,
    ended_batch,
    params,
    requests,
    results_of,
    text_of,
    token_of,
)


def test_an_answer_carries_the_digest_of_its_prompt(client: anthropic.Anthropic) -> None:
    assert token_of("What now?") in text_of(client.messages.create(**params("What now?")))


def test_the_same_question_gets_the_same_answer(client: anthropic.Anthropic) -> None:
    first, second = (client.messages.create(**params("Again?")) for _ in range(2))
    assert (first.content, first.usage) == (second.content, second.usage)


def test_a_batch_answers_what_a_message_answers(client: anthropic.Anthropic, simulator: Simulator) -> None:
    batch = ended_batch(client, simulator, requests(1))
    in_batch = results_of(client, batch.id)["r0"].result.message  # type: ignore[union-attr]
    assert in_batch.content == client.messages.create(**params("text 0")).content


@pytest.mark.parametrize("lane", ["batch", "standard"])
def test_usage_names_the_lane(client: anthropic.Anthropic, simulator: Simulator, lane: str) -> None:
    if lane == "batch":
        batch = ended_batch(client, simulator, requests(1))
        usage = results_of(client, batch.id)["r0"].result.message.usage  # type: ignore[union-attr]
    else:
        usage = client.messages.create(**params()).usage
    assert usage.service_tier == lane


def test_an_answer_longer_than_max_tokens_is_cut(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**params(max_tokens=3))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    assert len(text_of(message)) == 12


def test_a_structured_answer_is_valid_for_its_schema(client: anthropic.Anthropic) -> None:
    asked = params("sort me", output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    answer = json.loads(text_of(client.messages.create(**asked)))
    assert answer.keys() == {"queue", "why"}
    assert answer["queue"] in ("billing", "other")
    assert token_of("sort me") in answer["why"]


def test_a_stop_sequence_ends_the_answer(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**params(stop_sequences=["sha256"]))
    assert (message.stop_reason, message.stop_sequence, text_of(message)) == ("stop_sequence", "sha256", "[")


def test_a_forced_tool_is_called_with_valid_input(client: anthropic.Anthropic) -> None:
    tool = {"name": "sort", "input_schema": SCHEMA}
    message = client.messages.create(**params(tools=[tool], tool_choice={"type": "tool", "name": "sort"}))
    block = message.content[-1]
    assert (message.stop_reason, block.type) == ("tool_use", "tool_use")
    assert block.input.keys() == {"queue", "why"}


def test_a_stream_adds_up_to_the_message(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**params("stream"))
    with client.messages.stream(**params("stream")) as stream:
        final = stream.get_final_message()
    assert (text_of(final), final.stop_reason) == (text_of(whole), whole.stop_reason)
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_counted_tokens_are_the_billed_input(client: anthropic.Anthropic) -> None:
    asked = params("count me " * 50)
    counted = client.messages.count_tokens(model=asked["model"], messages=asked["messages"]).input_tokens
    assert counted == client.messages.create(**asked).usage.input_tokens


def test_thinking_comes_first_when_it_is_switched_on() -> None:
    with running(Options(thinking_rate=1.0)) as simulator, connected(simulator) as client:
        message = client.messages.create(**params())
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens > message.usage.output_tokens_details.thinking_tokens > 0


def test_a_cached_prefix_is_written_once_and_read_then(client: anthropic.Anthropic) -> None:
    block = {"type": "text", "text": "a long manual " * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    first, second = (client.messages.create(**params(f"question {n}", system=[block])).usage for n in range(2))
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_1h_input_tokens == 1400
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 1400)


def test_a_cached_prefix_dies_after_its_life(client: anthropic.Anthropic, simulator: Simulator) -> None:
    block = {"type": "text", "text": "a long manual " * 400, "cache_control": {"type": "ephemeral"}}
    client.messages.create(**params(system=[block]))
    simulator.clock.advance(301)
    assert client.messages.create(**params(system=[block])).usage.cache_read_input_tokens == 0


def test_a_prefix_too_short_to_cache_is_plain_input(client: anthropic.Anthropic) -> None:
    block = {"type": "text", "text": "short", "cache_control": {"type": "ephemeral"}}
    usage = client.messages.create(**params(system=[block])).usage
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 0)


def test_an_answer_tells_what_is_left_of_the_limits(client: anthropic.Anthropic) -> None:
    headers = client.messages.with_raw_response.create(**params()).headers
    assert headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert headers["anthropic-ratelimit-requests-remaining"] == "999"
    assert headers["anthropic-ratelimit-input-tokens-limit"] == "2000000"


def test_the_51st_request_of_a_minute_is_refused_in_tier_1() -> None:
    with running(Options(tier="tier1", speed=0)) as simulator, connected(simulator) as client:
        for _ in range(50):
            client.messages.create(**params(max_tokens=8))
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(**params(max_tokens=8))
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_the_limit_refills_on_the_simulators_clock() -> None:
    with running(Options(tier="tier1", paused=True)) as simulator, connected(simulator) as client:
        for _ in range(50):
            client.messages.create(**params(max_tokens=8))
        simulator.clock.advance(60)
        assert client.messages.create(**params(max_tokens=8)).usage.output_tokens > 0


def test_models_are_listed_newest_first(client: anthropic.Anthropic) -> None:
    dates = [model.created_at for model in client.models.list(limit=3)]
    assert len(dates) > 10
    assert dates == sorted(dates, reverse=True)


def test_an_alias_leads_to_its_model(client: anthropic.Anthropic) -> None:
    assert client.models.retrieve("claude-haiku-4-5").id == "claude-haiku-4-5-20251001"


def test_a_model_tells_that_it_can_be_batched(client: anthropic.Anthropic) -> None:
    model = client.models.retrieve("claude-haiku-5-5")
    assert model.capabilities is not None
    assert model.capabilities.batch.supported
    assert (model.max_input_tokens, model.max_tokens, model.lifecycle) == (1_000_000, 128_000, "active")


def test_models_can_be_asked_by_lifecycle(client: anthropic.Anthropic) -> None:
    deprecated = client.models.list(lifecycle=["deprecated"])
    assert [model.id for model in deprecated] == ["claude-sonnet-4-5-20250929"]


class Review(pydantic.BaseModel):
    """Bounds that the SDK moves into descriptions, because the API refuses them."""

    stars: int = pydantic.Field(ge=1, le=5, description="How good.")
    weight: float = pydantic.Field(gt=0, lt=1)
    word: str = pydantic.Field(max_length=12)
    long: str = pydantic.Field(min_length=100)
    points: list[int] = pydantic.Field(min_length=4, max_length=5)
    even: int = pydantic.Field(multiple_of=2, ge=10)


@pytest.mark.parametrize("number", range(5))
def test_an_answer_keeps_to_the_bounds_that_the_sdk_told_in_words(client: anthropic.Anthropic, number: int) -> None:
    message = client.messages.parse(**params(f"text {number}", max_tokens=2_000), output_format=Review)
    assert isinstance(message.parsed_output, Review)
