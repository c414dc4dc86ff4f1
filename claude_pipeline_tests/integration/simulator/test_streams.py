"""`stream: true` as the stream helpers of the sync, async and beta clients see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from pydantic import BaseModel

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import SCHEMA, connected, params, text_of, token_of

TOOL = {"name": "sort", "input_schema": SCHEMA}


class Sorted(BaseModel):
    queue: str
    hops: list[int]


@pytest.fixture(scope="module")
def thinker() -> Iterator[Simulator]:
    """Every answer begins with thinking."""
    with running(Options(thinking_rate=1.0, paused=True)) as simulator:
        yield simulator


def test_the_helper_gathers_the_message_that_a_plain_call_gives(thinker: Simulator) -> None:
    with connected(thinker) as client:
        whole = client.messages.create(**params("stream"))
        with client.messages.stream(**params("stream")) as stream:
            final = stream.get_final_message()
    assert [block.model_dump(exclude={"parsed_output"}) for block in final.content] == [
        block.model_dump(exclude={"parsed_output"}) for block in whole.content
    ]
    assert (final.usage, final.stop_reason) == (whole.usage, whole.stop_reason)


def test_the_async_helper_gathers_the_same(thinker: Simulator) -> None:
    async def talk() -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=thinker.base_url, api_key="async", max_retries=0) as client,
            client.messages.stream(**params("stream")) as stream,
        ):
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert text == text_of(final)
        assert token_of("stream") in text

    asyncio.run(talk())


def test_the_beta_helper_gathers_the_same(client: anthropic.Anthropic) -> None:
    with client.beta.messages.stream(**params("stream")) as stream:
        assert token_of("stream") in stream.get_final_text()
        assert stream.request_id == stream.response.headers["request-id"]


def test_a_tool_call_streams_its_input(client: anthropic.Anthropic) -> None:
    asked = params(tools=[TOOL], tool_choice={"type": "tool", "name": "sort"})
    with client.messages.stream(**asked) as stream:
        block = stream.get_final_message().content[-1]
    assert block.type == "tool_use"
    assert block == client.messages.create(**asked).content[-1].model_copy(update={"id": block.id})


def test_events_come_in_the_apis_order(thinker: Simulator) -> None:
    with connected(thinker) as client:
        kinds = [event.type for event in client.messages.create(**params(), stream=True)]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


def test_each_event_is_named_on_the_wire(simulator: Simulator) -> None:
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    answer = httpx2.post(f"{simulator.base_url}/v1/messages", headers=headers, json=params(stream=True))
    events = [event.split("\n") for event in answer.text.strip().split("\n\n")]
    assert answer.headers["content-type"].startswith("text/event-stream")
    for name, data in events:
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]


def test_the_last_event_says_the_totals_of_usage(thinker: Simulator) -> None:
    with connected(thinker) as client:
        events = list(client.messages.create(**params("count"), stream=True))
        whole = client.messages.create(**params("count")).usage
    start: Any = next(event for event in events if event.type == "message_start")
    last: Any = next(event for event in events if event.type == "message_delta")
    assert start.message.usage.output_tokens == 1
    assert (last.usage.input_tokens, last.usage.output_tokens) == (whole.input_tokens, whole.output_tokens)
    assert last.usage.output_tokens_details == whole.output_tokens_details


def test_a_refusal_arrives_with_the_last_event(client: anthropic.Anthropic) -> None:
    magic = "ANTHROPIC_MAGIC_STRING_TRIGGER_REFUSAL_1FAEFB6177B4672DEE07F9D3AFC62588CCD2631EDCF22E8CCC1FB35B501C9C86"
    with client.messages.stream(**params(magic)) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.content) == ("refusal", [])
    assert final.stop_details is not None


def test_a_params_error_of_a_stream_is_a_plain_error(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError), client.messages.stream(**params(messages=[])):
        pass


def test_a_parsed_stream_and_a_parsed_message_are_the_model_that_was_asked_for(client: anthropic.Anthropic) -> None:
    assert isinstance(client.messages.parse(**params(), output_format=Sorted).parsed_output, Sorted)
    assert isinstance(client.beta.messages.parse(**params(), output_format=Sorted).parsed_output, Sorted)
    with client.messages.stream(**params(), output_format=Sorted) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Sorted)


def test_the_async_client_parses_too(simulator: Simulator) -> None:
    async def talk() -> None:
        async with anthropic.AsyncAnthropic(base_url=simulator.base_url, api_key="async", max_retries=0) as client:
            message = await client.messages.parse(**params(), output_format=Sorted)
        assert isinstance(message.parsed_output, Sorted)

    asyncio.run(talk())
