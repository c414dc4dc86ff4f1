"""One seed: some processes of the product share a home, a ledger and an API, first in a storm, then in calm.

What runs is the product: its ledger on a SQLite file, its lanes and stages, its client. Around it
are a scheduler, a wire, somebody else's batches in the same workspace, and a person who acts only
where the product asks for one.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import SingletonThreadPool

from claude_pipeline.catalog import Catalog, load
from claude_pipeline.controller import Kind, decide, survey
from claude_pipeline.crash import told
from claude_pipeline.errors import ClaudePipelineError, IllegalMove, LedgerDamaged, LedgerUnreachable
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.ledger.connection import BUSY_TIMEOUT_MS, _prepare_sqlite
from claude_pipeline.ledger.lock import Hold
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.submit import plan_submission, send, settle, settle_by_hand
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import note, workload_over
from claude_pipeline_tests.simulation.faults import SETTLE_SECONDS, Weather
from claude_pipeline_tests.simulation.scheduler import Process, Scheduler
from claude_pipeline_tests.simulation.wire import BATCHES, KEY, Server, Wire, foreign_body

START = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
PARTITION = "2026-11-22"
DEADLINE_DAYS = 12  # of virtual time: then the seed counts as unfinished
LONG_SECONDS = 200.0  # between two looks in calm: by then something has happened
FOREIGN_MOST = 8  # batches of somebody else
PATIENCE_DAYS = 2  # after which a person looks at what is still in doubt
TENANT = [(b"authorization", f"Bearer {KEY}".encode()), (b"anthropic-version", b"2023-06-01")]


class Batoned(Ledger):
    """The product's ledger, with a point before each transaction and each try of a lock.

    A waiting lock is tried again and again in virtual time, for a thread that really waited would
    keep the baton. So is SQLite's write lock, up to the product's busy timeout.
    """

    def __init__(self, engine: Engine, locks_folder: Path, world: World) -> None:
        self._world = world
        super().__init__(engine, locks_folder)

    @contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[Hold]:
        scheduler = self._world.scheduler
        while True:
            scheduler.point(f"lock {name}")
            with super().lock(name) as taken:
                if taken or not wait:
                    yield taken
                    return
            scheduler.sleep(scheduler.chance.uniform(1, 20))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._world.scheduler.point("read")
        with super()._reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        world = self._world
        world.scheduler.point("write")
        world.wait_for_writer()
        try:
            with super()._writing() as connection:
                yield connection
                world.scheduler.point("commit")
        finally:
            world.writer = None


class World:
    """Everything of one seed; `run` plays it, then `invariants` judge it."""

    def __init__(self, seed: int, folder: Path, template: Template) -> None:
        self.seed, self.template, self.folder = seed, template, folder
        self.chance = chance = random.Random(f"world {seed}")
        self.scheduler = scheduler = Scheduler(chance, Weather.of(chance), START)
        scheduler.storm_points = chance.randrange(50, 130)
        scheduler.calm_points = chance.choice((0, 0, 0, 30, 110))
        scheduler.calm = scheduler.calm_points > 0
        self.home = Home(folder / "home")
        shutil.copytree(template.home.root, self.home.root)
        self.engine = _engine()
        _at["ledger"] = self.home.ledger
        self._peek = sqlite3.connect(f"file:{self.home.ledger}?mode=ro", uri=True, check_same_thread=False)
        self.server = Server(
            Options(paused=True, start=START, tier="custom", seed=seed, state=folder / "simulator", host="127.0.0.1")
        )
        scheduler.moved = self.server.api.clock.advance
        page_size = chance.choice((0, 0, 2, 3, 5))
        self.wire = Wire(self.server, scheduler, page_size=page_size, may_lie=self._may_lie)
        self.wire.pinned = self._pinned
        self.client = BatchClient(connect=self.wire.client)
        self.writer: Process | None = None
        self.batches_in_flight = chance.choice((1, 2, 100, 100))
        self._names = 0
        self._finishers = chance.choice((1, 1, 1, 1, 2))
        self._foreign: list[str] = []
        self._gone: set[str | None] = set()
        self._created = 0

    def play(self) -> None:
        """Storm, then calm, until all is done. Raises what went wrong."""
        scheduler, chance = self.scheduler, self.chance
        with told(lambda name: scheduler.point(name, named=True)):
            for _ in range(chance.choice((0, 1, 1, 3))):
                self._foreign_create()
            self._tenant()
            scheduler.after_death = self._reborn
            for _ in range(chance.choice((2, 2, 3, 4))):
                self._start(chance.uniform(0, 20))
            scheduler.run(deadline=START + timedelta(days=DEADLINE_DAYS))

    def close(self) -> None:
        self._peek.close()
        self.engine.dispose()
        self.server.close()

    @contextmanager
    def open(self, process: Process | None) -> Iterator[Desk]:
        """A desk of the product, with a connection of its own; `process` None: the judge's, outside of time."""
        clock = self.scheduler.clock_of(process) if process else lambda: self.scheduler.now
        settings = Settings(self.home, settle_seconds=SETTLE_SECONDS, batches_in_flight=self.batches_in_flight)
        try:
            ledger = Batoned(self.engine, self.home.root / "locks", self)
            yield Desk(settings, ledger, self.template.catalog, self.client, clock)
        finally:
            self.engine.raw_connection().invalidate()  # this process's own

    def wait_for_writer(self) -> None:
        """SQLite lets one write at a time; whoever waits too long is told that it is locked."""
        scheduler = self.scheduler
        until = scheduler.now + timedelta(milliseconds=BUSY_TIMEOUT_MS)
        unlucky = not scheduler.calm and self.chance.random() < scheduler.weather.ledger_locked
        while unlucky or self.writer is not None:
            if unlucky or scheduler.now > until:
                scheduler.figures.faults["ledger: locked"] += 1
                raise LedgerUnreachable("the ledger gave no answer: database is locked")
            scheduler.sleep(self.chance.uniform(0.1, 3))
        self.writer = scheduler.process

    # The processes.

    def _start(self, delay_seconds: float) -> None:
        self._names += 1
        self.scheduler.spawn(f"process {self._names}", self._work, delay_seconds=delay_seconds)

    def _reborn(self, dead: Process) -> None:
        self.scheduler.figures.counts["restarts"] += 1
        self._start(self.chance.uniform(0.5, 90))

    def _work(self, process: Process) -> None:
        """As the sensor and its runs do: look, send, collect, merge, in any order, until all is done."""
        with self.open(process) as desk:
            while not self.scheduler.over:
                self._attempt(self._choose(), desk)
                self.scheduler.sleep(self.chance.expovariate(1 / 40))
            self._finishers -= 1
            if self._finishers >= 0:
                self._finish(desk)

    def _choose(self) -> Callable[[Desk], None]:
        """Mostly what has something to do, as the controller would; now and then what has not."""
        states = {state for (state,) in self._asked("SELECT DISTINCT state FROM chunk")}
        useful = {
            self._tick: bool(states & {"sending", "live"}),
            self._send: bool(states & {"ready", "held"}),
            self._collect: "ended" in states,
            self._merge: states <= {"done", "failed", "canceled"},
        }
        return self.chance.choices(list(useful), [10 if one else 1 for one in useful.values()])[0]

    def _attempt(self, work: Any, desk: Desk) -> None:
        """One run; what the product raises ends it, as it would end a run of Dagster's."""
        try:
            work(desk)
        except (IllegalMove, LedgerDamaged):
            raise
        except ClaudePipelineError as error:
            self.scheduler.figures.counts["failed runs"] += 1
            self.scheduler.say(f"{work.__name__} ends with {type(error).__name__}: {str(error).splitlines()[0][:150]}")

    def _tick(self, desk: Desk) -> None:
        settle(desk)
        look(desk)

    def _send(self, desk: Desk) -> None:
        send(desk, self.template.workload, plan_submission(desk, self.template.workload).chunks)

    def _collect(self, desk: Desk) -> None:
        collect(desk, self.template.workload)

    def _merge(self, desk: Desk) -> None:
        workload = self.template.workload
        left = desk.ledger.progress(workload.name, max_rounds=workload.max_rounds)
        if any(progress.settled for progress in left):
            finalize(desk, workload, PARTITION)
        elif any(progress.due for progress in left):
            self._send(desk)
        elif not left:
            self.scheduler.storm_points = 0  # all is done: more of it would show nothing

    def _finish(self, desk: Desk) -> None:
        """In calm: by the controller's decisions, until nothing is left to do."""
        workload, wait, before = self.template.workload, LONG_SECONDS, None
        while True:
            self._attempt(self._tick, desk)
            situation = survey(desk, workload)
            if not situation.progress and not situation.failed:
                return
            for action in decide(situation):
                match action.kind:
                    case Kind.SUBMIT:
                        self._attempt(self._send, desk)
                    case Kind.COLLECT:
                        self._attempt(self._collect, desk)
                    case Kind.FINALIZE:
                        self._attempt(self._merge, desk)
            if situation.failed and not situation.in_flight:
                self._attempt(self._send_again_by_hand, desk)
            wait = min(wait * 2, 4 * 3600.0) if situation == before else LONG_SECONDS
            if situation == before:
                self._attempt(self._settle_by_hand, desk)
            self.scheduler.sleep(wait)
            before = situation

    # A person, where the product asks for one.

    def _send_again_by_hand(self, desk: Desk) -> None:
        failed = desk.ledger.chunks(self.template.workload.name, states=[ChunkState.FAILED])
        keys = [chunk.partition_key for chunk in failed]
        self.scheduler.figures.counts["sent again by hand"] += len(keys)
        send(desk, self.template.workload, plan_submission(desk, self.template.workload, keys).chunks)

    def _settle_by_hand(self, desk: Desk) -> None:
        """What waits for days, because its evidence was deleted: the person looks into the Console."""
        for intent in desk.ledger.unsettled_intents():
            evidence = {intent.watermark, *json.loads(intent.candidates or "[]")}
            if not evidence & self._gone or desk.clock() - intent.created_at < timedelta(days=PATIENCE_DAYS):
                continue  # the product must come to an end by itself
            rows = self.server.api.store.rows(
                "SELECT DISTINCT b.id FROM line l JOIN batch b ON b.seq = l.batch WHERE l.custom_id LIKE ?",
                (f"{intent.tag}-%",),
            )
            self.scheduler.figures.counts["settled by hand"] += 1
            settle_by_hand(desk, intent.tag, batch_id=rows[0][0] if rows else None)

    # Somebody else in the workspace, and what the wire may do.

    def _tenant(self) -> None:
        """Now and then a foreign batch of our size; now and then one is deleted."""
        if self.scheduler.over:
            return
        weather = self.scheduler.weather
        if self.chance.random() < weather.foreign and self._created < FOREIGN_MOST:
            self._foreign_create()
        if self._foreign and self.chance.random() < weather.foreign_gone:
            gone = self._foreign.pop(self.chance.randrange(len(self._foreign)))
            self.server.order(())
            answer = self.server.ask("DELETE", f"{BATCHES}/{gone}", b"", TENANT, b"")
            if answer.status == 200:
                self._gone.add(gone)
                self.scheduler.figures.counts["foreign batches deleted"] += 1
                self.scheduler.say(f"somebody deletes {gone}")
        self.scheduler.at(self.chance.uniform(5, 60), self._tenant)

    def _foreign_create(self) -> None:
        name = self.chance.choice(("job", "deadbeef-0123456789abcdef"))
        self.server.order([{"kind": "take", "seconds": round(self.chance.uniform(5, 600), 1)}])
        body = foreign_body(self.template.per_chunk, f"{name}{self._created}")
        self._created += 1
        headers = [*TENANT, (b"content-length", str(len(body)).encode())]
        answer = self.server.ask("POST", BATCHES, b"", headers, body)
        self._foreign.append(orjson.loads(b"".join(answer.pieces))["id"])
        self.scheduler.figures.counts["foreign batches"] += 1
        self.scheduler.say(f"somebody creates {self._foreign[-1]}")

    def _pinned(self) -> bool:
        return bool(self._asked("SELECT 1 FROM setting WHERE key = 'workspace_id'"))

    def _may_lie(self) -> bool:
        """Whether the product could see through a list that lies: it knows a batch that must be there."""
        blind = """SELECT 1 FROM intent i WHERE state IN ('open', 'doubt') AND watermark IS NULL
                   AND NOT EXISTS (SELECT 1 FROM intent o WHERE o.id < i.id AND o.batch_id IS NOT NULL)"""
        return not self._asked(blind)

    def _asked(self, query: str) -> list[Any]:
        """Of the ledger, past the product and outside of time."""
        return self._peek.execute(query).fetchall()


