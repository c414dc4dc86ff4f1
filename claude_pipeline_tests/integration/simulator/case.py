"""What the simulator's integration tests share: the real SDK as client, and batches in a known state."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from claude_pipeline.simulator import Options, Simulator

BATCH_SECONDS = 60
OPTIONS = Options(batch_seconds=(BATCH_SECONDS, BATCH_SECONDS), paused=True, seed=7)
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}, "why": {"type": "string"}},
    "required": ["queue", "why"],
    "additionalProperties": False,
}
_keys = itertools.count()


def params(text: str = "hello", **changes: Any) -> dict[str, Any]:
    """Messages params that the API accepts."""
    message = {"role": "user", "content": text}
    return {"model": "claude-haiku-5-5", "max_tokens": 256, "messages": [message]} | changes


def requests(count: int, **changes: Any) -> list[Any]:
    """Requests r0, r1, ... each with a text of its own."""
    return [{"custom_id": f"r{n}", "params": params(f"text {n}", **changes)} for n in range(count)]


@contextmanager
def connected(simulator: Simulator, api_key: str | None = None) -> Iterator[anthropic.Anthropic]:
    """The SDK's client, without retries, in a workspace of its own."""
    key = api_key or f"key-{next(_keys)}"
    with anthropic.Anthropic(base_url=simulator.base_url, api_key=key, max_retries=0) as client:
        yield client


def ended_batch(client: anthropic.Anthropic, simulator: Simulator, asked: list[Any]) -> MessageBatch:
    """A batch whose time is over."""
    batch = client.messages.batches.create(requests=asked)
    simulator.clock.advance(BATCH_SECONDS)
    return client.messages.batches.retrieve(batch.id)


def results_of(client: anthropic.Anthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    return {line.custom_id: line for line in client.messages.batches.results(batch_id)}


def line_error(client: anthropic.Anthropic, simulator: Simulator, asked: dict[str, Any]) -> tuple[str, str]:
    """(type, message) of the error that a batch of one request comes back with."""
    batch = ended_batch(client, simulator, [{"custom_id": "only", "params": asked}])
    result: Any = results_of(client, batch.id)["only"].result
    assert result.type == "errored", result
    return result.error.error.type, result.error.error.message


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def token_of(text: str) -> str:
    """The digest token that an answer to this text must carry."""
    return f"[sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}]"
