"""Rate limits as the real SDK meets them: headers, retry-after to the second, pools apart, every tier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import anthropic
import httpx2
import pytest

from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.simulator.limit import find_tier
from claude_pipeline_tests.integration.simulator.case import connected, ended_batch, params, requests

LIMITS = ("requests", "input-tokens", "output-tokens", "tokens")
TIERS = {
    "start": (1_000, 2_000_000, 400_000),
    "build": (5_000, 5_000_000, 1_000_000),
    "scale": (10_000, 10_000_000, 2_000_000),
    "custom": (100_000, 100_000_000, 20_000_000),
    "tier1": (50, 40_000, 8_000),
    "tier2": (1_000, 80_000, 16_000),
    "tier3": (2_000, 160_000, 32_000),
    "tier4": (4_000, 400_000, 80_000),
}
SONNET, HAIKU = "claude-sonnet-5", "claude-haiku-5-5"


@pytest.fixture
def poor() -> Iterator[Simulator]:
    """A simulator of tier 1 whose clock moves by hand only (limits never run slower than real time)."""
    with running(Options(tier="tier1", paused=True)) as simulator:
        yield simulator


def used_up(client: anthropic.Anthropic, model: str = HAIKU) -> anthropic.RateLimitError:
    """The 429 that comes once the requests of a minute are gone."""
    for number in range(200):
        try:
            client.messages.create(**params(f"{number}", model=model, max_tokens=1))
        except anthropic.RateLimitError as refused:
            return refused
    raise AssertionError("never refused")


@pytest.mark.parametrize(("tier", "limits"), TIERS.items(), ids=TIERS.keys())
def test_a_tiers_limits_are_in_the_headers(tier: str, limits: tuple[int, int, int]) -> None:
    with running(Options(tier=tier, paused=True)) as simulator, connected(simulator) as client:
        headers = client.messages.with_raw_response.create(**params(model=SONNET)).headers
    assert tuple(int(headers[f"anthropic-ratelimit-{name}-limit"]) for name in LIMITS[:3]) == limits


def test_an_answer_carries_all_twelve_headers_and_no_retry_after(poor: Simulator) -> None:
    with connected(poor) as client:
        headers = client.messages.with_raw_response.create(**params()).headers
    names = {f"anthropic-ratelimit-{name}-{part}" for name in LIMITS for part in ("limit", "remaining", "reset")}
    assert names <= set(headers)
    assert "retry-after" not in headers


def test_a_reset_is_a_moment_soon_after_now(poor: Simulator) -> None:
    with connected(poor) as client:
        headers = client.messages.with_raw_response.create(**params()).headers
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert timedelta(0) <= reset - poor.clock.now().replace(microsecond=0) <= timedelta(minutes=1)


def test_a_refusal_carries_the_headers_and_retry_after(poor: Simulator) -> None:
    with connected(poor) as client:
        refused = used_up(client)
    headers = refused.response.headers
    assert refused.type == "rate_limit_error"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["anthropic-ratelimit-requests-limit"] == "50"
    assert int(headers["retry-after"]) >= 1


def test_the_async_client_is_refused_with_the_same_headers(poor: Simulator) -> None:
    async def refused() -> anthropic.RateLimitError:
        with connected(poor) as client:
            used_up(client)
        async with anthropic.AsyncAnthropic(base_url=poor.base_url, api_key="k", max_retries=0) as client:
            with pytest.raises(anthropic.RateLimitError) as caught:
                await client.messages.create(**params())
            return caught.value

    assert {"retry-after", "anthropic-ratelimit-requests-reset"} <= set(asyncio.run(refused()).response.headers)


def exhausted_input(client: anthropic.Anthropic, tokens: int) -> anthropic.RateLimitError:
    """The 429 for a second prompt of so many tokens, after a first that took the whole minute's."""
    client.messages.create(**params("x" * 4 * 49_990, max_tokens=1))
    with pytest.raises(anthropic.RateLimitError) as refused:
        client.messages.create(**params("y" * 4 * tokens, max_tokens=1))
    return refused.value


def test_a_call_after_retry_after_succeeds(poor: Simulator) -> None:
    with connected(poor) as client:
        seconds = int(exhausted_input(client, 25_000).response.headers["retry-after"])
        poor.clock.advance(seconds)
        assert client.messages.create(**params("y" * 4 * 25_000, max_tokens=1)).content


def test_a_call_just_before_retry_after_is_refused(poor: Simulator) -> None:
    with connected(poor) as client:
        seconds = int(exhausted_input(client, 25_000).response.headers["retry-after"])
        poor.clock.advance(seconds - 2)  # one for the whole second, one for the real time of this test
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**params("y" * 4 * 25_000, max_tokens=1))