class Template:
    """A home with one prepared snapshot; each seed starts from a copy."""

    def __init__(self, folder: Path, chunks: int, per_chunk: int) -> None:
        self.per_chunk, self.records = per_chunk, chunks * per_chunk
        self.catalog: Catalog = load(None)
        self.home = Home(folder / "home")
        self.home.root.mkdir(parents=True)
        rows = [note(number) for number in range(self.records)]
        # Its processes know batches only: the deadline lies past the longest storm.
        fields = {"deadline_hours": 24 * DEADLINE_DAYS * 2, "chunk": {"requests": per_chunk}}
        self.workload: Workload = workload_over(folder, rows, **fields)
        with (
            deterministic(random.Random(f"template {chunks} {per_chunk}")),
            Ledger.open(None, path=self.home.ledger) as ledger,
        ):
            prepare(Desk(Settings(self.home), ledger, self.catalog, clock=lambda: START), self.workload, PARTITION)


@contextmanager
def deterministic(chance: random.Random) -> Iterator[None]:
    """Ids made by chance (tags, batch ids) come from the seed: another order of ids is another story."""
    with patch("secrets.token_hex", lambda size: chance.randbytes(size).hex()):
        yield


@cache
def _engine() -> Engine:
    """As the product makes it, but for what costs time and saves nothing here: one connection a process
    instead of one a transaction, no sync, and one cache of compiled statements for all seeds."""
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(_at["ledger"], check_same_thread=False), poolclass=SingletonThreadPool,
        pool_size=1_000_000,
    )  # fmt: skip
    _prepare_sqlite(engine)

    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, _record: object) -> None:
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute("PRAGMA busy_timeout=0")

    return engine


_at: dict[str, Path] = {}  # where the ledger of the world that is played lies
