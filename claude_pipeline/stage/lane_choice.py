"""The lane of what waits to be sent, and the rescue of batches that would miss their deadline.

Both are decided anew at each look, from what is left to do and the time that is left: nothing is noted
but what was done.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from claude_pipeline.catalog import Model
from claude_pipeline.ledger import ChunkGroup, ChunkRow, ChunkState, SnapshotRow, Walls
from claude_pipeline.plan import UNKNOWN, Hours, Turnaround, batch_hours, output_by_max_tokens, realtime_hours, spelled
from claude_pipeline.plan.lane_choice import PILOT_HOURS, LaneChoice, choose_lane, must_rescue
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.past import BatchTimes
from claude_pipeline.workload import Workload

ANSWERS_LEAST = 20  # fewer past answers say nothing of their length


@dataclass(frozen=True)
class TokenGuess:
    """What a request of a model is expected to take; a quick look, for pacing and for hours."""

    bytes_per_token: float
    output_tokens: float


def token_guess(desk: Desk, workload: Workload, model: str, max_tokens: int | None) -> TokenGuess:
    """From past answers of the workload where there are enough, else from the catalogue's usual text."""
    answers, tokens = desk.ledger.answered(workload.name, model)
    most = max_tokens or workload.max_tokens
    output = tokens / answers if answers >= ANSWERS_LEAST else output_by_max_tokens(most).expected
    return TokenGuess(float(desk.catalog.limits.characters_per_token["latin"]), max(1.0, output))


def pool_of(model: Model) -> str:
    """Models of one pool share their limits."""
    return model.rate_pool or model.id


def too_long(desk: Desk, max_tokens: int) -> bool:
    """Whether an answer may be too long to wait for in real time."""
    return max_tokens > desk.catalog.limits.sdk_nonstreaming_max_tokens


def begun_at(snapshot: SnapshotRow) -> datetime:
    """When its deadline began to run."""
    return snapshot.wanted_from or snapshot.planned_at or snapshot.created_at


def due_of(workload: Workload, snapshot: SnapshotRow) -> datetime:
    """When a snapshot's answers are wanted."""
    hours = workload.deadline_hours
    return begun_at(snapshot) + timedelta(hours=hours if snapshot.pilot is None else min(hours, PILOT_HOURS))


def lane_now(
    desk: Desk, workload: Workload, *, left_hours: float, max_tokens: int, again: bool, batch: Hours, turnaround: Turnaround,
    realtime: Callable[[], Hours], wall: Callable[[], str | None], rescued: bool = False,
) -> LaneChoice:  # fmt: skip
    """The lane of requests of a snapshot, from what is known of them: of chunks that wait, and of a plan.

    `again` is of later rounds, `rescued` of what a batch that was given up did not answer. `realtime` and `wall` are looked up only where a batch would be late.
    """
    if workload.lane == "auto":
        if too_long(desk, max_tokens):
            return LaneChoice("batch", "half the price; its max_tokens is too much for one answer in real time")
        if left_hours <= 0 and not again:  # held by a budget of the day, or by a stop: it is late anyway
            return LaneChoice("batch", "half the price, and its deadline has passed before it could be sent")
        if rescued and (quick := realtime()).expected is not None and wall() is None:
            return LaneChoice(
                "realtime", f"its batch was given up, being late; real time needs {spelled(quick.expected)}"
            )
        if batch.expected is None:  # a contract's queue, unknown to the catalogue: one wave, not the double price
            batch = Hours(turnaround.median_hours, turnaround.p90_hours, batch.binding)
        if batch.expected is not None and batch.expected <= left_hours:  # the usual case: nothing else matters
            return choose_lane("auto", left_hours=left_hours, batch=batch, realtime=batch, wall=None)
        return choose_lane("auto", left_hours=left_hours, batch=batch, realtime=realtime(), wall=wall())
    return choose_lane(workload.lane, left_hours=left_hours, batch=batch, realtime=batch, wall=None)


