"""One process's share of the real-time limits, and how far it is: told to the others through the ledger.

Every process that asks beats its heart in the ledger and names the pools of models that it uses. A pool's
limits are divided evenly among those who do. Who joins waits until the others must have noticed; who
leaves, or dies, gives its share back. What the API tells of the limits is kept there for all.
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_pipeline.lane.limiter import KINDS, Limiter
from claude_pipeline.lane.queue import Tally
from claude_pipeline.lane.realtime import Asking
from claude_pipeline.lane.reply import RateTold
from claude_pipeline.ledger import AskingRow, RateRow
from claude_pipeline.ledger.ask_moves import pools_of
from claude_pipeline.stage.desk import Desk

PATIENCE_SECONDS = 60.0  # the API may ask to wait so long inside a session
JOIN_BEATS = 2.5  # of waiting: by then every other process has seen the newcomer
WINDOW_SECONDS = 20.0  # over which rates are told
KNOWN_HOURS = 24.0  # limits told longer ago are the catalogue's to say again


@dataclass(frozen=True)
class Done:
    """What had been done at a moment of the monotonic clock."""

    at: float
    answered: int
    input_tokens: int
    output_tokens: int


def paused_pools(desk: Desk, now: datetime) -> dict[str, datetime]:
    """Pools that the API asked to leave alone for longer than a session waits, and until when."""
    horizon = now + timedelta(seconds=PATIENCE_SECONDS)
    known = desk.ledger.rates().items()
    return {pool: rate.paused_until for pool, rate in known if rate.paused_until and rate.paused_until > horizon}


def told_to_wait(until: datetime) -> str:
    return f"the API asked to wait until {until:%H:%M:%S} UTC"


class Share:
    """Of one asking; `limiters` are by pool. Times in seconds are of the monotonic clock, as the loop's are."""

    def __init__(self, desk: Desk, workload: str, limiters: Mapping[str, Limiter]) -> None:
        self._desk, self._workload, self._limiters = desk, workload, limiters
        self._id = secrets.token_hex(8)
        self._beat_seconds = desk.waits.beat
        self._started_at = desk.clock()
        self._next_beat = float("-inf")
        self._done: deque[Done] = deque()
        self._told = {pool: (tuple(limiter.limits[kind] for kind in KINDS), 0.0) for pool, limiter in limiters.items()}
        self._shares: dict[str, float] = {}
        self.row: AskingRow | None = None

    def join(self, monotonic: float) -> None:
        """Take up what others know of the limits, before anything is sent; wait where others send already."""
        now = self._desk.clock()
        self._desk.ledger.asking_alone(self._workload)
        for pool, known in self._desk.ledger.rates().items():
            if pool in self._limiters:
                self._take_up(self._limiters[pool], known, now, monotonic)
        others = [row for row in self._beat(0, {}, monotonic, None) if row.id != self._id]
        for pool, limiter in self._limiters.items():
            if any(pool in pools_of(other) for other in others):
                limiter.pause(monotonic + JOIN_BEATS * self._beat_seconds)

    def _take_up(self, limiter: Limiter, known: RateRow, now: datetime, monotonic: float) -> None:
        if known.paused_until is not None and known.paused_until > now:
            limiter.pause(monotonic + (known.paused_until - now).total_seconds())
        if now - known.told_at < timedelta(hours=KNOWN_HOURS):
            limits = zip(KINDS, (known.requests, known.input_tokens, known.output_tokens), strict=True)
            limiter.told({kind: RateTold(limit, None) for kind, limit in limits}, monotonic, monotonic)

    def beat(self, asking: Asking, requests: int, monotonic: float) -> bool:
        """Tell how far this process is, and take what share is ours by now; False where it is not yet time to."""
        if monotonic < self._next_beat:
            return False
        tallies = {pool: q.tally for pool, q in asking.queues.items()}
        paused = max(limiter.paused_until for limiter in self._limiters.values()) - monotonic
        waiting = f"waiting {paused:.0f} s, as the API asked" if paused >= 1 else None
        rows = self._beat(requests, tallies, monotonic, waiting)
        for pool, limiter in self._limiters.items():
            share = 1.0 / max(1, sum(pool in pools_of(row) for row in rows))
            if self._shares.get(pool, 1.0) != share:
                self._shares[pool] = share
                asking.tell(lambda limiter=limiter, share=share: limiter.share_changed(share))  # type: ignore[misc]
        self.tell_limits(monotonic)
        return True

    def leave(self) -> None:
        """Nothing more is asked here."""
        self._desk.ledger.asking_ended(self._id)

    def _beat(
        self, requests: int, tallies: Mapping[str, Tally], monotonic: float, waiting: str | None
    ) -> list[AskingRow]:
        self._next_beat = monotonic + self._beat_seconds

        def total(name: str) -> int:
            return int(sum(getattr(tally, name) for tally in tallies.values()))

        done = Done(monotonic, total("answered"), total("input_tokens"), total("output_tokens"))
        self._done.append(done)
        while len(self._done) > 2 and monotonic - self._done[1].at >= WINDOW_SECONDS:
            self._done.popleft()
        first = self._done[0]
        minutes = max(done.at - first.at, self._beat_seconds) / 60
        self.row = AskingRow(
            id=self._id,
            workload=self._workload,
            pools=json.dumps(sorted(self._limiters)),
            started_at=self._started_at,
            seen_at=self._desk.clock(),
            requests=requests,
            answered=done.answered,
            errored=total("errored"),
            in_flight=total("in_flight"),
            requests_per_minute=round((done.answered - first.answered) / minutes),
            input_tokens_per_minute=round((done.input_tokens - first.input_tokens) / minutes),
            output_tokens_per_minute=round((done.output_tokens - first.output_tokens) / minutes),
            waiting=waiting,
        )
        return self._desk.ledger.asking_beat(self.row)

    def tell_limits(self, monotonic: float) -> None:
        """What headers said of the limits, and pauses, where that is news; at the end too, or the next session would
        not know how long the API asked to wait."""
        now = self._desk.clock()
        for pool, limiter in self._limiters.items():
            limits = tuple(limiter.limits[kind] for kind in KINDS)
            paused = limiter.paused_until if limiter.paused_until > monotonic + self._beat_seconds else 0.0
            if self._told[pool] == (limits, paused):
                continue
            self._told[pool] = limits, paused
            until = now + timedelta(seconds=paused - monotonic) if paused else None
            requests, tokens_in, tokens_out = map(round, limits)
            self._desk.ledger.rate_told(RateRow(pool, requests, tokens_in, tokens_out, now, until))
