"""One call, made with the SDK's sync client and with its async client, against the same simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Simulator

API_KEY = "either-client"
both_clients = pytest.mark.parametrize("way", ["sync", "async"])
Call = Callable[[Any], Any]


def ask(way: str, simulator: Simulator, call: Call, **settings: Any) -> Any:
    """What `call(client)` gives, with a client of its own that does not retry unless `settings` say so."""
    given: dict[str, Any] = {"base_url": simulator.base_url, "api_key": API_KEY, "max_retries": 0} | settings
    if way == "sync":
        with anthropic.Anthropic(**given) as client:
            return call(client)

    async def waited() -> Any:
        async with anthropic.AsyncAnthropic(**given) as client:
            return await call(client)

    return asyncio.run(waited())


def download(way: str, simulator: Simulator, batch_id: str) -> list[Any]:
    """The result lines of a batch, as the SDK decodes them."""

    def typed(client: anthropic.Anthropic) -> list[Any]:
        return list(client.messages.batches.results(batch_id))

    async def lines(client: anthropic.AsyncAnthropic) -> list[Any]:
        return [line async for line in await client.messages.batches.results(batch_id)]

    found: list[Any] = ask(way, simulator, typed if way == "sync" else lines)
    return found


def listed(simulator: Simulator) -> list[Any]:
    """The batches there are."""
    found: list[Any] = ask("sync", simulator, lambda client: client.messages.batches.list()).data
    return found


def raw_results(simulator: Simulator, batch_id: str) -> bytes:
    """The results as they travel."""
    headers = {"x-api-key": API_KEY, "anthropic-version": "2026-10-21"}
    url = f"{simulator.base_url}/v1/messages/batches/{batch_id}/results"
    return httpx2.get(url, headers=headers).raise_for_status().content
