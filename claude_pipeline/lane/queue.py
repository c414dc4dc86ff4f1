"""Ask many questions of one pool of models, as fast as its limits allow and no faster.

    source -> waiting (a few) -> in flight (up to the concurrency) -> settled
                  ^                    |
                  +---- retry, 429 ----+

First come, first sent: the head waits until the limiter and the concurrency let it go, and nothing overtakes it but
questions whose retry is due. What is read and not settled is bounded. Time is the loop's.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Protocol

from claude_pipeline.lane.bell import Bell
from claude_pipeline.lane.concurrency import Concurrency
from claude_pipeline.lane.limiter import Cost, Limiter
from claude_pipeline.lane.outcome import Outcome, outcome_of
from claude_pipeline.lane.reply import Fate, Question, Reply
from claude_pipeline.lane.storm import Storm
from claude_pipeline.lane.waits import USUAL, Waits

READ_AHEAD = 16  # questions read beyond the concurrency
SETTLING_MAX = 112  # answers on their way to the disk
LOOK_SECONDS = 1.0  # between two looks while the concurrency is used up
RAMP_CODE = "ramp_limit_exceeded"
OVERLOAD_STATUSES = frozenset({503, 504, 529})

Ask = Callable[[Question, float], Awaitable[Reply]]


class Sink(Protocol):
    """Who keeps what happens to questions."""

    def sending(self, question: Question) -> None:
        """Right before each POST."""

    def unbilled(self, question: Question) -> None:
        """That POST ended without being billed."""

    def may_ask_again(self, question: Question) -> bool:
        """Its answer was lost, and may have been paid."""

    async def settled(self, question: Question, reply: Reply) -> None:
        """The end of a question; returns when it is durable."""


@dataclass(slots=True)
class Tally:
    """Live figures, over all runs of a queue."""

    sent: int = 0  # POSTs
    answered: int = 0  # questions, as the next one
    errored: int = 0  # settled without an answer
    refused_429: int = 0  # POSTs, as the next one
    lost: int = 0
    retries: int = 0  # POSTs beyond a question's first
    in_flight: int = 0
    waiting: int = 0  # read and not in flight
    input_tokens: int = 0  # as the limit counts them
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a run ended; unless it is done, questions are left unsettled."""

    reason: Literal["done", "stopped", "paused", "account"]
    reply: Reply | None = None  # of an account that is stopped
    resume_in_seconds: float | None = None  # of a pause


@dataclass(slots=True)
class _Flight:
    question: Question
    cost: Cost
    sent_at: float


