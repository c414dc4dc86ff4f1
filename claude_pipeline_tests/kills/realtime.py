"""Processes that ask in real time, killed by SIGKILL at named points and at random instants: what is paid is bounded.

    python -m claude_pipeline_tests.kills.realtime --kills 50 --seed 1

One process at a time drives the workloads of a home; it is killed and started again. Whenever all is at rest there is
another workload. After the last kill comes a calm in which all must finish. Of what was in flight at a kill nobody knows
whether it was paid, so it is asked again:

    billed <= records + kills x requests in flight
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import duckdb
import orjson
import yaml

from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkRow, ChunkState, Ledger
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.factory import attributes, token_of, write_dataset
from claude_pipeline_tests.forks import Forks, make_forks
from claude_pipeline_tests.integration.realtime_case import TIER, write_catalog
from claude_pipeline_tests.kills import driver
from claude_pipeline_tests.kills.plan import AT_RANDOM, realtime_points

IN_FLIGHT = 16
RECORDS, CHUNK = 120, 30
MESSAGE_SECONDS = 0.02  # that an answer takes: so that there always are some in flight
CALM_SECONDS = 90.0
UNITS_PER_USD = 10_000_000_000


@dataclass
class Figures:
    """What the kills showed."""

    kills: Counter[str] = field(default_factory=Counter)  # by crash point, or AT_RANDOM
    records: int = 0
    answered: int = 0  # records with the answer to their own question
    billed: int = 0
    lost: int = 0  # as the ledger tells it
    cost_usd: Decimal = Decimal(0)
    committed_usd: Decimal = Decimal(0)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.kills.total()

    def table(self) -> str:
        lines = ["killed", *(f"  {name:<32}{self.kills[name]:>8,}" for name in (AT_RANDOM, *realtime_points()))]
        totals = [("kills", self.killed), ("records", self.records), ("answered", self.answered)]
        totals += [("billed", self.billed), ("billed at most", self.records + self.killed * IN_FLIGHT)]
        totals += [("told as perhaps paid twice", self.lost), ("seconds", round(self.seconds))]
        lines += ["in all", *(f"  {name:<32}{count:>8,}" for name, count in totals)]
        return "\n".join([*lines, *(f"WRONG  {sentence}" for sentence in self.wrong)])


@dataclass
class Storm:
    """One home, its workloads, and the process that lives now."""

    forks: Forks
    folder: Path
    simulator: Simulator
    chance: Random
    budget_usd: float | None = None  # of each workload
    figures: Figures = field(default_factory=Figures)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)  # workload -> record id -> text

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    def run(self, kills: int) -> Figures:
        began = time.monotonic()
        self._add_workload()
        while self.figures.killed < kills and not self.figures.wrong:
            if self._one_life() == 0:
                self._add_workload()
        if self._finish(self._start(""), CALM_SECONDS) != 0:
            self.figures.wrong.append(f"the calm did not end well: {self._log().read_text(encoding='utf-8')[-1500:]}")
        self._check()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _one_life(self) -> int:
        """Start a process and kill it; its exit code, 0 where all was done before it was to die."""
        few = min(self.figures.kills[name] for name in realtime_points())
        point = self.chance.choice([name for name in realtime_points() if self.figures.kills[name] == few])
        at_random = self.chance.random() < 0.5
        nth = self.chance.randint(1, 40) if point.startswith("journal.") else self.chance.randint(1, 3)
        process = self._start("" if at_random else f"{point}:{nth}")
        code = self._finish(process, self.chance.uniform(0.2, 2.0) if at_random else CALM_SECONDS)
        if code == -signal.SIGKILL:
            self.figures.kills[AT_RANDOM if at_random else point] += 1
        elif code != 0:
            self.figures.wrong.append(f"a process ended with {code}: {self._log().read_text(encoding='utf-8')[-1500:]}")
        return code

    def _start(self, crash_at: str) -> ForkServerProcess:
        environment = {
            "ANTHROPIC_BASE_URL": self.simulator.base_url,
            "ANTHROPIC_API_KEY": self.simulator.api_key,
            "CLAUDE_PIPELINE_TIER": TIER,
            "CLAUDE_PIPELINE_CATALOG": str(write_catalog(self.home.root)),
            "CLAUDE_PIPELINE_REALTIME_IN_FLIGHT": str(IN_FLIGHT),
            "CLAUDE_PIPELINE_CRASH_AT": crash_at,
        }
        arguments = (
            str(self.folder),
            str(self.home.root),
            str(self._log()),
            self.chance.randrange(1 << 30),
            environment,
        )
        process = self.forks.Process(target=driver.main, args=arguments)
        process.start()
        return process

    def _finish(self, process: ForkServerProcess, seconds: float) -> int:
        """Its exit code; after so long it is killed."""
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        assert code is not None
        return code

    def _log(self) -> Path:
        return self.folder / "processes.log"

    def _add_workload(self) -> None:
        name = f"w{len(self.texts):02d}"
        self.texts[name] = {f"n{n}": f"{name} note {n}" for n in range(RECORDS)}
        rows = [{"id": record_id, "text": text} for record_id, text in self.texts[name].items()]
        data = write_dataset(self.folder / f"{name}.jsonl", rows)
        fields = attributes(
            name=name, dataset={"path": str(data), "id": "id"}, chunk={"requests": CHUNK}, lane="realtime",
            budget_usd=self.budget_usd,
        )  # fmt: skip
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}))

    # -- what must be true ---------------------------------------------------------------------------

    def _check(self) -> None:
        figures = self.figures
        lines = [orjson.loads(line) for piece in self.simulator.invoice_lines() for line in piece.splitlines()]
        billed = [line for line in lines if line["billed"]]
        figures.records = sum(map(len, self.texts.values()))
        figures.billed = len(billed)
        figures.cost_usd = sum((Decimal(line["cost_usd"]) for line in billed), Decimal(0))
        with Ledger.open(None, path=self.home.ledger) as ledger:
            chunks = [chunk for name in ledger.workloads() for chunk in ledger.chunks(name)]
        self._check_ledger(chunks)
        self._check_delivered()
        most = figures.records + figures.killed * IN_FLIGHT
        if figures.billed > most:
            figures.wrong.append(f"{figures.billed} requests were billed, which is more than {most}")
        if figures.lost < figures.billed - figures.records:
            figures.wrong.append(f"{figures.billed - figures.records} were paid twice, but {figures.lost} are told of")

    def _check_ledger(self, chunks: list[ChunkRow]) -> None:
        figures = self.figures
        figures.lost = sum(chunk.lost for chunk in chunks)
        spent = sum((chunk.cost_units or 0) + (chunk.kept_units or 0) for chunk in chunks)
        figures.committed_usd = Decimal(spent) / UNITS_PER_USD
        if figures.committed_usd < figures.cost_usd:
            figures.wrong.append(f"{figures.cost_usd} USD were billed, but only {figures.committed_usd} are committed")
        if left := [chunk.partition_key for chunk in chunks if chunk.state is not ChunkState.DONE]:
            figures.wrong.append(f"{len(left)} chunks are not done, as {left[0]}")

    def _check_delivered(self) -> None:
        with duckdb.connect(str(self.home.warehouse.resolve()), read_only=True) as duck:
            for name, texts in self.texts.items():
                rows = duck.execute(f"SELECT record_id, outcome, answer FROM {name}.results").fetchall()
                if len(rows) != len(texts) or {row[0] for row in rows} != texts.keys():
                    self.figures.wrong.append(f"{name}: {len(rows)} rows for {len(texts)} records")
                answers = {record_id: answer or "" for record_id, outcome, answer in rows if outcome == "succeeded"}
                right = sum(answers.get(id_, "").startswith(token_of(f"Sort: {text}")) for id_, text in texts.items())
                self.figures.answered += right
                if right != len(texts):
                    self.figures.wrong.append(f"{name}: {len(texts) - right} records have no answer, or another's")


def run_storm(folder: Path, seed: int, *, kills: int) -> Figures:
    """So many kills from a seed. Real processes: the same seed gives the same plan, not the same course."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(Options(tier=TIER, message_seconds=MESSAGE_SECONDS, seed=seed)) as simulator:
        storm = Storm(make_forks(driver.__name__), folder, simulator, Random(f"realtime:{seed}"))
        storm.home.root.mkdir()
        return storm.run(kills)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.kills.realtime", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="processes to kill (50)")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn (1)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    figures = run_storm(folder, arguments.seed, kills=arguments.kills)
    print(figures.table())
    if figures.wrong:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