class LaneChooser:
    """The lanes of a workload's chunks now; reads what it needs once."""

    def __init__(self, desk: Desk, workload: Workload, walls: Walls) -> None:
        self._desk, self._workload, self._walls, self._now = desk, workload, walls, desk.clock()
        self._tier = desk.catalog.tier(desk.settings.tier)
        self._unsent: list[ChunkGroup] | None = None
        self._known: dict[tuple[str, bool, bool], LaneChoice] = {}
        self._times = BatchTimes(desk)
        self._snapshots: dict[str, SnapshotRow] = {}
        self._guesses: dict[tuple[str, int | None], TokenGuess] = {}

    def of(self, chunk: ChunkRow) -> LaneChoice:
        """The lane of a chunk that waits to be sent."""
        place = (chunk.snapshot, chunk.round > 1, too_long(self._desk, chunk.max_tokens or 0))
        if place not in self._known:
            self._known[place] = self._choose(chunk)
        return self._known[place]

    def _choose(self, chunk: ChunkRow) -> LaneChoice:
        if self._workload.lane != "auto":
            return choose_lane(self._workload.lane, left_hours=0, batch=UNKNOWN, realtime=UNKNOWN, wall=None)
        # Another process may have sent it since it was read: then it is looked at as if it waited still.
        waiting = [group for group in self._waiting() if group.snapshot == chunk.snapshot]
        unsent = waiting or [ChunkGroup.of(chunk)]
        per_batch = max(group.most_requests for group in unsent)
        turnaround = self._turnaround(chunk.model, per_batch)
        batch = batch_hours(
            sum(group.requests for group in unsent),
            requests_per_batch=per_batch,
            tier=self._tier,
            batches_in_flight=self._desk.settings.batches_in_flight,
            turnaround=turnaround,
        )
        dearer = replace(chunk, reserve_units=realtime_units(self._desk, chunk))
        return lane_now(
            self._desk,
            self._workload,
            left_hours=(self._due(chunk.snapshot) - self._now).total_seconds() / 3600,
            max_tokens=chunk.max_tokens or 0,
            again=chunk.round > 1,
            rescued=chunk.round > 1 and self._is_rescued(chunk.snapshot),
            batch=batch,
            turnaround=turnaround,
            realtime=lambda: self.hours(unsent),
            wall=lambda: self._desk.ledger.wall_before(dearer, self._walls, at=self._now),
        )

    def _is_rescued(self, snapshot_id: str) -> bool:
        """Whether a batch of the snapshot was given up since its deadline began to run."""
        begun = begun_at(self._snapshot(snapshot_id))
        chunks = self._desk.ledger.chunks(self._workload.name, snapshot=snapshot_id)
        return any(chunk.rescued_at is not None and chunk.rescued_at >= begun for chunk in chunks)

    def hours(self, groups: Iterable[ChunkGroup]) -> Hours:
        """How long all requests of some chunks take in real time."""
        pools: dict[str, list[ChunkGroup]] = defaultdict(list)
        for group in groups:
            pools[pool_of(self._desk.catalog.model(group.model))].append(group)
        found = [self._pool_hours(of_pool) for of_pool in pools.values()]
        unknown = next((hours for hours in found if hours.expected is None), None)
        return unknown or max(found, key=lambda hours: hours.expected or 0.0, default=Hours(0.0, 0.0, "nothing to ask"))

    def _pool_hours(self, groups: list[ChunkGroup]) -> Hours:
        model = self._desk.catalog.model(groups[0].model)
        guesses = [(group, self._guess(group)) for group in groups]
        return realtime_hours(
            sum(group.requests for group in groups),
            sum(group.size_bytes / guess.bytes_per_token for group, guess in guesses),
            sum(group.requests * guess.output_tokens for group, guess in guesses),
            self._tier.rate(model),
            doubt=1.0,
        )

    def _guess(self, group: ChunkGroup) -> TokenGuess:
        key = (group.model, group.max_tokens)
        if key not in self._guesses:
            self._guesses[key] = token_guess(self._desk, self._workload, *key)
        return self._guesses[key]

    def _due(self, snapshot_id: str) -> datetime:
        return due_of(self._workload, self._snapshot(snapshot_id))

    def _snapshot(self, snapshot_id: str) -> SnapshotRow:
        if snapshot_id not in self._snapshots:
            found = self._desk.ledger.snapshot(self._workload.name, snapshot_id)
            assert found is not None
            self._snapshots[snapshot_id] = found
        return self._snapshots[snapshot_id]

    def _waiting(self) -> list[ChunkGroup]:
        if self._unsent is None:
            waiting = [ChunkState.READY, ChunkState.HELD]
            self._unsent = self._desk.ledger.chunk_groups(self._workload.name, states=waiting)
        return self._unsent

    def _turnaround(self, model: str, requests: int) -> Turnaround:
        known = self._desk.catalog.model(model)
        return self._times.of(known, requests, known)

    # -- rescue --------------------------------------------------------------------------------------

    def to_rescue(self) -> list[tuple[ChunkRow, str]]:
        """Chunks whose batch must be given up now for their rest to be answered in time, each with the reason."""
        if self._workload.lane != "auto":
            return []
        ledger = self._desk.ledger
        live = ledger.chunk_groups(self._workload.name, states=[ChunkState.LIVE], left_alone=True)
        groups = [group for group in live if self._snapshot(group.snapshot).canceled_at is None]
        rest = self.hours(groups)
        late = {g.snapshot for g in groups if self._is_late(g.snapshot, g.expires_at, rest, usual=g.moved_at)}
        if not late:  # not one chunk is read for it
            return []
        batches = {batch.id: batch for batch in ledger.batches(unended=True)}
        found = []
        for chunk in ledger.chunks(self._workload.name, states=[ChunkState.LIVE]):
            batch = batches.get(chunk.batch_id) if chunk.batch_id else None
            if chunk.snapshot not in late or batch is None or chunk.cancel_asked_at or chunk.rescued_at:
                continue
            usual = timedelta(hours=self._turnaround(chunk.model, chunk.requests).median_hours)
            # Live since then, by our clock.
            if not self._is_late(chunk.snapshot, batch.expires_at, rest, usual=chunk.moved_at + usual):
                continue
            more = replace(chunk, reserve_units=realtime_units(self._desk, chunk))
            if ledger.wall_before(more, self._walls, at=self._now) is None:
                due = self._wanted(chunk.snapshot, batch.expires_at)
                found.append((chunk, f"it has not ended, and its answers are wanted by {due:%Y-%m-%d %H:%M} UTC"))
        return found

    def _is_late(self, snapshot: str, expires_at: datetime | None, rest: Hours, *, usual: datetime) -> bool:
        """Whether a batch must be given up now, that expires then and would have ended at `usual`."""
        return must_rescue(self._now, self._wanted(snapshot, expires_at), rest, usual=usual)

    def _wanted(self, snapshot: str, expires_at: datetime | None) -> datetime:
        """When the answers of a batch of a snapshot are wanted: before it expires, at the latest."""
        return min(self._due(snapshot), expires_at or datetime.max.replace(tzinfo=UTC))


def realtime_units(desk: Desk, chunk: ChunkRow) -> int:
    """A chunk's reserve at the real-time price, from that at the batch price."""
    return math.ceil(chunk.reserve_units / desk.catalog.limits.batch_price_factor)


def rescue(desk: Desk, workload: Workload, walls: Walls) -> list[tuple[ChunkRow, str]]:
    """Note which batches are to be given up; the next look asks the API to cancel them, and once they have ended a
    further round asks in real time what they did not answer."""
    found = LaneChooser(desk, workload, walls).to_rescue()
    for chunk, why in found:
        desk.ledger.chunk_rescued(chunk, why, at=desk.clock())
    return found
