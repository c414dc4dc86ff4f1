"""When the next request of a pool of models may be sent: the API's limits, as they are known by now.

Three buckets pace requests, input and output tokens (reserved by expectation, settled by usage). A fourth follows the
API's own bucket of output, which counts an answer's tokens when they are there: many slow answers that end at once
empty it, whatever the pace was. After a start, a rest or a 429 the rate grows from a part of the limit to the whole.

Limits come from the catalogue until headers tell them. Pure: time is an argument, in seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from claude_pipeline.catalog.tier import Rate
from claude_pipeline.lane.bucket import Bucket
from claude_pipeline.lane.expectation import Expectation
from claude_pipeline.lane.reply import RateTold, TokenUse

KINDS = ("requests", "input-tokens", "output-tokens")
CAREFUL = (50.0, 30_000.0, 8_000.0)  # per minute, where nothing is published: the lowest tier there was
BURST_SECONDS = 1.0  # what a bucket holds
BURST_REQUESTS = 8.0  # or so many usual requests, where the API's own bucket is seen to hold much more
DEEP_SECONDS = 4.0  # worth of the limit: a bucket of the API that was seen to hold more is not enforced per second
DEEP_SHARE = 0.25  # of what it was seen to hold
MARGIN = 1.5  # usual errors of an estimate, added to it where that is all the API allows
PACE, PACE_STEP, PACE_MIN = 0.99, 0.01, 0.95  # share of the limit that is used; less after each 429
RAMP_START, RAMP_SECONDS = 0.1, 20.0  # slow start: from this share to the whole
RAMP_CUT = 0.7  # after a 429 that asks for a short pause, the rate begins with this share of what it was
RAMP_SLOWER, RAMP_SECONDS_MAX = 1.5, 900.0  # where the API says that use rises too fast
REST_SECONDS = 60.0  # without a request: slow start again
SHORT_PAUSE_SECONDS = 5.0  # after a longer one, slow start from its beginning
BACKOFF_SECONDS, BACKOFF_SECONDS_MAX = 1.0, 60.0  # of a 429 that names no time
ROUNDING = 1000  # tokens: to this the headers round what remains
REFRESH = 50  # answers
LOOK_SECONDS = 1.0  # while the rate grows a wait is shorter than it seems


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request is expected to use."""

    size_bytes: int
    input_tokens: float
    output_tokens: float


