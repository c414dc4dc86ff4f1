"""A thousand messages at once through the SDK's async client: none lost, none hanging, each billed once."""

from __future__ import annotations

import asyncio
from collections import Counter

import anthropic

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import params, text_of, token_of

CALLS = 1_000
PATIENCE_SECONDS = 120


async def asked(simulator: Simulator, calls: int, retries: int = 0) -> Counter[str]:
    """How `calls` calls at once ended: `own` answer, another's, or the error's class."""

    async def one(client: anthropic.AsyncAnthropic, number: int) -> str:
        try:
            message = await client.messages.create(**params(f"question {number}"))
        except anthropic.APIError as error:
            return type(error).__name__
        return "own" if token_of(f"question {number}") in text_of(message) else "another's"

    async with anthropic.AsyncAnthropic(
        base_url=simulator.base_url, api_key="many", max_retries=retries, timeout=PATIENCE_SECONDS
    ) as client:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return Counter(await asyncio.gather(*(one(client, number) for number in range(calls))))


def test_a_thousand_calls_at_once_are_all_answered() -> None:
    with running(Options(tier="custom")) as simulator:
        ended = asyncio.run(asked(simulator, CALLS))
        bill = simulator.invoice()
    assert ended == {"own": CALLS}
    assert (bill["billed_requests"], bill["billed_twice"], bill["calls"]["messages"]) == (CALLS, 0, {"200": CALLS})


def test_a_thousand_calls_at_once_in_a_small_tier_are_answered_or_refused() -> None:
    with running(Options(tier="tier1", paused=True)) as simulator:
        ended = asyncio.run(asked(simulator, CALLS))
        bill = simulator.invoice()
    assert ended.keys() == {"own", "RateLimitError"}
    assert ended.total() == CALLS
    assert bill["billed_requests"] == bill["accepted_requests"] == ended["own"]
    assert bill["calls"]["messages"] == {"200": ended["own"], "429": ended["RateLimitError"]}


def test_the_sdks_retries_bring_refused_calls_through() -> None:
    # A minute of the limits passes in a second, so that retry-after (1 real second) is enough for 50 more.
    with running(Options(tier="tier1", speed=60)) as simulator:
        ended = asyncio.run(asked(simulator, 120, retries=8))
        bill = simulator.invoice()
    assert ended == {"own": 120}
    assert (bill["billed_requests"], bill["billed_twice"]) == (120, 0)
    assert bill["calls"]["messages"]["429"] > 0
