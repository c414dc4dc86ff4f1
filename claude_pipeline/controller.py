"""What to do next: pure decisions over the ledger's state, shared by the sensor and the command line.

Level-triggered: each decision rests on what is, never on what changed; there is no cursor and no
memory, so a lost or repeated tick loses and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from claude_pipeline.ledger import ChunkState, SnapshotProgress
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload


class Kind(StrEnum):
    SUBMIT = "submit"
    COLLECT = "collect"
    FINALIZE = "finalize"


@dataclass(frozen=True)
class Action:
    """One thing to do for one workload; `partition` is that of a finalize."""

    kind: Kind
    workload: str
    partition: str | None = None


@dataclass(frozen=True)
class Situation:
    """All that a decision about one workload rests on."""

    workload: str
    progress: tuple[SnapshotProgress, ...]  # snapshots with work left, oldest first
    sendable: int  # ready chunks that may be sent now, and for which there is room
    waiting_for_room: int  # ready chunks for which there is none, or that the API asked to hold back
    held: int  # chunks before the budget's wall
    held_that_fit: int  # those of them for which there is budget by now
    wall: str | None  # the sentence of the wall, where nothing but it is in the way
    in_flight: int  # batches at the API
    in_flight_requests: int
    doubtful: int  # creates without a clear answer
    ended: int  # batches whose results wait to be collected
    failed: int  # chunks the API refused
    next_expiry: datetime | None  # of the oldest batch in flight
    unpublished: tuple[str, ...] = ()  # partitions merged after the last publication

    @property
    def at_rest(self) -> bool:
        """Nothing is left to do, now or later."""
        return not self.progress and not self.unpublished


def decide(situation: Situation) -> list[Action]:
    """Everything that can be done now, in the order in which it pays most."""
    actions = []
    if situation.ended:
        actions.append(Action(Kind.COLLECT, situation.workload))
    if situation.sendable or situation.held_that_fit or any(map(_needs_cutting, situation.progress)):
        actions.append(Action(Kind.SUBMIT, situation.workload))
    mergeable = {p.snapshot.partition for p in situation.progress if _mergeable(p)} | set(situation.unpublished)
    for partition in sorted(mergeable):
        if not any(p.snapshot.partition == partition and not _mergeable(p) for p in situation.progress):
            actions.append(Action(Kind.FINALIZE, situation.workload, partition))
    return actions


def _needs_cutting(progress: SnapshotProgress) -> bool:
    """A further round is due, or what it waited for is settled."""
    return not progress.pending and bool(progress.due or (progress.waited_on and not progress.waits_on))


def _mergeable(progress: SnapshotProgress) -> bool:
    return progress.settled and not progress.waited_on


def choose(actions: Iterable[Action], busy: Collection[tuple[str, str]]) -> list[Action]:
    """At most one run in flight per kind and workload."""
    chosen: list[Action] = []
    for action in actions:
        taken = {(a.workload, a.kind.value) for a in chosen} | set(busy)
        if (action.workload, action.kind.value) not in taken:
            chosen.append(action)
    return chosen


def describe(situation: Situation, now: datetime) -> str:
    """The situation in one sentence, for people."""
    if situation.at_rest:
        return f"{situation.workload}: nothing to do"
    parts = []
    if situation.in_flight:
        parts.append(
            f"{plural(situation.in_flight, 'batch', 'batches')} in progress, {situation.in_flight_requests:,} requests"
        )
    if situation.next_expiry is not None:
        left = max(0, int((situation.next_expiry - now).total_seconds()))
        parts.append(f"the oldest has {left // 3600} h {left % 3600 // 60} min to its SLA")
    if situation.ended:
        parts.append(f"{plural(situation.ended, 'batch has', 'batches have')} ended")
    if situation.sendable + situation.waiting_for_room:
        parts.append(
            f"{plural(situation.sendable + situation.waiting_for_room, 'chunk waits', 'chunks wait')} to be sent"
        )
    if situation.doubtful:
        parts.append(f"{plural(situation.doubtful, 'create', 'creates')} without a clear answer, left alone for now")
    if situation.held:
        parts.append(f"{plural(situation.held, 'chunk is', 'chunks are')} held by the budget")
    if situation.failed:
        parts.append(f"{plural(situation.failed, 'chunk', 'chunks')} refused by the API")
    return f"{situation.workload}: {'; '.join(parts) or 'about to merge'}"


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def survey(desk: Desk, workload: Workload) -> Situation:
    """Read the situation of one workload: counts and open rows, one short look at the ledger."""
    ledger, now = desk.ledger, desk.clock()
    limits = walls(desk, workload)
    waiting = ledger.chunks(workload.name, states=[ChunkState.READY, ChunkState.HELD])
    ready = [chunk for chunk in waiting if chunk.state is ChunkState.READY]
    held = [chunk for chunk in waiting if chunk.state is ChunkState.HELD]
    batches, queued = ledger.in_flight()
    due = [chunk for chunk in ready if chunk.not_before is None or chunk.not_before <= now]
    # Where the API asked one chunk to wait it means all of them, so nothing is sendable until then.
    room = bool(due) and len(due) == len(ready) and batches < limits.batches_in_flight
    room = room and (not batches or queued + due[0].requests <= limits.queued_requests)
    in_room = not batches or batches < limits.batches_in_flight
    fitting = [chunk for chunk in held[:1] if in_room and ledger.wall_before(chunk, limits) is None]
    progress = tuple(ledger.progress(workload.name, max_rounds=workload.max_rounds))
    flying = ledger.chunks(workload.name, states=[ChunkState.LIVE, ChunkState.SENDING, ChunkState.ENDED])
    live = [chunk for chunk in flying if chunk.state is ChunkState.LIVE]
    expiries = [b.expires_at for b in ledger.batches(ids=[c.batch_id for c in live if c.batch_id]) if b.expires_at]
    stuck = bool(held) and not fitting and not ready and not flying
    return Situation(
        workload=workload.name,
        progress=progress,
        sendable=len(due) if room else 0,
        waiting_for_room=len(ready) - (len(due) if room else 0),
        held=len(held),
        held_that_fit=len(fitting),
        wall=ledger.wall_before(held[0], limits) if stuck else None,
        in_flight=len(live),
        in_flight_requests=sum(chunk.requests for chunk in live),
        doubtful=sum(chunk.state is ChunkState.SENDING for chunk in flying),
        ended=sum(chunk.state is ChunkState.ENDED for chunk in flying),
        failed=ledger.count(ChunkState.FAILED, workload.name),
        next_expiry=min(expiries, default=None),
        unpublished=ledger.unpublished(workload.name),
    )
