"""How many requests may be in flight: what the rate needs, no more than has proved good.

    needed = requests per second x seconds of a request x headroom       (Little's law)
    limit  = min(needed, window, most), at least 1

A request's seconds are the mean of those answered lately, or the age of the oldest in flight where that is more: so a
stretch of slow answers is met before the first of them is there. The window doubles while it is used up, is cut once
per episode of overload, and then grows more slowly from where it was cut.
"""

from __future__ import annotations

from math import ceil

from claude_pipeline.lane.expectation import Mean
from claude_pipeline.lane.waits import USUAL, Waits

MOST = 1000
FIRST = 4  # requests in flight before anything is known
HEADROOM = 1.5
GROWTH, GROWTH_AFTER_CUT = 2.0, 1.25
CUT, CUT_LIMITED = 0.5, 0.8  # after an overload; after a 429, where the rate was at fault
TIMEOUT_TIMES = 10.0  # the slowest answer seen lately
LATELY_SECONDS = 300.0


class Concurrency:
    """The limit of requests in flight, and how long one may take; `most` is the caller's wall."""

    def __init__(self, most: int = MOST, waits: Waits = USUAL) -> None:
        self._waits = waits
        if most < 1:
            raise ValueError(f"most={most}: at least one request must be allowed in flight")
        self._most = most
        self._window = float(min(FIRST, most))
        self._threshold = float(most)  # the window doubles below it
        self._grow_at = self._cut_at = float("-inf")
        self._latency: Mean | None = None
        self._slowest = self._slowest_before = 0.0  # of this stretch of LATELY_SECONDS, and of the one before it
        self._stretch_ends_at = float("-inf")

    def limit(self, requests_per_second: float, oldest_seconds: float) -> int:
        """How many may be in flight; `oldest_seconds` is the age of the oldest that is."""
        latency = max(self._latency.value if self._latency else 0.0, oldest_seconds)
        needed = ceil(requests_per_second * latency * HEADROOM) + FIRST
        return max(1, min(self._most, int(self._window), needed))

    def used_up(self, in_flight: int, now: float) -> None:
        """A request waits for nothing but a place: the window grows, where it is what is short."""
        if in_flight >= int(self._window) and now >= self._grow_at:
            growth = GROWTH if self._window < self._threshold else GROWTH_AFTER_CUT
            self._window = min(self._most, max(self._window * growth, self._window + 1))
            self._grow_at = now + self._waits.growth

    def answered(self, latency_seconds: float, now: float) -> None:
        if self._latency is None:
            self._latency = Mean(latency_seconds)
        self._latency.learn(latency_seconds)
        if now >= self._stretch_ends_at:
            recent = now < self._stretch_ends_at + LATELY_SECONDS
            self._slowest_before = self._slowest if recent else 0.0
            self._slowest, self._stretch_ends_at = 0.0, now + LATELY_SECONDS
        self._slowest = max(self._slowest, latency_seconds)

    def overloaded(self, sent_at: float, in_flight: int, now: float, *, limited: bool = False) -> None:
        """A 529, a time-out, or a 429 (`limited`): fewer at once.

        What was sent before the last cut is of the same episode.
        """
        if sent_at > self._cut_at:
            self._cut_at, self._grow_at = now, now + self._waits.calm
            self._window = self._threshold = max(
                1.0, min(self._window, in_flight + 1) * (CUT_LIMITED if limited else CUT)
            )

    def begin_again(self, now: float) -> None:
        """As at the start: a few, doubled while they are used up."""
        self._window = float(min(FIRST, self._most))
        self._cut_at, self._grow_at = now, now + self._waits.growth

    def timeout_seconds(self, tries: int) -> float:
        """Longer for a question that was lost before, lest a slow answer is paid again and again."""
        slowest = max(self._slowest, self._slowest_before)
        if slowest == 0.0:
            return self._waits.answer_most
        usual = max(TIMEOUT_TIMES * slowest, self._waits.answer_least)
        return min(usual * 2.0 ** min(tries, 8), self._waits.answer_most)
