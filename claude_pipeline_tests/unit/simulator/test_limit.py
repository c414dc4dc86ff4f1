"""Rate limits: buckets that refill, tiers that are complete."""

from __future__ import annotations

import pytest

from claude_pipeline.simulator.error import ApiError
from claude_pipeline.simulator.limit import MINUTE_US, Bucket, Limiter, all_tiers, find_tier
from claude_pipeline.simulator.model import find_model


def test_a_bucket_refills_all_the_time() -> None:
    bucket = Bucket(60, 0)
    bucket.take(60, 0)
    assert bucket.level(MINUTE_US // 2) == 30


def test_a_bucket_holds_no_more_than_its_limit() -> None:
    assert Bucket(60, 0).level(10 * MINUTE_US) == 60


def test_a_short_bucket_tells_how_long_to_wait() -> None:
    bucket = Bucket(60, 0)
    bucket.take(60, 0)
    assert bucket.wait_us(15, 0) == MINUTE_US // 4


def test_more_than_a_bucket_holds_waits_for_a_full_one() -> None:
    assert Bucket(60, 0).wait_us(1000, 0) == 0


@pytest.mark.parametrize("model_id", ["claude-haiku-4-5", "claude-haiku-5-5"])
def test_input_beyond_the_limit_is_refused_with_retry_after(model_id: str) -> None:
    limiter = Limiter(find_tier("tier1"))
    model = find_model(model_id)
    assert model is not None
    limiter.admit_message(model, 40_000, 0)
    with pytest.raises(ApiError, match="40,000 input tokens per minute") as refused:
        limiter.admit_message(model, 20_000, 0)
    assert refused.value.headers["retry-after"] == "30"


def test_output_counts_only_once_it_is_produced() -> None:
    limiter = Limiter(find_tier("tier1"))
    model = find_model("claude-haiku-5-5")
    assert model is not None
    limiter.admit_message(model, 1, 0)
    limiter.note_output(model, 10_000, 0)
    with pytest.raises(ApiError, match="output tokens per minute"):
        limiter.admit_message(model, 1, 0)


def test_pools_do_not_touch_each_other() -> None:
    limiter = Limiter(find_tier("tier1"))
    haiku, sonnet = find_model("claude-haiku-5-5"), find_model("claude-sonnet-5")
    assert haiku is not None
    assert sonnet is not None
    limiter.admit_message(haiku, 40_000, 0)
    limiter.admit_message(sonnet, 40_000, 0)


def test_the_queue_takes_what_fits() -> None:
    limiter = Limiter(find_tier("start"))
    limiter.admit_batch(100_000, 100_000)
    with pytest.raises(ApiError, match="200,000"):
        limiter.admit_batch(100_001, 100_000)


def test_every_tier_is_complete() -> None:
    assert {"start", "build", "scale", "custom", "tier1", "tier2", "tier3", "tier4"} == set(all_tiers())


def test_an_unknown_tier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="start, build"):
        find_tier("free")
