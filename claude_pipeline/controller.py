"""What to do next: pure decisions over the ledger's state, shared by the sensor and the command line.

Level-triggered: each decision rests on what is, never on what changed; there is no cursor and no
memory, so a lost or repeated tick loses and repeats nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from claude_pipeline.errors import LedgerOutdated
from claude_pipeline.lane.primer import Primers
from claude_pipeline.lane.stranger import check_age
from claude_pipeline.lane.submit import why_not_now
from claude_pipeline.ledger import AskingRow, ChunkRow, ChunkState, Ledger, SnapshotProgress, Walls
from claude_pipeline.ledger.ask_moves import REALTIME, ask_lock
from claude_pipeline.report import duration
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import LaneChooser, pool_of, realtime_units
from claude_pipeline.stage.room import least_of_each_snapshot
from claude_pipeline.stage.share import paused_pools, told_to_wait
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload

COOL_DOWN_SECONDS, COOL_DOWN_TICKS, COOL_DOWN_SECONDS_MAX = 20.0, 2, 3600.0
FLYING = (ChunkState.SENDING, ChunkState.ASKING, ChunkState.LIVE, ChunkState.ENDED)


class Kind(StrEnum):
    SUBMIT = "submit"
    ASK = "ask"
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
    sendable: int  # ready chunks that may be sent as batches now, and for which there is room
    waiting_for_room: int  # ready chunks for which there is none, or that the API asked to hold back
    held: int  # chunks before the budget's wall
    held_that_fit: int  # those of them for which there is budget by now
    wall: str | None  # the sentence of the wall, where nothing but it is in the way: until it moves, nothing will
    in_flight: int  # batches at the API
    in_flight_requests: int
    doubtful: int  # creates without a clear answer
    ended: int  # batches whose results wait to be collected
    failed: int  # chunks the API refused, and that are left so
    next_expiry: datetime | None  # of the oldest batch in flight
    unpublished: tuple[str, ...] = ()  # partitions merged after the last publication
    stopped: str | None = None  # why nothing may be sent now, whatever there is room for
    to_halve: int = 0  # refused chunks that go again in halves
    held_by: str | None = None  # the sentence of the wall before the held chunks, where none of them fits
    waiting_for_primer: int = 0  # chunks that wait for the prompt cache to be filled
    askable: int = 0  # chunks that may be asked in real time now, begun ones among them
    asking: int = 0  # chunks that are asked in real time, and not answered to the end
    asking_told: str = field(default="", compare=False)  # how far that is, for people

    @property
    def at_rest(self) -> bool:
        """Nothing is left to do, now or later."""
        return not self.progress and not self.unpublished


def decide(situation: Situation) -> list[Action]:
    """Everything that can be done now, in the order in which it pays most."""
    actions = []
    if situation.ended:
        actions.append(Action(Kind.COLLECT, situation.workload))
    cuttable = situation.to_halve or any(map(_needs_cutting, situation.progress))
    if situation.stopped is None and (situation.sendable or situation.held_that_fit or cuttable):
        actions.append(Action(Kind.SUBMIT, situation.workload))
    if situation.stopped is None and situation.askable:
        actions.append(Action(Kind.ASK, situation.workload))
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


def cool_down(failures: int, tick_seconds: float) -> float:
    """Seconds between the last of so many failures in a row of an action and its next run.

    Without it a level-triggered sensor would launch a failing run again at every tick. Two ticks at first, but no more
    than 20 s; it doubles up to an hour.
    """
    if failures == 0:
        return 0.0
    first = min(COOL_DOWN_SECONDS, COOL_DOWN_TICKS * tick_seconds)
    return float(min(COOL_DOWN_SECONDS_MAX, first * 2 ** (failures - 1)))


def describe(situation: Situation, now: datetime) -> str:
    """The situation in one sentence, for people."""
    if situation.at_rest:
        return f"{situation.workload}: nothing to do"
    parts = [situation.stopped] if situation.stopped else []
    if situation.in_flight:
        parts.append(
            f"{plural(situation.in_flight, 'batch', 'batches')} in progress, {situation.in_flight_requests:,} requests"
        )
    if situation.next_expiry is not None:
        left = max(0, int((situation.next_expiry - now).total_seconds()))
        parts.append(f"the oldest has {left // 3600} h {left % 3600 // 60} min to its SLA")
    if situation.asking_told:
        parts.append(situation.asking_told)
    elif situation.asking or situation.askable:
        chunks = plural(max(situation.asking, situation.askable), "chunk waits", "chunks wait")
        parts.append(f"{chunks} to be asked in real time")
    if situation.ended:
        parts.append(f"{plural(situation.ended, 'batch has', 'batches have')} ended")
    if situation.sendable + situation.waiting_for_room:
        parts.append(
            f"{plural(situation.sendable + situation.waiting_for_room, 'chunk waits', 'chunks wait')} to be sent"
        )
    if situation.doubtful:
        parts.append(f"{plural(situation.doubtful, 'create', 'creates')} without a clear answer, left alone for now")
    if situation.waiting_for_primer:
        count = plural(situation.waiting_for_primer, "chunk waits", "chunks wait")
        parts.append(f"{count} for the one request that fills the prompt cache first")
    if situation.held:
        parts.append(held_sentence(situation))
    if situation.to_halve:
        chunks = plural(situation.to_halve, "refused chunk goes", "refused chunks go")
        parts.append(f"{chunks} again in halves")
    if situation.failed:
        parts.append(f"{plural(situation.failed, 'chunk', 'chunks')} refused by the API")
    return f"{situation.workload}: {'; '.join(parts) or 'about to merge'}"


def held_sentence(situation: Situation) -> str:
    """What the budget holds back, by which wall, and the way out: the same words in the UI and the terminal."""
    count = plural(situation.held, "chunk is", "chunks are")
    return f"{count} held by the budget" + (f": {situation.held_by}" if situation.held_by else "")


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def survey(desk: Desk, workload: Workload) -> Situation:
    """Read the situation of one workload: counts and open rows, one short look at the ledger."""
    with desk.ledger.many_reads():
        return _surveyed(desk, workload)


def _surveyed(desk: Desk, workload: Workload) -> Situation:
    ledger, now = desk.ledger, desk.clock()
    limits = walls(desk, workload)
    unsent = _Unsent(desk, workload, limits)
    batches, queued = ledger.in_flight()
    # Where the API asked one chunk to wait it means all of them, so nothing is sendable until then.
    room = bool(unsent.due) and len(unsent.due) == len(unsent.ready) and batches < limits.batches_in_flight
    room = room and (not batches or queued + unsent.due[0].requests <= limits.queued_requests)
    in_room = not batches or batches < limits.batches_in_flight
    before = [ledger.wall_before(chunk, limits, at=now) for chunk in least_of_each_snapshot(unsent.held)]
    before_asking = [ledger.wall_before(chunk, limits, at=now) for chunk in least_of_each_snapshot(unsent.to_ask_held)]
    sentences = before + before_asking
    held_by = next((sentence for sentence in sentences if sentence), None) if None not in sentences else None
    progress = tuple(ledger.progress(workload.name, max_rounds=workload.max_rounds))
    asking = ledger.chunks(workload.name, states=[ChunkState.ASKING])
    asked_by = _asked_by(ledger, workload.name, now)
    to_halve = ledger.to_halve(workload.name)
    counted = ledger.chunk_counts(workload.name)
    count = Counter({of.state: of.chunks for of in counted})
    flying = any(count[state] for state in FLYING)
    begun = [chunk for chunk in asking if chunk.not_before is None or chunk.not_before <= now]
    paused = paused_pools(desk, now)
    askable = [chunk for chunk in unsent.to_ask + begun if pool_of(desk.catalog.model(chunk.model)) not in paused]
    stuck = held_by is not None and not unsent.ready and not unsent.to_ask and not flying
    sendable = len(unsent.due) if room else 0
    return Situation(
        workload=workload.name,
        progress=progress,
        sendable=sendable,
        waiting_for_room=len(unsent.ready) - sendable,
        held=len(unsent.held) + len(unsent.to_ask_held),
        held_that_fit=before.count(None) if in_room else 0,
        wall=held_by if stuck else None,
        in_flight=count[ChunkState.LIVE],
        in_flight_requests=sum(of.requests for of in counted if of.state is ChunkState.LIVE),
        doubtful=count[ChunkState.SENDING],
        ended=count[ChunkState.ENDED],
        failed=count[ChunkState.FAILED] - len(to_halve),
        next_expiry=ledger.next_expiry(workload.name),
        unpublished=ledger.unpublished(workload.name),
        stopped=standing(ledger, now),
        to_halve=len(to_halve),
        held_by=held_by,
        waiting_for_primer=unsent.waiting_for_primer,
        askable=0 if asked_by else len(askable) + (0 if paused else before_asking.count(None)),
        asking=len(asking),
        asking_told="; ".join(map(told_of, asked_by)) or _paused_sentence(unsent.to_ask + asking, askable, paused),
    )


class _Unsent:
    """The chunks of a workload that are not sent, by what keeps them and by lane."""

    def __init__(self, desk: Desk, workload: Workload, limits: Walls) -> None:
        now = desk.clock()
        primers = Primers(desk.ledger, now)
        unsent = desk.ledger.chunks(workload.name, states=[ChunkState.READY, ChunkState.HELD])
        waiting = [chunk for chunk in unsent if primers.why_wait(chunk) is None]
        chooser = LaneChooser(desk, workload, limits)
        asked: list[ChunkRow] = []
        sent: list[ChunkRow] = []
        for chunk in waiting:
            (asked if chooser.of(chunk).lane == REALTIME else sent).append(chunk)
        self.waiting_for_primer = len(unsent) - len(waiting)
        self.ready = [chunk for chunk in sent if chunk.state is ChunkState.READY]
        self.due = [chunk for chunk in self.ready if chunk.not_before is None or chunk.not_before <= now]
        self.held = [chunk for chunk in sent if chunk.state is ChunkState.HELD]
        self.to_ask = [chunk for chunk in asked if chunk.state is ChunkState.READY]
        self.to_ask_held = [
            replace(chunk, reserve_units=realtime_units(desk, chunk))
            for chunk in asked
            if chunk.state is ChunkState.HELD
        ]


def told_of(row: AskingRow) -> str:
    """How far a process is that asks in real time, in one clause."""
    done = row.answered + row.errored
    told = f"{done:,} of {row.requests:,} asked in real time, {row.requests_per_minute:,} requests/min"
    told += f", {row.output_tokens_per_minute:,} output tokens/min, {row.in_flight:,} in flight"
    if row.requests_per_minute and done < row.requests:
        told += f", about {duration(60 * (row.requests - done) / row.requests_per_minute)} left"
    return f"{told}; {row.waiting}" if row.waiting else told


def _asked_by(ledger: Ledger, workload: str, now: datetime) -> list[AskingRow]:
    """Who asks for the workload now: at most one process. One that was killed may still be told of, but holds no lock."""
    rows = [row for row in ledger.asking(at=now) if row.workload == workload]
    if rows:
        with ledger.lock(ask_lock(workload)) as free:
            return [] if free else rows
    return rows


def _paused_sentence(chunks: Sequence[ChunkRow], askable: Sequence[ChunkRow], paused: Mapping[str, datetime]) -> str:
    """Why nothing is asked, where the API asked to wait; else nothing."""
    if askable or not chunks or not paused:
        return ""
    waits = plural(len(chunks), "chunk waits", "chunks wait")
    return f"{waits} to be asked in real time: {told_to_wait(min(paused.values()))}"


def standing(ledger: Ledger, now: datetime) -> str | None:
    """What forbids to send anything now: the ledger's age, or a stop of the account."""
    try:
        check_age(ledger)
    except LedgerOutdated as outdated:
        return str(outdated)
    return why_not_now(ledger, now)
