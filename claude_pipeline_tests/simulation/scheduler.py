"""Several simulated processes in one, interleaved by a seed: one runs at a time, in virtual time.

A process is a thread that runs only while it holds the baton. At every `point` it may lose it to
another one, be paused, or die: `Died` unwinds it, so its locks and transactions are freed as the
kernel frees those of a killed process. Nothing waits in real time, and nothing but the seed decides.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from zlib import crc32

from claude_pipeline_tests.simulation.faults import RARE, Weather

STAY = 0.7  # share of points at which the process that runs goes on
STEP_SECONDS = 0.4  # mean virtual time between two points
STACK_BYTES = 1 << 20
REAL_SECONDS_MAX = 120.0  # of one seed, which takes less than one: a lock of the product's, held at a point, hangs it


class Died(BaseException):
    """The process was killed here; no handler of the product may catch it."""


class Stuck(Exception):
    """Every process ended, or went on for too long, and the work is not done."""


@dataclass(eq=False)
class Process:
    """One simulated process; `skew_seconds` is by how much its clock is wrong."""

    name: str
    skew_seconds: float
    wake_at: datetime
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0), repr=False)
    doomed: bool = False  # dies as soon as it runs again
    dying: bool = False
    ended: bool = False


@dataclass
class Figures:
    """What happened in one seed, or in many."""

    counts: Counter[str] = field(default_factory=Counter)
    died_at: Counter[str] = field(default_factory=Counter)  # named points and API calls
    passed: Counter[str] = field(default_factory=Counter)  # named points
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            mine.update(theirs)

    def _parts(self) -> tuple[Counter[str], ...]:
        return self.counts, self.died_at, self.passed, self.faults


class Scheduler:
    """Whose turn it is, what time it is, and who dies. `trace` is the whole story, equal for equal seeds."""

    def __init__(self, chance: random.Random, weather: Weather, start: datetime) -> None:
        self.chance, self.weather, self.now, self._start = chance, weather, start, start
        self.calm = self.over = False  # no faults now; none ever after
        self.trace: list[str] = []
        self.figures = Figures()
        self.failure: BaseException | None = None
        self._processes: list[Process] = []
        self._running: Process | None = None
        self._driver = threading.Semaphore(0)
        self._timers: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()
        self._deadline: datetime | None = None
        self.moved: Callable[[float], None] = lambda seconds: None  # told of virtual seconds gone by
        self.after_death: Callable[[Process], None] = lambda process: None
        self.storm_points = 0  # points left of the phase with faults, not counting reads
        self.calm_points = 0  # and of one before it

    # For whoever sets up and runs the world.

    def spawn(self, name: str, work: Callable[[Process], None], *, delay_seconds: float = 0.0) -> Process:
        """Add a process; it starts when `delay_seconds` are over and it is its turn."""
        skew = self.chance.uniform(-self.weather.skew_seconds, self.weather.skew_seconds)
        process = Process(name, skew, self.now + timedelta(seconds=delay_seconds))
        self._processes.append(process)
        threading.Thread(target=self._live, args=(process, work), name=name, daemon=True).start()
        return process

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Something of the world outside the processes, `seconds` from now."""
        heapq.heappush(self._timers, (self.now + timedelta(seconds=seconds), next(self._order), event))

    def run(self, *, deadline: datetime) -> None:
        """Until every process has ended. Raises what one of them raised, or Stuck at the deadline."""
        self._deadline = deadline
        first = self._next()
        if first is not None:
            self._give(first)
            if not self._driver.acquire(timeout=REAL_SECONDS_MAX):
                raise Stuck(f"{self.process.name} waits for something real that another process holds")
        if self.failure is not None:
            raise self.failure

    @property
    def process(self) -> Process:
        """The one that runs."""
        assert self._running is not None
        return self._running

    def clock_of(self, process: Process) -> Callable[[], datetime]:
        skew = timedelta(seconds=process.skew_seconds)
        return lambda: self.now + skew

    # For the code that the processes run.

    def point(self, label: str, *, named: bool = False) -> None:
        """Where others may take over, and where the process may be paused or die."""
        process = self._running
        if process is None or process.dying or threading.current_thread().name != process.name:
            return
        self.say(label)
        self.figures.counts["points"] += 1
        if named:
            self.figures.passed[label] += 1
        self._pass(self.chance.expovariate(1 / STEP_SECONDS))
        if self.calm and not self.over:
            self.calm_points -= 1
            self.calm = self.calm_points > 0
        if not self.calm:
            self._storm(process, label, named)
        self._hand_over(process)

    def sleep(self, seconds: float) -> None:
        """The process waits, by its own will."""
        process = self.process
        process.wake_at = self.now + timedelta(seconds=seconds)
        self._hand_over(process)

    def die(self, label: str) -> None:
        process = self.process
        if process.dying:
            return
        process.dying = True
        self.figures.counts["crashes"] += 1
        self.figures.died_at[label] += 1
        self.say(f"dies at {label}")
        raise Died(label)

    def say(self, what: str) -> None:
        seconds = (self.now - self._start).total_seconds()
        self.trace.append(f"{seconds:12.3f} {self._running.name if self._running else '-':<12} {what}")

    def _storm(self, process: Process, label: str, named: bool) -> None:
        weather, chance = self.weather, self.chance
        read = label == "read"  # of most points; what is done between two reads leaves no trace
        self.storm_points -= not read
        if self.storm_points <= 0:
            self.calm = self.over = True
            self.say("the storm is over")
            return
        crash = weather.crash / 3 if read else weather.crash
        if named:
            grudge = label in RARE or crc32(label.encode()) % 6 == weather.grudge
            crash = weather.crash_grudge if grudge else weather.crash_named
        if chance.random() < crash:
            self.die(label)
        if chance.random() < weather.kill:
            others = [p for p in self._processes if p is not process and not (p.ended or p.doomed)]
            if others:
                victim = chance.choice(others)
                victim.doomed, victim.wake_at = True, self.now
                self.say(f"kills {victim.name}")
        if chance.random() < weather.pause:
            seconds = chance.choice(weather.pauses)
            self.figures.counts["pauses"] += 1
            self.say(f"pauses {seconds:g} s at {label}")
            process.wake_at = self.now + timedelta(seconds=seconds)

    def _pass(self, seconds: float) -> None:
        self._move_to(self.now + timedelta(seconds=seconds))

    def _move_to(self, moment: datetime) -> None:
        """Let time go by, and do what falls due on the way."""
        while self._timers and self._timers[0][0] <= moment:
            due, _, event = heapq.heappop(self._timers)
            self._set(max(due, self.now))
            event()
        self._set(moment)

    def _set(self, moment: datetime) -> None:
        if moment > self.now:
            self.moved((moment - self.now).total_seconds())
            self.now = moment

    def _hand_over(self, process: Process) -> None:
        if process.wake_at > self.now or self.chance.random() >= STAY:
            chosen = self._next()
            assert chosen is not None
            if chosen is not process:
                self._give(chosen)
                process.go.acquire()
        if process.doomed and not process.dying:
            self.die("any instant")

    def _next(self) -> Process | None:
        """A process that may run now; time goes by until there is one. None: all have ended."""
        living = [process for process in self._processes if not process.ended]
        if not living:
            return None
        if self._deadline is not None and self.now > self._deadline and self.failure is None:
            self.fail(Stuck(f"not done {self.now - self._start} of virtual time after the start"))
        able = [process for process in living if process.wake_at <= self.now]
        while not able:
            moment = min(process.wake_at for process in living)
            if self._timers:
                moment = min(moment, self._timers[0][0])
            self._move_to(max(moment, self.now))
            able = [process for process in living if process.wake_at <= self.now]
        return self.chance.choice(able)

    def fail(self, failure: BaseException) -> None:
        """The seed has failed: every process is ended."""
        if self.failure is None:
            self.failure = failure
        for process in self._processes:
            process.doomed, process.wake_at = True, min(process.wake_at, self.now)

    def _give(self, process: Process) -> None:
        self._running = process
        process.go.release()

    def _live(self, process: Process, work: Callable[[Process], None]) -> None:
        process.go.acquire()
        try:
            if not process.doomed:
                work(process)
        except Died:
            pass
        except BaseException as error:  # handed to whoever runs the world
            self.fail(error)
        process.ended = True
        if process.dying and self.failure is None:
            self.after_death(process)
        chosen = self._next()
        if chosen is None:
            self._running = None
            self._driver.release()
        else:
            self._give(chosen)
