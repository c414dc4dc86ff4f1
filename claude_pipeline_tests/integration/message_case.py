"""Asking for one message: of the simulator, or of a server that answers as it is told."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from claude_pipeline.lane.access import connect_async
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.reply import Reply
from claude_pipeline.lane.waits import USUAL, Waits
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.integration.simulator.case import params
from claude_pipeline_tests.raw_server import Answer, always, response, serving

KEY = "not-to-be-seen-anywhere"
PARAMS = orjson.dumps(params())
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "yes"}], "usage": {"input_tokens": 3, "output_tokens": 2},
}  # fmt: skip
BODY = orjson.dumps(MESSAGE)


def client_at(base_url: str, waits: Waits = USUAL) -> MessageClient:
    environment = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": base_url}
    return MessageClient(lambda: NOW, connect=lambda: connect_async(environment), waits=waits)


def ask_at(base_url: str, asked: bytes = PARAMS, *, seconds: float = 30.0) -> Reply:
    async def scene() -> Reply:
        async with client_at(base_url) as client:
            return await client.ask(asked, seconds)

    return asyncio.run(scene())


def ask_raw(answer: Answer, *, seconds: float = 30.0, reads: bool = True, waits: Waits = USUAL) -> Reply:
    """The reply to a question at a server that answers so."""

    async def scene() -> Reply:
        async with serving(answer, reads=reads) as base_url, client_at(base_url, waits) as client:
            return await client.ask(PARAMS, seconds)

    return asyncio.run(scene())


def given(body: bytes, **how: Any) -> Reply:
    return ask_raw(always(response(body, **how)))