class RequestQueue:
    """The questions of one pool. One `run` at a time; all methods belong to the loop's thread.

    `ask(question, timeout_seconds)` makes one POST and never raises for what the API or the network does.
    `attempts` are tries that fail for a reason of their own; a 429 is none. A pause longer than `patience_seconds`
    ends the run. `chance` gives the jitter, from 0 to 1.
    """

    def __init__(
        self,
        ask: Ask,
        limiter: Limiter,
        concurrency: Concurrency,
        *,
        attempts: int = 8,
        patience_seconds: float = 60.0,
        chance: Callable[[], float] = random.random,
        waits: Waits = USUAL,
    ) -> None:
        self._ask, self.limiter, self._concurrency = ask, limiter, concurrency
        self._attempts, self._patience, self._chance = attempts, patience_seconds, chance
        self.tally = Tally()
        self._storm = Storm(waits)
        self._waits = waits
        self._stop_asked = False
        self._reset()

    def _reset(self) -> None:
        self._waiting: deque[Question] = deque()
        self._retries: list[tuple[float, int, Question]] = []  # a heap by when they are due
        self._order = count()
        self._flights: dict[int, _Flight] = {}  # the oldest first
        self._settling = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._exhausted = False
        self._ended: Ended | None = None
        self._fault: BaseException | None = None
        self._bell, self._room = Bell(), Bell()  # for who sends, and for who reads

    async def run(self, source: AsyncIterator[Question], sink: Sink) -> Ended:
        """Ask what `source` gives until all of it is settled, or the run ends before; `source` is closed then.

        Cancelled, it cancels what is in flight and leaves nothing behind. A fault of `source`, `sink` or `ask` is
        raised once the rest of what is in flight is settled, for it may be paid.
        """
        self._loop = asyncio.get_running_loop()
        self._reset()
        self._sink = sink
        self._ended = Ended("stopped") if self._stop_asked else None
        self.limiter.changed = self._bell.ring
        reader = self._start(self._read(source))
        try:
            await self._send_all()
            if self._fault is not None:
                raise self._fault
            return self._end()
        finally:
            reader.cancel()
            await _cancel(self._tasks)
            self.limiter.changed = _nothing
            self._stop_asked = False
            self._count()

    def stop(self) -> None:
        """Send nothing more, in this run or the next one; what is in flight is awaited, the rest stays unsettled."""
        self._stop_asked = True
        self._end_with(Ended("stopped"))

    def _end(self) -> Ended:
        """What the run came to, once nothing is in flight."""
        ended = self._ended
        if ended is None or (self._exhausted and not self._waiting and not self._retries and ended.reason == "stopped"):
            return Ended("done")
        if ended.reason == "paused":
            return Ended("paused", resume_in_seconds=self.limiter.paused_seconds(self._loop.time()))
        return ended

    def _end_with(self, ended: Ended) -> None:
        if self._ended is None or ended.reason == "account":
            self._ended = ended
        self._bell.ring()
        self._give_room()

    # Reading.

    async def _read(self, source: AsyncIterator[Question]) -> None:
        try:
            await self._read_all(source)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _read_all(self, source: AsyncIterator[Question]) -> None:
        while self._ended is None:
            while self._held() >= self._limit() + READ_AHEAD or len(self._waiting) >= READ_AHEAD:
                await self._room.wait()
            try:
                question = await anext(source)
            except StopAsyncIteration:
                self._exhausted = True
                break
            self._waiting.append(question)
            self._bell.ring()
        self._bell.ring()

    def _held(self) -> int:
        return len(self._waiting) + len(self._retries) + len(self._flights)

    def _give_room(self) -> None:
        if len(self._waiting) <= READ_AHEAD // 2:
            self._room.ring()

    # Sending.

    async def _send_all(self) -> None:
        while True:
            try:
                wait = self._send_some()
            except Exception as fault:  # of the sink
                self._fault, wait = self._fault or fault, None
            self._count()
            if not self._flights and not self._settling and (self._ended or self._fault or self._nothing_left()):
                return
            await self._bell.wait(wait)

    def _nothing_left(self) -> bool:
        return self._exhausted and not self._waiting and not self._retries

    def _send_some(self) -> float | None:
        """Send what may be sent now; returns after how long to look again, None: when something happens."""
        while self._ended is None and self._fault is None:
            now = self._loop.time()
            question, wait = self._head(now)
            if question is None:
                return self._make_room(wait, now)
            if self.limiter.paused_seconds(now) > self._patience:
                self._end_with(Ended("paused"))
                return None
            if self._settling >= SETTLING_MAX:
                return None
            if (quiet := self._storm.wait_seconds(now)) > 0.0:
                return quiet if quiet != float("inf") else None
            if (flights := len(self._flights)) >= self._limit():
                self._concurrency.used_up(flights, now)
                if flights >= self._limit():
                    return LOOK_SECONDS
            cost = self.limiter.cost_of(len(question.params), question.max_tokens)
            if (wait := self.limiter.wait_seconds(cost, now)) > 0.0:
                return wait
            self._send(question, cost, now)
        return None

    def _make_room(self, wait: float | None, now: float) -> float | None:
        """Nothing may be sent; where nothing is read only because questions wait for a retry, more may be in flight."""
        full = not self._exhausted and self._held() >= self._limit() + READ_AHEAD
        if full and 2 * len(self._flights) >= self._limit() and not self._storm.suspected:
            self._concurrency.used_up(self._held(), now)
            self._give_room()
            return LOOK_SECONDS if wait is None else min(wait, LOOK_SECONDS)
        return wait

    def _limit(self) -> int:
        oldest = next(iter(self._flights.values()), None)
        age = self._loop.time() - oldest.sent_at if oldest else 0.0
        return self._concurrency.limit(self.limiter.requests_per_second(), age)

    def _head(self, now: float) -> tuple[Question | None, float | None]:
        """Whose turn it is; where it is nobody's, after how long it may be."""
        # In a storm a question that has not failed yet: so that none runs out of tries by being asked again and again.
        if self._retries and self._retries[0][0] <= now and not (self._storm.suspected and self._waiting):
            return self._retries[0][2], None
        if self._waiting:
            return self._waiting[0], None
        return None, self._retries[0][0] - now if self._retries else None

    def _send(self, question: Question, cost: Cost, now: float) -> None:
        if self._waiting and self._waiting[0] is question:
            self._waiting.popleft()
        else:
            heapq.heappop(self._retries)
            self.tally.retries += 1
        self._sink.sending(question)
        self.limiter.take(cost, now)
        self._storm.sent()
        self.tally.sent += 1
        number = next(self._order)
        self._flights[number] = _Flight(question, cost, now)
        self._start(self._fly(number, self._concurrency.timeout_seconds(question.tries)))
        self._give_room()

    async def _fly(self, number: int, timeout_seconds: float) -> None:
        """One POST, and its end."""
        flight = self._flights[number]
        try:
            reply = await self._ask(flight.question, timeout_seconds)
        finally:
            del self._flights[number]
            self._bell.ring()
        if not self._settles(flight, reply, self._loop.time()):
            return
        self._settling += 1
        try:
            await self._sink.settled(flight.question, reply)
        finally:
            self._settling -= 1
            self._give_room()
            self._bell.ring()

    # What replies mean.

    def _settles(self, flight: _Flight, reply: Reply, now: float) -> bool:
        """Learn from a reply; whether it is the end of its question."""
        question = flight.question
        outcome = outcome_of(reply)
        self._learn(flight, reply, outcome, now)
        if reply.fate in (Fate.REFUSED, Fate.UNSENT):
            self._sink.unbilled(question)
        if reply.fate is Fate.LOST:
            self.tally.lost += 1
        match outcome:
            case Outcome.ACCOUNT:
                self._put_back(question, now)
                self._end_with(Ended("account", reply))
                return False
            case Outcome.LIMITED:
                self._put_back(question, now)
                return False
            case Outcome.FAILED:
                question.tries += 1
                again = reply.fate is not Fate.LOST or self._sink.may_ask_again(question)
                if again and question.tries < self._attempts:
                    self._put_back(question, now + self._backoff(question.tries, reply, now))
                    return False
            case Outcome.SETTLED:
                pass
        self.tally.answered += reply.fate is Fate.ANSWERED
        self.tally.errored += reply.fate is not Fate.ANSWERED
        return True

    def _put_back(self, question: Question, due_at: float) -> None:
        heapq.heappush(self._retries, (due_at, next(self._order), question))

    def _backoff(self, tries: int, reply: Reply, now: float) -> float:
        doubled = self._waits.backoff * 2.0 ** min(tries - 1, 10) * (0.75 + 0.5 * self._chance())
        told = reply.retry_after_seconds or 0.0
        if told > self._patience:
            self.limiter.pause(now + told)
        return max(min(doubled, self._waits.backoff_most), told)

    def _learn(self, flight: _Flight, reply: Reply, outcome: Outcome, now: float) -> None:
        """What a reply says of limits, latency and the weather."""
        limiter, sent_at = self.limiter, flight.sent_at
        if reply.usage is not None:
            limiter.settle(flight.cost, reply.usage, now)
            self.tally.input_tokens += reply.usage.limited_input_tokens
            self.tally.output_tokens += reply.usage.output_tokens
        elif reply.fate in (Fate.REFUSED, Fate.UNSENT):
            limiter.give_back(flight.cost, now, sent=reply.fate is Fate.REFUSED)
        limiter.told(reply.rates, sent_at, now)
        if reply.fate is Fate.ANSWERED:
            self._concurrency.answered(now - sent_at, now)
        if outcome is Outcome.LIMITED:
            self.tally.refused_429 += 1
            ramp = reply.error_code == RAMP_CODE
            limiter.refused(sent_at, reply.retry_after_seconds, now, ramp=ramp, chance=self._chance())
        limited = outcome is Outcome.LIMITED
        if limited or reply.fate is Fate.LOST or reply.status in OVERLOAD_STATUSES:
            self._concurrency.overloaded(sent_at, len(self._flights), now, limited=limited)
        if outcome is not Outcome.FAILED:
            self._storm.heard(sent_at)
            return
        if self._storm.failed(flight.question.key, sent_at, others=self._held(), now=now, chance=self._chance()):
            self._concurrency.begin_again(now)
            limiter.slow_start(now)

    # Tasks.

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._gone)
        return task

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault
            self._bell.ring()
            self._give_room()

    def _count(self) -> None:
        self.tally.in_flight = len(self._flights)
        self.tally.waiting = len(self._waiting) + len(self._retries)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def _nothing() -> None:
    pass
