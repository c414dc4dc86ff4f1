"""A run of the request queue against the server of virtual time, and what came of it."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from claude_pipeline.catalog.tier import Rate
from claude_pipeline.lane.concurrency import Concurrency
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.queue import RequestQueue
from claude_pipeline.lane.reply import Fate, Question, Reply
from claude_pipeline_tests.simulation.rate_server import RateServer


@dataclass
class Book:
    """A source of questions and the sink of what becomes of them; counts everything."""

    server: RateServer
    count: int | None = None  # questions; None: until the time is over
    until: float = math.inf  # seconds
    lost_is_asked_again: bool = True
    slow_disk: float = 0.0
    read_at: dict[int, float] = field(default_factory=dict)
    sent: dict[int, list[float]] = field(default_factory=dict)  # when, by question
    unbilled_posts: Counter[object] = field(default_factory=Counter)
    replies: dict[int, Reply] = field(default_factory=dict)
    most_held: int = 0
    first: int = 0
    step: int = 1
    rest: tuple[int, float] | None = None  # before this question, so many seconds

    async def questions(self) -> AsyncIterator[Question]:
        number = self.first
        while (self.count is None or number < self.count) and self.server.since_start() < self.until:
            if self.rest is not None and number == self.rest[0]:
                await asyncio.sleep(self.rest[1])
            self.read_at[number] = self.server.since_start()
            self.most_held = max(self.most_held, len(self.read_at) - len(self.replies))
            yield self.server.load.question(number)
            number += self.step

    def sending(self, question: Question) -> None:
        self.sent.setdefault(_key(question), []).append(self.server.since_start())

    def unbilled(self, question: Question) -> None:
        self.unbilled_posts[question.key] += 1

    def may_ask_again(self, question: Question) -> bool:
        return self.lost_is_asked_again

    async def settled(self, question: Question, reply: Reply) -> None:
        assert _key(question) not in self.replies, "settled twice"
        if self.slow_disk:
            await asyncio.sleep(self.slow_disk)
        self.replies[_key(question)] = reply

    @property
    def answered(self) -> int:
        return sum(reply.fate is Fate.ANSWERED for reply in self.replies.values())

    @property
    def input_tokens(self) -> int:
        return sum(reply.usage.input_tokens for reply in self.replies.values() if reply.usage)

    def sent_until(self, seconds: float) -> int:
        return sum(moment < seconds for times in self.sent.values() for moment in times)

    def waits(self, large: bool, since: float) -> list[float]:
        """Seconds from read to sent, sorted."""
        return sorted(
            times[0] - self.read_at[key]
            for key, times in self.sent.items()
            if self.server.load.is_large(key) == large and self.read_at[key] >= since
        )


def _key(question: Question) -> int:
    assert isinstance(question.key, int)
    return question.key


def rate_of(server: RateServer) -> Rate:
    pool = server.limits
    return Rate(
        requests_per_minute=pool.requests,
        input_tokens_per_minute=pool.input_tokens,
        output_tokens_per_minute=pool.output_tokens,
    )


def queue_for(
    server: RateServer, *, rate: Rate | None = None, most: int = 1000, share: float = 1.0, patience: float = 60.0, seed: int = 3
) -> RequestQueue:  # fmt: skip
    limiter = Limiter(
        rate if rate is not None else rate_of(server),
        tokens_per_byte=0.3,
        output_tokens=max(1.0, server.load.output_tokens * 0.7),
        share=share,
    )
    return RequestQueue(
        server.ask, limiter, Concurrency(most), patience_seconds=patience, chance=random.Random(seed).random
    )


def quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