def test_a_model_that_is_used_up_leaves_the_others_alone(poor: Simulator) -> None:
    with connected(poor) as client:
        used_up(client, HAIKU)
        for model in (SONNET, "claude-opus-5-5", "claude-fable-5-2", "claude-haiku-4-5"):
            assert client.messages.create(**params(model=model)).content


def test_models_of_one_pool_share_their_limit(poor: Simulator) -> None:
    with connected(poor) as client:
        used_up(client, "claude-opus-4-8")
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**params(model="claude-opus-4-7"))


def test_batches_do_not_touch_the_limits_of_messages(poor: Simulator) -> None:
    with connected(poor) as client:
        ended_batch(client, poor, requests(60))
        remaining = client.messages.with_raw_response.create(**params()).headers
    assert remaining["anthropic-ratelimit-requests-remaining"] == "49"


def test_what_is_read_from_the_cache_does_not_count_as_input(poor: Simulator) -> None:
    system = [{"type": "text", "text": "z" * 4 * 30_000, "cache_control": {"type": "ephemeral"}}]
    with connected(poor) as client:
        client.messages.create(**params(system=system))
        again = client.messages.create(**params("once more", system=system))
    assert again.usage.cache_read_input_tokens == 30_000


def test_the_spend_cap_holds_until_the_next_month() -> None:
    options = Options(tier="tier1", paused=True, start=datetime(2026, 11, 29, tzinfo=UTC))
    with running(options) as simulator, connected(simulator) as client:
        simulator.api.store.add_spend("2026-11", 100 * 10**12)
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(**params())
        simulator.clock.advance(2 * 86_400)
        assert client.messages.create(**params()).content
    assert isinstance(refused.value, anthropic.EnforcedSpendLimitReachedError)


def test_a_cap_is_reached_by_what_was_billed() -> None:
    with running(Options(tier="tier1", paused=True)) as simulator, connected(simulator) as client:
        month = simulator.clock.now().strftime("%Y-%m")
        simulator.api.store.add_spend(month, 100 * 10**12 - 1)
        client.messages.create(**params())
        with pytest.raises(anthropic.EnforcedSpendLimitReachedError):
            client.messages.create(**params())


def test_a_steep_start_is_refused_where_the_ramp_limit_is_on() -> None:
    with running(Options(paused=True, ramp_minutes=10)) as simulator, connected(simulator) as client:
        refused = used_up(client)
        simulator.clock.advance(int(refused.response.headers["retry-after"]))
        assert client.messages.create(**params()).content
    assert isinstance(refused, anthropic.RampLimitExceededError)


def test_a_pool_gives_all_of_its_limit_after_the_ramp() -> None:
    with running(Options(paused=True, ramp_minutes=10)) as simulator, connected(simulator) as client:
        client.messages.create(**params())
        simulator.clock.advance(600)
        client.messages.create(**params())
        simulator.clock.advance(60)
        for number in range(150):  # more than the tenth of 1,000 that it gave at first
            client.messages.create(**params(f"{number}", max_tokens=1))


NEAREST = {"tier9": "tier", "Scal": "scale", "starter": "start", "custm": "custom", "Tier 1": "tier1"}


@pytest.mark.parametrize(("name", "near"), NEAREST.items(), ids=NEAREST.keys())
def test_an_unknown_tier_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {near}"):
        find_tier(name)


def test_limits_changed_by_order_hold_at_once_and_until_a_reset(poor: Simulator) -> None:
    with connected(poor) as client:
        before = client.messages.with_raw_response.create(**params("1")).headers
        ordered = httpx2.post(f"{poor.base_url}/_simulator/limits", json={"share": 0.5})
        after = client.messages.with_raw_response.create(**params("2")).headers
        poor.reset()
        again = client.messages.with_raw_response.create(**params("3")).headers
    assert (ordered.status_code, ordered.json()) == (200, {"share": 0.5, "told": True})
    told = [int(headers["anthropic-ratelimit-requests-limit"]) for headers in (before, after, again)]
    assert told == [50, 25, 50]
    assert int(after["anthropic-ratelimit-requests-remaining"]) == 24


def test_limits_may_be_kept_and_not_told(poor: Simulator) -> None:
    poor.limit(1.0, told=False)
    with connected(poor) as client:
        headers = client.messages.with_raw_response.create(**params()).headers
        assert not [name for name in headers if name.startswith("anthropic-ratelimit")]
        assert "retry-after" in used_up(client).response.headers


@pytest.mark.parametrize("order", [{"share": 0}, {"share": 2}, {"share": True}, {"told": 1}, {"shares": 1}, [1]])
def test_a_wrong_order_changes_no_limit(poor: Simulator, order: object) -> None:
    refused = httpx2.post(f"{poor.base_url}/_simulator/limits", json=order)
    assert refused.status_code == 400
    assert "give" in refused.json()["error"]
    with connected(poor) as client:
        headers = client.messages.with_raw_response.create(**params()).headers
    assert headers["anthropic-ratelimit-requests-limit"] == "50"
