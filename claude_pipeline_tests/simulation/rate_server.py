"""The API's side of the real-time lane in virtual time: the simulator's own limiter behind a latency that has moods."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from claude_pipeline.lane.limiter import KINDS
from claude_pipeline.lane.reply import Fate, Question, RateTold, Reply, TokenUse
from claude_pipeline.simulator.error import ApiError
from claude_pipeline.simulator.limit import Bucket, Limiter, Pool, Tier
from claude_pipeline.simulator.model import Model, find_model
from claude_pipeline.simulator.pace import SLOWNESS, SPREAD
from claude_pipeline_tests.simulation.load import Load

HAIKU_SECONDS = 1.0  # its median; the others are slower by the simulator's ratios
NETWORK_SECONDS = (0.01, 0.03)  # one way
AT = datetime(2026, 11, 22, tzinfo=UTC)
MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5", "opus": "claude-opus-5"}


class SecondBucket(Bucket):
    """Enforced per second: it holds one second's worth, at least one request."""

    def level(self, now_us: int) -> float:
        self._level = min(super().level(now_us), max(self.limit / 60, 1.0))
        return self._level

    def wait_us(self, amount: float, now_us: int) -> int:
        return super().wait_us(min(amount, max(self.limit / 60, 1.0)), now_us)


class StrictLimiter(Limiter):
    """The same limits, enforced per second."""

    def _bucket(self, name: str, limit: int, now_us: int) -> Bucket:
        return self._buckets.setdefault(name, SecondBucket(limit, now_us))


@dataclass(frozen=True)
class Latency:
    """Log-normal around a median; `stretches` (from, to, times) are slow ones."""

    median_seconds: float
    stretches: tuple[tuple[float, float, float], ...] = ()

    def draw(self, since_start: float, chance: random.Random) -> float:
        times = next((times for begin, end, times in self.stretches if begin <= since_start < end), 1.0)
        return self.median_seconds * times * math.exp(chance.gauss(0.0, SPREAD))


@dataclass
class Minute:
    """What the server let through in a minute."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


Fault = Callable[[float, Question], Reply | float | None]  # seconds since the start -> an answer, or seconds it hangs


@dataclass
class RateServer:
    """Answers the questions of a load. Counts what it lets through, by minute."""

    tier: Tier
    model: Model
    latency: Latency
    load: Load
    headers: bool = True
    fault: Fault | None = None
    seed: int = 1
    minutes: dict[int, Minute] = field(default_factory=dict)
    replies: Counter[str] = field(default_factory=Counter)
    billed: Counter[object] = field(default_factory=Counter)  # by question
    posts: list[float] = field(default_factory=list)  # when each came, since the start
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.tier)
        self._chance = random.Random(self.seed)
        self._started_at: float | None = None

    @property
    def limits(self) -> Pool:
        return self.tier.limits_of(self.model)

    def since_start(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._started_at is None:
            self._started_at = now
        return now - self._started_at

    def enforce_per_second(self) -> None:
        self.limiter = StrictLimiter(self.tier)

    def limit_acceleration(self, minutes: float) -> None:
        self.limiter = Limiter(self.tier, minutes)

    def toss(self) -> float:
        return self._chance.random()

    def posts_in(self, begin: float, seconds: float) -> int:
        return sum(begin <= posted < begin + seconds for posted in self.posts)

    def limits_become(self, times: float) -> None:
        """From now on the pool has so many times its limits."""
        pool = self.limits
        changed = Pool(*(int(n * times) for n in (pool.requests, pool.input_tokens, pool.output_tokens)))
        self.tier = self.limiter.tier = replace(self.tier, pool=changed, pools={})
        limits = {"requests": changed.requests, "input": changed.input_tokens, "output": changed.output_tokens}
        for name, bucket in self.limiter._buckets.items():
            bucket.limit = limits[name.rpartition("/")[2]]

    async def ask(self, question: Question, timeout_seconds: float) -> Reply:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = await self._answer(question, timeout_seconds)
        finally:
            self.in_flight -= 1
        self.replies[str(reply.status or reply.fate)] += 1
        return reply

    async def _answer(self, question: Question, timeout_seconds: float) -> Reply:
        await asyncio.sleep(self._chance.uniform(*NETWORK_SECONDS))
        now = self.since_start()
        self.posts.append(now)
        fault = self.fault(now, question) if self.fault else None
        if isinstance(fault, Reply):
            await asyncio.sleep(self._chance.uniform(*NETWORK_SECONDS))
            return fault
        if fault is not None:
            await asyncio.sleep(min(fault, timeout_seconds))
            return Reply(Fate.LOST, AT)
        size = self.load.size_of(question)
        try:
            self.limiter.admit_message(self.model, size.input_tokens, _us(now))
        except ApiError as refused:
            await asyncio.sleep(self._chance.uniform(*NETWORK_SECONDS))
            return self._refusal(refused)
        minute = self.minutes.setdefault(int(now // 60), Minute())
        minute.requests += 1
        minute.input_tokens += size.input_tokens
        seconds = self.latency.draw(now, self._chance)
        if seconds >= timeout_seconds:
            await asyncio.sleep(timeout_seconds)
            self.billed[question.key] += 1
            return Reply(Fate.LOST, AT)
        await asyncio.sleep(seconds)
        now = self.since_start()
        headers = self.limiter.note_output(self.model, size.output_tokens, _us(now))
        self.minutes.setdefault(int(now // 60), Minute()).output_tokens += size.output_tokens
        self.billed[question.key] += 1
        await asyncio.sleep(self._chance.uniform(*NETWORK_SECONDS))
        return Reply(
            Fate.ANSWERED, AT, 200, usage=TokenUse(size.input_tokens, size.output_tokens), rates=self._rates(headers)
        )

    def _refusal(self, refused: ApiError) -> Reply:
        retry_after = refused.headers.get("retry-after")
        return Reply(
            Fate.REFUSED,
            AT,
            refused.status,
            error_type=refused.type,
            error_message=refused.message,
            error_code=(refused.details or {}).get("error_code"),
            retry_after_seconds=float(retry_after) if retry_after else None,
            rates=self._rates(refused.headers),
        )

    def _rates(self, headers: Mapping[str, str]) -> dict[str, RateTold]:
        if not self.headers:
            return {}
        prefix = "anthropic-ratelimit-"
        return {
            kind: RateTold(int(headers[f"{prefix}{kind}-limit"]), int(headers[f"{prefix}{kind}-remaining"]))
            for kind in KINDS
            if f"{prefix}{kind}-limit" in headers
        }

    def used(self, kind: str, first: int, last: int) -> float:
        """Share of a limit that was let through, from minute `first` up to `last`."""
        limit = getattr(self.limits, kind) * (last - first)
        return float(sum(getattr(self.minutes.get(n, Minute()), kind) for n in range(first, last)) / limit)


def model_of(line: str) -> Model:
    model = find_model(MODELS[line])
    assert model is not None
    return model


def usual_seconds(line: str) -> float:
    return HAIKU_SECONDS * SLOWNESS[line]


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