class Limiter:
    """The limits of one pool. `share` of them is ours: several processes divide a pool.

    All methods belong to the thread of the loop that asks. `changed` is called when waiting may have become shorter.
    """

    def __init__(
        self, rate: Rate | None, *, tokens_per_byte: float = 0.3, output_tokens: float = 500.0, share: float = 1.0
    ) -> None:
        known = (
            (rate.requests_per_minute, rate.input_tokens_per_minute, rate.output_tokens_per_minute)
            if rate
            else (None, None, None)
        )
        self.expectation = Expectation(tokens_per_byte, output_tokens)
        self.changed: Callable[[], None] = lambda: None
        self._limits = [float(limit or careful) for limit, careful in zip(known, CAREFUL, strict=True)]  # per minute
        self._told_at = [float("-inf")] * len(KINDS)
        self._share = _checked(share)
        self._pace = PACE
        self._ramp_from, self._ramp_seconds, self._ramp_began_at = RAMP_START, RAMP_SECONDS, 0.0
        self._factor = RAMP_START
        self._backoffs = self._settled = 0
        self._cut_at = self._paused_until = self._newest_told = float("-inf")
        self._at: float | None = None  # the latest moment seen
        self._was_paused = False
        self._due_at = 0.0  # when the next request may have been sent: long after it nobody wanted to
        self._depth: list[float | None] = [None] * len(KINDS)  # the most that was told to remain
        self._buckets = [Bucket(1.0, 1.0, 0.0) for _ in KINDS]
        self._produced = Bucket(1.0, 1.0, 0.0)  # the API's bucket of output, as far as we see

    # What the queue asks.

    def cost_of(self, size_bytes: int, max_tokens: int) -> Cost:
        expected = self.expectation
        tokens_in = expected.input_of(size_bytes)
        if self._is_shallow(1):
            tokens_in *= 1.0 + MARGIN * expected.input_error
        return Cost(size_bytes, tokens_in, expected.output_of(max_tokens))

    def wait_seconds(self, cost: Cost, now: float) -> float:
        """How long until a request of that cost may be sent, at the least; 0: now."""
        self._advance(now)
        requests, tokens_in, tokens_out = self._buckets
        if now < self._paused_until:
            self._due_at, self._was_paused = self._paused_until, True
            return self._paused_until - now
        if self._was_paused:  # the first one may go; what the buckets gathered meanwhile would be a stampede
            self._was_paused = False
            for bucket, amount in zip(self._buckets, (1.0, cost.input_tokens, cost.output_tokens), strict=True):
                bucket.clamp(amount, now)
        wait = max(
            requests.wait_seconds(1.0, now),
            tokens_in.wait_seconds(cost.input_tokens, now),
            tokens_out.wait_seconds(cost.output_tokens, now),
            self._produced.wait_seconds(self._least(), now),
        )
        self._due_at = now + wait
        return min(wait, LOOK_SECONDS) if self._factor < 1.0 else wait

    def take(self, cost: Cost, now: float) -> None:
        """A request of that cost is sent."""
        self._due_at = now
        requests, tokens_in, tokens_out = self._buckets
        requests.take(1.0, now)
        tokens_in.take(cost.input_tokens, now)
        tokens_out.take(cost.output_tokens, now)

    def paused_seconds(self, now: float) -> float:
        return max(0.0, self._paused_until - now)

    def requests_per_second(self) -> float:
        """At which they may be sent now, of the size they have lately."""
        requests, tokens_in, tokens_out = self._buckets
        return min(
            requests.rate,
            tokens_in.rate / max(self.expectation.mean_input, 1.0),
            tokens_out.rate / max(self.expectation.mean_output, 1.0),
        )

    # What replies tell.

    def settle(self, cost: Cost, usage: TokenUse, now: float) -> None:
        """An answer came: what it used, instead of what was expected."""
        self._backoffs = 0
        self._buckets[1].take(usage.limited_input_tokens - cost.input_tokens, now)
        self._buckets[2].take(usage.output_tokens - cost.output_tokens, now)
        self._produced.take(usage.output_tokens, now)
        self.expectation.learn(cost.size_bytes, usage)
        self._settled += 1
        if self._settled % REFRESH == 0:  # what a bucket holds follows the size of requests
            self._set_rates(now)

    def give_back(self, cost: Cost, now: float, *, sent: bool) -> None:
        """It was refused, or never `sent`: no tokens were used, though a request may have been counted."""
        requests, tokens_in, tokens_out = self._buckets
        tokens_in.take(-cost.input_tokens, now)
        tokens_out.take(-cost.output_tokens, now)
        if not sent:
            requests.take(-1.0, now)

    def told(self, rates: Mapping[str, RateTold], sent_at: float, now: float) -> None:
        """What the headers of a reply say, `sent_at` being when its request was sent.

        A lower limit holds at once, a higher one unless its request is older than what is known. What remains counts
        only where no request sent later has told it.
        """
        if not rates:
            return
        self._advance(now)
        self._limits_told(rates, sent_at, now)
        if sent_at < self._newest_told:
            return
        self._newest_told = sent_at
        for n, kind in enumerate(KINDS):
            told = rates.get(kind)
            if told is not None and told.remaining is not None:
                self._remaining_told(n, told.remaining, now)

    def refused(
        self, sent_at: float, retry_after_seconds: float | None, now: float, *, ramp: bool, chance: float
    ) -> None:
        """A 429: the whole pool waits, and goes on more slowly. `ramp`: because use rose too fast.

        What was sent before the last one of these was known is of the same episode. `chance` is from 0 to 1.
        """
        self._advance(now)
        new = sent_at > self._cut_at
        if not retry_after_seconds:
            self._backoffs += new
            doubled = BACKOFF_SECONDS * 2.0 ** min(self._backoffs - 1, 10)
            retry_after_seconds = min(doubled, BACKOFF_SECONDS_MAX) * (0.75 + 0.5 * chance)
        self.pause(now + retry_after_seconds)
        if not new:
            return
        self._cut_at = now
        if ramp:
            self._ramp_seconds = min(self._ramp_seconds * RAMP_SLOWER, RAMP_SECONDS_MAX)
        else:
            self._pace = max(PACE_MIN, self._pace - PACE_STEP)
            self._depth = [depth or 0.0 for depth in self._depth]
        self._ramp_after_pause(now)

    # What others know.

    def pause(self, until: float) -> None:
        """Nothing is sent before then, whoever learned it; an earlier end of a pause is no news."""
        self._paused_until = max(self._paused_until, until)

    def share_changed(self, share: float) -> None:
        """Which part of the limits, above 0 and up to 1, is ours from now on."""
        self._share = _checked(share)
        if self._at is not None:
            self._set_rates(self._at)
        self.changed()

    def slow_start(self, now: float) -> None:
        """From now on as at the beginning."""
        self._advance(now)
        self._begin_ramp(RAMP_START, now, now)

    @property
    def limits(self) -> dict[str, float]:
        """Of the whole pool, per minute, as known by now."""
        return dict(zip(KINDS, self._limits, strict=True))

    @property
    def paused_until(self) -> float:
        return self._paused_until

    def _advance(self, now: float) -> None:
        """Begin, begin again after a rest, or let the rate grow."""
        if self._at is None:
            self._buckets = [Bucket(1.0, limit, now) for limit in self._limits]
            self._produced = Bucket(1.0, self._limits[2], now)
            self._begin_ramp(RAMP_START, now, now)
        elif now < self._paused_until and self._ramp_began_at < self._paused_until:
            self._ramp_after_pause(now)
        elif now - self._due_at > REST_SECONDS:
            self._begin_ramp(RAMP_START, now, now)
            self._due_at = now
        elif self._factor < 1.0 and now > self._at:
            grown = (1.0 - RAMP_START) * max(0.0, now - self._ramp_began_at) / self._ramp_seconds
            self._factor = min(1.0, self._ramp_from + grown)
            self._set_rates(now)
        self._at = now

    def _begin_ramp(self, factor: float, begins_at: float, now: float) -> None:
        self._factor = self._ramp_from = factor
        self._ramp_began_at = begins_at
        self._set_rates(now)

    def _ramp_after_pause(self, now: float) -> None:
        """The pause, or the rest of one that has become longer, is followed by a slow start."""
        factor = self._factor
        if self._ramp_began_at <= now:  # not yet cut for this pause
            factor = max(RAMP_START, factor * RAMP_CUT)
        if self._paused_until - now > SHORT_PAUSE_SECONDS:
            factor = RAMP_START
        self._begin_ramp(factor, max(now, self._paused_until), now)

    def _set_rates(self, now: float) -> None:
        means = (1.0, self.expectation.mean_input, self.expectation.mean_output)
        for n, bucket in enumerate(self._buckets):
            share = self._share * self._factor
            rate = self._limits[n] / 60.0 * self._pace * share
            burst = max(rate * BURST_SECONDS, 1.0 if n == 0 else 0.0)
            if not self._is_shallow(n, unknown=True):
                burst = max(burst, min(BURST_REQUESTS * means[n] * self._factor, self._depths(n) * DEEP_SHARE * share))
            bucket.change(rate, burst, now)
        second = self._limits[2] / 60.0 * self._share
        self._produced.change(second, max(second, self._depths(2) * self._share), now)

    def _depths(self, n: int) -> float:
        """What the API's bucket holds, as far as we know."""
        depth = self._depth[n]
        return self._limits[n] if depth is None else min(depth, self._limits[n])

    def _is_shallow(self, n: int, *, unknown: bool = False) -> bool:
        """Whether the API seems to enforce a limit per second; `unknown` where nothing is told."""
        depth = self._depth[n]
        return unknown if depth is None else depth < self._limits[n] / 60.0 * DEEP_SECONDS

    def _least(self) -> float:
        """Of output tokens that the API should have left when a request comes: what we cannot see, and a little more."""
        second = self._produced.rate
        return 0.05 * second + min(ROUNDING, 0.15 * second)

    def _limits_told(self, rates: Mapping[str, RateTold], sent_at: float, now: float) -> None:
        rise = 0.0
        before = list(self._limits)
        for n, kind in enumerate(KINDS):
            told = rates.get(kind)
            if told is None or told.limit is None or told.limit <= 0:
                continue
            if told.limit < self._limits[n] or (told.limit > self._limits[n] and sent_at >= self._told_at[n]):
                rise = max(rise, told.limit / self._limits[n])
                self._limits[n], self._told_at[n] = float(told.limit), now
        if before != self._limits:
            if rise > 1.0:  # no jump: from the rate there was
                self._begin_ramp(max(RAMP_START, self._factor / rise), now, now)
            self._set_rates(now)
            self.changed()

    def _remaining_told(self, n: int, remaining: int, now: float) -> None:
        # Tokens are rounded to thousands, requests to whole ones: so much more may there be.
        unseen = 1.0 if n == 0 else float(ROUNDING - 1) if remaining % ROUNDING == 0 else 0.0
        bucket = self._buckets[n] if n < 2 else self._produced
        bucket.clamp(remaining * self._share + unseen, now)
        depth = self._depth[n]
        if depth is None or remaining > depth:
            self._depth[n] = float(remaining)
            self._set_rates(now)


def _checked(share: float) -> float:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share={share}: must be above 0 and at most 1, the whole pool")
    return share
