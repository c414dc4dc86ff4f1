"""Play seeds, judge them, add up their figures; what a failing seed has to say."""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from claude_pipeline_tests.simulation.invariants import Broken, judge, stories
from claude_pipeline_tests.simulation.scheduler import Figures, Stuck
from claude_pipeline_tests.simulation.world import Template, World, deterministic

SHAPES = ((2, 3), (2, 4), (3, 2), (3, 3), (4, 2))  # chunks x requests in each


@dataclass
class Played:
    """One seed, played to its end."""

    seed: int
    rows: int
    digest: str  # of the whole trace
    trace: list[str]
    figures: Figures
    broken: list[Broken]
    story: str = ""

    def report(self) -> str:
        """What a person needs to look into it."""
        lines = [f"seed {self.seed}: {broken.invariant}: {broken.what}" for broken in self.broken]
        again = f"again, with every step: python -m claude_pipeline_tests.simulation --seed {self.seed} --trace"
        return "\n".join([*lines, self.story, again])


@dataclass
class Total:
    """Many seeds together."""

    seeds: int = 0
    rows: int = 0
    last: int = -1  # the seed played last
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    figures: Figures = field(default_factory=Figures)
    failed: list[Played] = field(default_factory=list)

    def broken_rows(self, invariant: str) -> int:
        return sum(broken.rows for played in self.failed for broken in played.broken if broken.invariant == invariant)


class Theatre:
    """Plays seeds in a scratch folder; homes are prepared once for each shape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[tuple[int, int], Template] = {}

    def play(self, seed: int) -> Played:
        """One seed, from its number alone."""
        chance = random.Random(f"seed {seed}")
        template = self._template(chance.choice(SHAPES))
        folder = self._folder / f"seed-{seed}"
        with deterministic(chance), _quiet():
            world = World(seed, folder, template)
            try:
                broken = _end(world)
                touched = {chunk for one in broken for chunk in one.chunks}
                with world.open(None) as desk:
                    story = stories(desk, touched) if broken else ""
            finally:
                world.close()
                shutil.rmtree(folder, ignore_errors=True)
        trace = world.scheduler.trace
        digest = hashlib.sha256("\n".join(trace).encode()).hexdigest()
        return Played(seed, template.records, digest, trace, world.scheduler.figures, broken, story)

    def play_all(self, seeds: Iterable[int], seen: Callable[[Total], None] = lambda total: None) -> Total:
        total, began, cpu = Total(), time.monotonic(), time.process_time()
        for seed in seeds:
            played = self.play(seed)
            total.seeds, total.last = total.seeds + 1, seed
            total.rows += played.rows
            total.figures.add(played.figures)
            total.seconds, total.cpu_seconds = time.monotonic() - began, time.process_time() - cpu
            if played.broken:
                total.failed.append(played)
            seen(total)
        return total

    def _template(self, shape: tuple[int, int]) -> Template:
        if shape not in self._templates:
            self._templates[shape] = Template(self._folder / f"template-{shape[0]}-{shape[1]}", *shape)
        return self._templates[shape]


def _end(world: World) -> list[Broken]:
    try:
        world.play()
    except Stuck as stuck:
        return [Broken("unfinished", str(stuck)), *judge(world)]
    except Exception as error:  # of the product, where it should have raised one of its own
        world.scheduler.say(f"{type(error).__name__}: {error}")
        return [Broken("error", "".join(traceback.format_exception(error)))]
    return judge(world)


@contextmanager
def theatre() -> Iterator[Theatre]:
    """In memory where the machine has a folder for that: nothing here need survive."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="seeds-", dir=memory if memory.is_dir() else None))
    try:
        yield Theatre(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
