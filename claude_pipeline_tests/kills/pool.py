"""One pool: start the processes, kill them, start them again; then the calm in which all must finish."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import yaml

from claude_pipeline.home import Home
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.factory import attributes, write_dataset
from claude_pipeline_tests.forks import Forks, make_forks
from claude_pipeline_tests.kills import driver, plan
from claude_pipeline_tests.kills.check import FOREIGN, Expected, check
from claude_pipeline_tests.kills.figures import Figures
from claude_pipeline_tests.kills.plan import AT_RANDOM, CALM, PAUSE_SECONDS, Fate, draw_fate

TICK_SECONDS = 0.01
CALM_SECONDS = 120.0
WORKLOADS_AT_ONCE, WORKLOADS_MOST = 2, 8
FOREIGN_SHARE = 0.02  # of ticks in which somebody else makes a batch
FOREIGN_MOST = 12


@dataclass
class Running:
    """A process and what is to become of it."""

    process: ForkServerProcess
    fate: Fate
    began: float
    paused_at: float | None = None
    struck: bool = False  # killed from outside

    def carry_out(self, now: float) -> bool:
        """Pause, resume or kill where that is due; True when it was paused just now."""
        age, pid = now - self.began, self.process.pid
        assert pid is not None
        if self.paused_at is not None:
            if now - self.paused_at >= PAUSE_SECONDS:
                self.paused_at, self.fate = None, Fate(self.fate.crash_at, self.fate.seconds)
                os.kill(pid, signal.SIGCONT)
            return False
        if self.fate.pause_at is not None and age >= self.fate.pause_at:
            self.paused_at = now
            os.kill(pid, signal.SIGSTOP)
            return True
        if self.fate.seconds is not None and age >= self.fate.seconds and not self.struck:
            self.struck = True
            os.kill(pid, signal.SIGKILL)
        return False


@dataclass
class Pool:
    """One home, its workloads, its processes."""

    forks: Forks
    folder: Path
    simulator: Simulator
    chance: Random
    processes: int
    killed_before: Counter[str]  # over all pools: points where few died are preferred
    figures: Figures = field(default_factory=Figures)
    workloads: list[Expected] = field(default_factory=list)
    slots: list[Running] = field(default_factory=list)
    foreign: int = 0

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def log(self) -> Path:
        return self.folder / "processes.log"

    def storm(self, kills: int) -> None:
        """Kill and start again until `kills` have died; whenever all is at rest, there is more to do."""
        while self.figures.killed < kills:
            if not self.slots:
                self._add_workloads()
            while len(self.slots) < self.processes:
                self._start(draw_fate(self.chance, self.killed_before + self.figures.kills))
            self._tick()
            if any(slot.process.exitcode == 0 for slot in self.slots) and len(self.workloads) < WORKLOADS_MOST:
                self._add_workloads()
            self._reap()
            if self.foreign < FOREIGN_MOST and self.chance.random() < FOREIGN_SHARE:
                self._make_foreign()

    def calm(self) -> None:
        """No more faults and kills: everything must finish by itself."""
        self.simulator.faults.clear()
        for slot in self.slots:
            self._end(slot)
        self._reap()
        for _ in range(self.processes):
            self._start(CALM)
        deadline = time.monotonic() + CALM_SECONDS
        while self.slots and time.monotonic() < deadline:
            self._tick()
            self._reap()
        for slot in self.slots:
            self.figures.wrong.append("a process did not come to rest in the calm")
            self._end(slot)
        self._reap()

    def _tick(self) -> None:
        time.sleep(TICK_SECONDS)  # real processes: no clock to move
        now = time.monotonic()
        for slot in self.slots:
            if slot.process.exitcode is None:
                with suppress(ProcessLookupError):
                    self.figures.pauses += slot.carry_out(now)

    def _reap(self) -> None:
        for slot in [slot for slot in self.slots if slot.process.exitcode is not None]:
            self.slots.remove(slot)
            code = slot.process.exitcode
            if code == -signal.SIGKILL:
                self.figures.kills[AT_RANDOM if slot.struck else slot.fate.crash_at.partition(":")[0]] += 1
            elif code != 0:
                tail = self.log.read_text(encoding="utf-8")[-1500:]
                self.figures.wrong.append(f"a process ended with {code}: {tail}")
            slot.process.close()

    def _end(self, slot: Running) -> None:
        slot.struck = True
        slot.process.kill()
        slot.process.join()

    def _start(self, fate: Fate) -> None:
        environment = {
            "ANTHROPIC_BASE_URL": self.simulator.base_url,
            "ANTHROPIC_API_KEY": self.simulator.api_key,
            "CLAUDE_PIPELINE_SETTLE_SECONDS": str(plan.SETTLE_SECONDS),
            "CLAUDE_PIPELINE_CRASH_AT": fate.crash_at,
        }
        arguments = (str(self.folder), str(self.home.root), str(self.log), self.chance.randrange(1 << 30), environment)
        process = self.forks.Process(target=driver.main, args=arguments)
        process.start()
        self.figures.processes += 1
        self.slots.append(Running(process, fate, time.monotonic()))

    def _add_workloads(self) -> None:
        """A workload appears whole, by a rename: running processes took their list when they began."""
        for _ in range(WORKLOADS_AT_ONCE):
            name = f"w{len(self.workloads):02d}"
            records, duplicates = plan.draw_size(self.chance)
            texts = {f"n{n}": f"{name} note {n % (records - duplicates)}" for n in range(records)}
            rows = [{"id": record_id, "text": text} for record_id, text in texts.items()]
            data = write_dataset(self.folder / f"{name}.jsonl", rows)
            fields = attributes(name=name, dataset={"path": str(data), "id": "id"}, chunk={"requests": plan.CHUNK})
            draft = self.folder / f"{name}.draft"
            draft.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))
            draft.replace(self.folder / f"{name}.yaml")
            self.workloads.append(Expected(name, texts))

    def _make_foreign(self) -> None:
        """Somebody else in the workspace makes a batch of the same size."""
        self.foreign += 1
        params = {"model": "claude-haiku-5-5", "max_tokens": 16}
        entries = [
            {
                "custom_id": f"{FOREIGN}{self.foreign}-{n}",
                "params": params | {"messages": [{"role": "user", "content": f"foreign {self.foreign} {n}"}]},
            }
            for n in range(plan.CHUNK)
        ]
        headers = {
            "authorization": f"Bearer {self.simulator.api_key}",
            "anthropic-version": "2026-10-21",
            "content-type": "application/json",
        }
        url = f"{self.simulator.base_url}/v1/messages/batches"
        body = json.dumps({"requests": entries}).encode()
        # The API's faults strike everybody; whether this batch exists then does not matter.
        with suppress(OSError, urllib.error.URLError, ValueError):
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5).close()


def run_pool(forks: Forks, folder: Path, seed: int, *, kills: int, killed_before: Counter[str]) -> Figures:
    """A pool of its own from a seed. Real processes: the same seed gives the same plan, not the same course."""
    began = time.monotonic()
    chance = Random(f"kills:{seed}")
    options = Options(speed=plan.SPEED, batch_seconds=plan.BATCH_SECONDS, seed=seed)
    folder.mkdir(parents=True)
    with running(options) as simulator:
        pool = Pool(forks, folder, simulator, chance, chance.randint(2, 4), killed_before)
        pool.home.root.mkdir()
        for fault in plan.draw_faults(chance):
            simulator.faults.add(**fault)
        pool.storm(kills)
        struck = sum(rule["struck"] for rule in simulator.faults.as_json())
        pool.calm()
        found = check(pool.home, simulator, pool.workloads)
    found.faults = struck
    found.add(pool.figures)
    found.wrong = [f"seed {seed}: {sentence}" for sentence in found.wrong]
    found.pools, found.seconds = 1, time.monotonic() - began
    return found


def run_pools(folder: Path, seed: int, *, kills: int, kills_per_pool: int) -> Figures:
    """Pools with seeds `seed`, `seed + 1`, ... until `kills` processes were killed; the first wrong one is the last."""
    forks, total = make_forks(driver.__name__), Figures()
    while total.killed < kills and not total.wrong:
        here = folder / f"seed-{seed}"
        most = min(kills_per_pool, kills - total.killed)
        total.add(run_pool(forks, here, seed, kills=most, killed_before=total.kills))
        seed += 1
    return total
