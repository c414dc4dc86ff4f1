"""Ready chunks -> answers, in real time: asked as fast as the account's limits let them, each answer journaled.

A session lasts a quarter of an hour at most; what is left then stays `asking`, and the next session asks only
what has no journaled answer. A process that dies leaves the same: what was in flight may have been paid, is
counted as lost and reserved once more before it is asked again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import AccountStopped, BudgetReached, KeyRefused, LedgerDamaged, LedgerUnreachable, in_short
from claude_pipeline.home import sha256_of
from claude_pipeline.lane.concurrency import Concurrency
from claude_pipeline.lane.journal import Journal
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.primer import Primers
from claude_pipeline.lane.queue import Ended, RequestQueue
from claude_pipeline.lane.realtime import AskedChunk, Asking
from claude_pipeline.lane.stranger import check_age
from claude_pipeline.lane.submit import why_not_now
from claude_pipeline.ledger import AskingRow, ChunkRow, ChunkState, Collected, Hold, Walls
from claude_pipeline.ledger.ask_moves import ask_lock
from claude_pipeline.stage.close import close, journal_of, lost_units
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.lane_choice import LaneChooser, pool_of, token_guess
from claude_pipeline.stage.raw import unpack
from claude_pipeline.stage.reserve import Reserves, realtime_reserves
from claude_pipeline.stage.share import PATIENCE_SECONDS, Share, paused_pools, told_to_wait
from claude_pipeline.workload import Workload

SESSION_SECONDS = 900.0  # then the next run goes on: nothing of Dagster's may last for ever
LOOK_SECONDS = 0.25
CHUNKS_AHEAD = 2  # open and not read to their end, in each pool: the limits never wait for the next one
LOST_MAX = 3  # answers of one request that may be lost: each may have been paid

Tell = Callable[[AskingRow], None]

# Set by whoever ends this process in good order: what is in flight is awaited, nothing more is sent.
interrupted = threading.Event()


@dataclass
class Asked:
    """What a session did."""

    done: list[tuple[ChunkRow, Collected]] = field(default_factory=list)
    held: list[tuple[ChunkRow, str]] = field(default_factory=list)
    waiting: str | None = None  # why what is left was not asked
    lost: int = 0  # requests that a process before this one left in flight: they may have been paid

    @property
    def requests(self) -> int:
        return sum(chunk.requests for chunk, _ in self.done)


@dataclass
class _Open:
    """A chunk of this session: what the ledger, the loop and the disk hold of it."""

    chunk: ChunkRow
    asked: AskedChunk
    reserves: Reserves  # units of each request, at the real-time price


def to_ask(desk: Desk, workload: Workload, walls: Walls, keys: Collection[str] | None = None) -> list[ChunkRow]:
    """The chunks of a workload that are for real time now, or those of `keys`: begun ones first, then as they were cut."""
    found = desk.ledger.chunks(workload.name, states=[ChunkState.ASKING, ChunkState.READY, ChunkState.HELD])
    chooser = LaneChooser(desk, workload, walls)
    wanted = [
        chunk
        for chunk in found
        if (keys is None or chunk.partition_key in keys)
        and (chunk.state is ChunkState.ASKING or chooser.of(chunk).lane == "realtime")
    ]
    return sorted(wanted, key=lambda chunk: (chunk.state is not ChunkState.ASKING, chunk.id))


def ask(
    desk: Desk,
    workload: Workload,
    walls: Walls,
    keys: Collection[str] | None = None,
    *,
    seconds: float = SESSION_SECONDS,
    tell: Tell = lambda row: None,
) -> Asked:
    """Ask what is for real time, until nothing is left or a session's time is over. Safe to repeat, and to kill.

    One process asks for a workload at a time; others ask for theirs and share the limits. `tell` hears how far it
    is, every two seconds.

    Raises:
        KeyRefused, AccountStopped: nothing is sent any more until a person acts; what was answered is kept.
        LedgerOutdated: the ledger has forgotten what it sent.
        LedgerDamaged: a chunk's files are not what was cut.
        LedgerUnreachable: the lock was lost; what was answered is kept.
    """
    done = Asked()
    with desk.ledger.lock(ask_lock(workload.name)) as taken:
        if not taken:
            done.waiting = "another process is asking"
            return done
        check_age(desk.ledger)
        done.waiting = why_not_now(desk.ledger, desk.clock())
        chunks = to_ask(desk, workload, walls, keys) if done.waiting is None else []
        if chunks:
            _Session(desk, workload, walls, chunks, taken, done, tell).run(seconds)
    return done


class _Session:
    """Feeds chunks to an asking and closes those that are finished."""

    def __init__(
        self,
        desk: Desk,
        workload: Workload,
        walls: Walls,
        chunks: Sequence[ChunkRow],
        lock: Hold,
        done: Asked,
        tell: Tell,
    ) -> None:
        self._desk, self._workload, self._walls, self._done, self._tell = desk, workload, walls, done, tell
        self._lock = lock
        self._left: dict[str, deque[ChunkRow]] = defaultdict(deque)
        for chunk in chunks:
            self._left[self._pool(chunk)].append(chunk)
        self._open: dict[int, _Open] = {}
        self._chooser = LaneChooser(desk, workload, walls)
        self._requests = sum(chunk.requests for chunk in chunks)  # to be asked; those of begun chunks are fewer
        self._limiters = {pool: self._limiter(left[0]) for pool, left in self._left.items()}
        self._share = Share(desk, workload.name, self._limiters)
        self._paused = paused_pools(desk, desk.clock())
        self._probing = desk.ledger.stop() is not None  # its time to be tried has come: one request shows

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with Asking(
            self._queues, connect=self._desk.messages, clock=self._desk.clock, waits=self._desk.waits
        ) as asking:
            try:
                self._share.join(time.monotonic())
                stopping = False
                while asking.alive:
                    if not stopping:
                        self._feed(asking)
                        stopping = not self._open
                        if stopping:
                            asking.feed_no_more()
                    for chunk in asking.finished(wait_seconds=LOOK_SECONDS):
                        self._close(chunk)
                    self._beat(asking)
                    self._heard(asking)
                    if interrupted.is_set():
                        self._done.waiting = "it was interrupted; the next run goes on"
                        break  # a person waits: for what is in flight, and not for long
                    if time.monotonic() >= end and not stopping:
                        stopping = True
                        asking.stop()
            finally:
                asking.stop()
                self._share.leave()
                asking.wait()
                self._share.tell_limits(time.monotonic())
                for chunk in asking.finished(wait_seconds=0):
                    self._close(chunk)
                for left in self._open.values():
                    left.asked.journal.close()
                self._heard(asking)
        self._after(asking.ended)

    # -- chunks --------------------------------------------------------------------------------------

    def _feed(self, asking: Asking) -> None:
        primers = Primers(self._desk.ledger, self._desk.clock())
        for pool, left in self._left.items():
            if left and pool in self._paused:
                self._done.waiting = told_to_wait(self._paused[pool])
                continue
            for _ in range(len(left)):
                if asking.unread(pool) >= CHUNKS_AHEAD:
                    break
                chunk = self._desk.ledger.chunk(left.popleft().id)  # another process may have moved it
                if (why := primers.why_wait(chunk)) is not None:
                    left.append(chunk)
                    self._done.waiting = f"{chunk.partition_key}: {why}"
                    continue
                begun = self._begin(chunk, pool)
                if begun is not None:
                    self._open[chunk.id] = begun
                    self._requests -= begun.chunk.requests - sum(1 for _ in begun.asked.journal.waiting())
                    self._done.waiting = None
                    asking.feed(begun.asked)

    def _begin(self, chunk: ChunkRow, pool: str) -> _Open | None:
        """Start or resume a chunk: its files checked, its reserve taken, what was in flight counted."""
        desk, now = self._desk, self._desk.clock()
        if chunk.state not in (ChunkState.ASKING, ChunkState.READY, ChunkState.HELD):
            return None
        if chunk.not_before is not None and chunk.not_before > now:
            self._done.waiting = told_to_wait(chunk.not_before)
            return None
        params = desk.path(chunk.params_path)
        for path, sha256 in ((chunk.params_path, chunk.params_sha256), (chunk.index_path, chunk.index_sha256)):
            if not desk.path(path).exists() or sha256_of(desk.path(path)) != sha256:
                raise LedgerDamaged(
                    f"{path} is not what was cut for chunk {chunk.partition_key} (sha256 differs); restore it from a backup"
                )
        reserves = realtime_reserves(desk, chunk)
        if chunk.state is not ChunkState.ASKING:
            try:
                chunk = desk.ledger.asking_started(
                    chunk, reserve_units=int(reserves.sum()), walls=self._walls, why=self._chooser.of(chunk).why, at=now
                )
            except BudgetReached as reached:
                self._done.held.append((chunk, str(reached)))
                return None
            crash_point("ask.after_start")
        place = journal_of(desk, chunk)
        unpack(place)
        journal = Journal.open(place, chunk.key, chunk.requests)
        asked = AskedChunk(
            chunk.id, pool, params, journal, chunk.max_tokens or self._workload.max_tokens,
            lambda position: self._may_ask_again(chunk.id, position),
        )  # fmt: skip
        opened = _Open(chunk, asked, reserves)
        self._reserve_lost(opened)
        if self._is_canceled(chunk):
            asked.withdrawn = True
        return opened

    def _reserve_lost(self, opened: _Open) -> None:
        """Requests that were in flight when their process died may have been paid: what they cost counts, and they
        are asked again where the budget has room for both."""
        journal, reserves, chunk = opened.asked.journal, opened.reserves, opened.chunk
        units = int(reserves.sum()) + lost_units(journal, reserves)
        if journal.unrecorded <= chunk.lost and units <= chunk.reserve_units:
            return
        self._done.lost += max(0, journal.unrecorded - chunk.lost)
        if self._room_for(opened, units) is None:
            return
        again = [position for position in journal.waiting() if journal.unrecorded_of(position)]
        units -= sum(int(reserves[position]) for position in again)
        for position in again:
            sentence = self._room_for(opened, units + int(reserves[position]))
            if sentence is None:
                units += int(reserves[position])
            else:
                journal.lost(
                    position, f"its process died while it was asked; to ask it again {sentence}", self._desk.clock()
                )

    def _room_for(self, opened: _Open, units: int) -> str | None:
        """Raise a chunk's reserve to so many units; the sentence of the wall that stands before that."""
        lost, now = opened.asked.journal.unrecorded, self._desk.clock()
        return self._desk.ledger.lost_found(opened.chunk, reserve_units=units, lost=lost, walls=self._walls, at=now)

    def _may_ask_again(self, chunk_id: int, position: int) -> bool:
        """In the loop's thread. A request whose answer was lost is asked again where the budget has room for both."""
        opened = self._open[chunk_id]
        if opened.asked.journal.unrecorded_of(position) >= LOST_MAX:
            return False
        units = int(opened.reserves[position])
        return self._desk.ledger.lost_reserved(opened.chunk, units, self._walls, at=self._desk.clock()) is None

    def _close(self, asked: AskedChunk) -> None:
        opened = self._open.pop(asked.id)
        if asked.withdrawn:
            asked.journal.canceled(self._desk.clock())
        asked.journal.close()
        collected = close(self._desk, self._workload, opened.chunk, asked.journal, opened.reserves)
        self._done.done.append((opened.chunk, collected))

    def _is_canceled(self, chunk: ChunkRow) -> bool:
        snapshot = self._desk.ledger.snapshot(chunk.workload, chunk.snapshot)
        return snapshot is not None and snapshot.canceled_at is not None

    # -- the loop's parts ----------------------------------------------------------------------------

    def _pool(self, chunk: ChunkRow) -> str:
        return pool_of(self._desk.catalog.model(chunk.model))

    def _limiter(self, chunk: ChunkRow) -> Limiter:
        tier = self._desk.catalog.tier(self._desk.settings.tier)
        guess = token_guess(self._desk, self._workload, chunk.model, chunk.max_tokens)
        return Limiter(
            tier.rate(self._desk.catalog.model(chunk.model)),
            tokens_per_byte=1 / guess.bytes_per_token,
            output_tokens=guess.output_tokens,
        )

    def _queues(self, ask: Callable[..., object]) -> Mapping[str, RequestQueue]:
        most = 1 if self._probing else self._desk.settings.realtime_in_flight
        waits = self._desk.waits
        return {
            pool: RequestQueue(ask, limiter, Concurrency(most, waits), patience_seconds=PATIENCE_SECONDS, waits=waits)  # type: ignore[arg-type]
            for pool, limiter in self._limiters.items()
        }

    def _beat(self, asking: Asking) -> None:
        if not self._share.beat(asking, self._requests, time.monotonic()):
            return
        if not self._lock.still_held():
            raise LedgerUnreachable(
                f"the lock of asking for {self._workload.name} was lost (its session with the database ended): another "
                "process may ask by now, so this one sends nothing more; run it again, it carries on"
            )
        if self._share.row is not None:
            self._tell(self._share.row)
        for opened in self._open.values():
            if self._is_canceled(opened.chunk):
                asking.withdraw(opened.chunk.id)

    def _heard(self, asking: Asking) -> None:
        """A stop is over with the first answer."""
        if self._probing and asking.figures().total("answered"):
            self._probing = False
            self._desk.ledger.account_resumed(how="the API answered a request", at=self._desk.clock())
            asking.stop()  # one at a time was enough to see; the next session asks at full speed

    def _after(self, ended: Mapping[str, Ended]) -> None:
        """Why the queues ended, where that is more than that all was done."""
        now = self._desk.clock()
        for pool, end in ended.items():
            if end.reason == "account" and end.reply is not None:
                kind = "key" if end.reply.status in (401, 403) else "account"
                said = in_short(end.reply.error_message)
                sentence = f"a request was answered {end.reply.status} {end.reply.error_type}: {said}"
                self._desk.ledger.account_stopped(kind, sentence, at=now)
                if kind == "key":
                    raise KeyRefused(f"{sentence}; check ANTHROPIC_API_KEY")
                raise AccountStopped(f"{sentence}; mend the account")
            if end.reason == "paused" and end.resume_in_seconds is not None:
                until = now + timedelta(seconds=math.ceil(end.resume_in_seconds))
                self._done.waiting = told_to_wait(until)
                for opened in self._open.values():
                    if opened.asked.pool == pool:
                        self._desk.ledger.asking_paused(opened.chunk, until, self._done.waiting, at=now)
        if self._done.waiting is None and (self._open or any(self._left.values())):
            self._done.waiting = "the time of this session is over; the next one goes on"
