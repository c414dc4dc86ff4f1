"""Rate limits by tier: token buckets per model pool, the batch queue, the monthly spend cap.

Figures are in `tiers.yaml`. Buckets refill all the time, in simulated time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import yaml

from claude_pipeline.simulator.clock import SECOND_US, rfc3339
from claude_pipeline.simulator.error import ApiError
from claude_pipeline.simulator.model import Model
from claude_pipeline.simulator.price import PICO_PER_USD

MINUTE_US = 60 * SECOND_US
_RAMP_START = 0.1  # share of its limit that a pool gives after a rest (assumed)


@dataclass(frozen=True, slots=True)
class Pool:
    """Limits of one model pool, per minute."""

    requests: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Tier:
    """What an organization may use."""

    name: str
    pool: Pool
    pools: dict[str, Pool]  # those that differ
    batch_requests: int  # calls of the batch endpoints per minute
    queued: int  # requests of batches that have not ended
    count_tokens: int  # calls per minute
    spend_cap_usd: int | None  # per calendar month

    def limits_of(self, model: Model) -> Pool:
        return self.pools.get(model.pool) or self.pools.get(model.line) or self.pool


@cache
def all_tiers() -> dict[str, Tier]:
    text = resources.files(__package__).joinpath("tiers.yaml").read_text(encoding="utf-8")
    return {name: _tier(name, entry) for name, entry in yaml.safe_load(text).items()}


def find_tier(name: str) -> Tier:
    tiers = all_tiers()
    if name not in tiers:
        near = get_close_matches(name.lower().replace(" ", ""), tiers, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ValueError(f"tier {name!r}: there is none{hint} choose one of {', '.join(tiers)}")
    return tiers[name]


def _tier(name: str, entry: dict[str, Any]) -> Tier:
    return Tier(
        name=name,
        pool=Pool(*entry["pool"]),
        pools={key: Pool(*value) for key, value in entry.get("pools", {}).items()},
        batch_requests=entry["batch_requests"],
        queued=entry["queued"],
        count_tokens=entry["count_tokens"],
        spend_cap_usd=entry["spend_cap_usd"],
    )


class Bucket:
    """`limit` per minute, refilled continuously; may go below zero where the amount is known too late."""

    def __init__(self, limit: int, now_us: int) -> None:
        self.limit = limit
        self._level = float(limit)
        self._at_us = now_us

    def level(self, now_us: int) -> float:
        passed = max(now_us - self._at_us, 0)
        self._level = min(float(self.limit), self._level + self.limit * passed / MINUTE_US)
        self._at_us = max(now_us, self._at_us)
        return self._level

    def take(self, amount: float, now_us: int) -> None:
        self._level = self.level(now_us) - amount

    def wait_us(self, amount: float, now_us: int) -> int:
        """How long until `amount` is there; a bucket that is full always gives."""
        missing = min(amount, self.limit) - self.level(now_us)
        return max(0, round(missing / self.limit * MINUTE_US))

    def change(self, limit: int, now_us: int) -> None:
        """Another limit from now on; what a lower one cannot hold is lost."""
        self._level = min(self.level(now_us), float(limit))
        self.limit = limit

    def headers(self, name: str, now_us: int, rounding: int) -> dict[str, str]:
        level = max(self.level(now_us), 0.0)
        full_us = now_us + round((self.limit - level) / self.limit * MINUTE_US)
        reset = rfc3339(full_us)[:19] + "Z"
        prefix = f"anthropic-ratelimit-{name}"
        return {
            f"{prefix}-limit": str(self.limit),
            f"{prefix}-remaining": str(int(level) // rounding * rounding),
            f"{prefix}-reset": reset,
        }


class Ramp:
    """The acceleration limit: after a rest a pool gives a tenth of its requests, and more the longer it is used.

    share of the limit = 0.1 + 0.9 x time in use / ramp, at most 1; a rest as long as the ramp begins it anew.
    That such a limit exists is documented, its figures are not: all of them are assumed.
    """

    def __init__(self, limit: int, ramp_us: int, now_us: int) -> None:
        self._limit = limit
        self._ramp_us = ramp_us
        self._since_us = self._last_us = now_us
        self._bucket = Bucket(self._now_given(now_us), now_us)

    def take(self, now_us: int) -> None:
        """Take one request. Raises 429 `ramp_limit_exceeded` with retry-after."""
        if now_us - self._last_us > self._ramp_us:
            self._since_us = now_us
        self._last_us = now_us
        self._bucket.limit = self._now_given(now_us)
        wait_us = self._bucket.wait_us(1, now_us)
        if wait_us:
            raise ApiError(
                429,
                "Your organization's use has risen too fast; raise it step by step.",
                details={"error_code": "ramp_limit_exceeded"},
                headers={"retry-after": str(-(-wait_us // SECOND_US))},
            )
        self._bucket.take(1, now_us)

    def _now_given(self, now_us: int) -> int:
        used = (now_us - self._since_us) / self._ramp_us
        return max(1, int(self._limit * min(1.0, _RAMP_START + (1 - _RAMP_START) * used)))


class Limiter:
    """The buckets of the one organization that this simulator serves."""

    def __init__(self, tier: Tier, ramp_minutes: float = 0.0) -> None:
        self.tier = tier
        self._ramp_us = round(ramp_minutes * MINUTE_US)
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._ramps: dict[str, Ramp] = {}
        self._share, self._told = 1.0, True

    def clear(self) -> None:
        with self._lock:
            self._buckets.clear()
            self._ramps.clear()
            self._share, self._told = 1.0, True

    def change(self, share: float, *, told: bool = True) -> None:
        """From now on a message may use this share of the tier's limits; `told`: answers say so."""
        with self._lock:
            self._share, self._told = share, told

    def _limits_of(self, model: Model) -> Pool:
        pool = self.tier.limits_of(model)
        if self._share == 1.0:
            return pool
        return Pool(
            *(max(1, int(limit * self._share)) for limit in (pool.requests, pool.input_tokens, pool.output_tokens))
        )

    def admit_message(self, model: Model, input_tokens: int, now_us: int) -> None:
        """Take a request and its uncached input out of the model's buckets.

        Raises:
            ApiError: 429 with retry-after, when one of the three buckets is short.
        """
        limits = self._limits_of(model)
        with self._lock:
            requests = self._bucket(f"{model.pool}/requests", limits.requests, now_us)
            tokens_in = self._bucket(f"{model.pool}/input", limits.input_tokens, now_us)
            tokens_out = self._bucket(f"{model.pool}/output", limits.output_tokens, now_us)
            for bucket, amount, what in (
                (requests, 1, "requests"),
                (tokens_in, input_tokens, "input tokens"),
                (tokens_out, 1, "output tokens"),
            ):
                wait_us = bucket.wait_us(amount, now_us)
                if wait_us:
                    headers = self._headers(model, now_us) | {"retry-after": str(-(-wait_us // SECOND_US))}
                    raise _exceeded(bucket.limit, what, headers)
            if self._ramp_us:
                self._ramps.setdefault(model.pool, Ramp(limits.requests, self._ramp_us, now_us)).take(now_us)
            requests.take(1, now_us)
            tokens_in.take(input_tokens, now_us)

    def note_output(self, model: Model, output_tokens: int, now_us: int) -> dict[str, str]:
        """Take what was really produced, and return the rate-limit headers of the answer."""
        limits = self._limits_of(model)
        with self._lock:
            self._bucket(f"{model.pool}/output", limits.output_tokens, now_us).take(output_tokens, now_us)
            return self._headers(model, now_us)

    def admit_call(self, kind: str, now_us: int) -> None:
        """Take one call of the batch endpoints (`batch`) or of token counting (`count_tokens`)."""
        limit = self.tier.batch_requests if kind == "batch" else self.tier.count_tokens
        with self._lock:
            bucket = self._bucket(kind, limit, now_us)
            wait_us = bucket.wait_us(1, now_us)
            if wait_us:
                raise _exceeded(limit, "requests", {"retry-after": str(-(-wait_us // SECOND_US))})
            bucket.take(1, now_us)

    def admit_batch(self, queued: int, size: int) -> None:
        """Raises 429 when the organization's queue has no room for `size` more requests (text assumed)."""
        if queued + size > self.tier.queued:
            raise ApiError(
                429,
                f"This batch of {size:,} requests would exceed your organization's limit of {self.tier.queued:,} "
                f"requests in the batch processing queue; {queued:,} are in it now.",
            )

    def admit_spend(self, spent_pico: int) -> None:
        """Raises 429 without retry-after once the month's spend has reached the tier's cap."""
        cap = self.tier.spend_cap_usd
        if cap is not None and spent_pico >= cap * PICO_PER_USD:
            raise ApiError(
                429,
                f"Your organization has reached its monthly spend limit of ${cap:,}.",
                details={"error_code": "enforced_spend_limit_reached"},
            )

    def _bucket(self, name: str, limit: int, now_us: int) -> Bucket:
        bucket = self._buckets.setdefault(name, Bucket(limit, now_us))
        if bucket.limit != limit:
            bucket.change(limit, now_us)
        return bucket

    def _headers(self, model: Model, now_us: int) -> dict[str, str]:
        if not self._told:
            return {}
        limits = self._limits_of(model)
        tokens_in = self._bucket(f"{model.pool}/input", limits.input_tokens, now_us)
        tokens_out = self._bucket(f"{model.pool}/output", limits.output_tokens, now_us)
        scarcer = min(tokens_in, tokens_out, key=lambda bucket: bucket.level(now_us) / bucket.limit)
        return (
            self._bucket(f"{model.pool}/requests", limits.requests, now_us).headers("requests", now_us, 1)
            | tokens_in.headers("input-tokens", now_us, 1000)
            | tokens_out.headers("output-tokens", now_us, 1000)
            | scarcer.headers("tokens", now_us, 1000)
        )


def _exceeded(limit: int, what: str, headers: dict[str, str]) -> ApiError:
    sentence = f"This request would exceed your organization's rate limit of {limit:,} {what} per minute."  # seen
    return ApiError(429, sentence, headers=headers)
