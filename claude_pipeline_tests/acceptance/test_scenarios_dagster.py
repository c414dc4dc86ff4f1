"""The same seven interruptions through Dagster's daemon: the run, the code server, the daemon and all of them killed.

Workloads of 1,000 records share one instance, and meet every disaster together, which saves minutes
and spares none of them anything. They differ in nothing but whether their lines come back errored, so
each run has two sound ones, which are in each other's way, and the one that errs: every disaster
strikes them as it strikes seven, which is the long form. Its six looks in a row that fail are two here:
Dagster lets the sensor look once in five seconds. The simulator's clock stands still until the last
batch is sent, so that all are in progress while looks fail and processes die. What Dagster does not
start again itself is started again, as systemd or a person's `make ui` does; nobody does anything
else.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from claude_pipeline.cli.dagster_dev import DagsterDev
from claude_pipeline.cli.dagster_home import DAGSTER_YAML
from claude_pipeline.home import Home
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.acceptance.scenario import (
    CHUNKS,
    RECORDS,
    SCENARIOS,
    Fault,
    Moment,
    Scenario,
    check_delivered,
    missing_at_first,
    struck,
    until,
    write_workload,
)
from claude_pipeline_tests.factory import token_of

pytestmark = pytest.mark.acceptance
PATIENCE_SECONDS = 240
ERRING_MODEL = "claude-sonnet-5"  # of the workload whose lines come back errored
# An instance that gives up sooner on a run that was killed before it started: else most of the time goes by in waiting for that.
SOONER = {
    "run_monitoring": {
        "enabled": True,
        "poll_interval_seconds": 5,
        "start_timeout_seconds": 20,
        "free_slots_after_run_end_seconds": 15,
    }
}
RUN_WORKER, CODE_SERVER, DAEMON = "multiprocessing.spawn", ("code-server start", "api grpc"), "dagster._daemon"
LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) { __typename
  ... on PythonError { message } } }"""
FEW = tuple(
    scenario
    for scenario in SCENARIOS
    if scenario.killed is Moment.CREATING or scenario.name == "create-accepted-and-dropped" or scenario.lines_fail
)
RUNS = "query { runsOrError { ... on Runs { results { runId jobName status } } } }"


def name_of(scenario: Scenario) -> str:
    return scenario.name.replace("-", "_")


@dataclass(frozen=True)
class Process:
    """One of the machine's processes."""

    pid: int
    session: int
    command: str

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def processes() -> list[Process]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
                command = (folder / "cmdline").read_text().replace("\0", " ")
                found.append(Process(int(folder.name), session, command))
    return found


@dataclass
class Site:
    """Dagster on one home, started again after each disaster."""

    home: Home
    simulator: Simulator
    environment: dict[str, str]
    scenarios: tuple[Scenario, ...]
    stack: ExitStack = field(default_factory=ExitStack)
    dagster: DagsterDev | None = None
    sessions: set[int] = field(default_factory=set)

    def start(self) -> None:
        self.dagster = self.stack.enter_context(DagsterDev(self.home, environment=self.environment))
        self.dagster.wait_until_ready()
        own = f"dagster dev -h 127.0.0.1 -p {self.dagster.port} "
        self.sessions |= {process.session for process in processes() if own in process.command}

    def stop(self) -> None:
        """And whatever a killed parent left behind."""
        self.stack.close()
        self.kill("")

    def kill(self, *parts: str) -> list[Process]:
        """SIGKILL what this site started and whose command has one of the parts."""
        meant = [p for p in processes() if p.session in self.sessions and any(part in p.command for part in parts)]
        for process in meant:
            process.kill()
        return meant

    def launch(self, name: str) -> None:
        """A snapshot of a workload, as a schedule's tick asks for it."""
        assert self.dagster is not None
        selector = {
            "repositoryLocationName": "claude_pipeline",
            "repositoryName": "__repository__",
            "pipelineName": f"{name}_requests",
        }
        tags = [{"key": "dagster/partition", "value": time.strftime("%Y-%m-%d", time.gmtime())}]
        params = {"selector": selector, "mode": "default", "runConfigData": {}, "executionMetadata": {"tags": tags}}
        answer = self.dagster.ask(LAUNCH, {"p": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer

    def runs(self) -> list[dict[str, str]]:
        assert self.dagster is not None
        found: list[dict[str, str]] = self.dagster.ask(RUNS, {})["runsOrError"]["results"]
        return found

    def batches(self) -> int:
        found: int = self.simulator.invoice()["batches"]
        return found

    def at_rest(self, name: str) -> bool:
        with Ledger.open(None, path=self.home.ledger) as ledger:
            busy = ledger.chunks(name, states=[state for state in ChunkState if state is not ChunkState.DONE])
            return not busy and bool(ledger.merged_parts(name)) and not ledger.unpublished(name)

    def suffer(self, *faults: Fault) -> None:
        """Return when each fault has struck as often as it was to."""
        before = len(struck(self.simulator))
        for fault in faults:
            self.simulator.faults.add(**fault)
        self.until(lambda: all(done == count for _, done, count in struck(self.simulator)[before:]), f"{faults} struck")

    def until(self, happened: Any, what: str) -> None:
        until(happened, what, seconds=PATIENCE_SECONDS, pause=0.5)


def suffer_everything(site: Site) -> None:
    """The course of disasters, all of them for whichever workloads; afterwards nobody does anything."""
    clock = site.simulator.clock
    for scenario in site.scenarios:
        site.launch(name_of(scenario))
    # A create is in flight: kill the run.
    site.suffer({"kind": "hang_after", "endpoint": "create", "after": 1, "count": 1, "seconds": 5.0})
    assert site.kill(RUN_WORKER)
    # A create is accepted, and the connection dropped.
    site.suffer({"kind": "lost_after", "endpoint": "create", "count": 1})
    site.until(lambda: site.batches() == CHUNKS * len(site.scenarios), "every chunk is sent")
    # While all batches run: looks fail, the code server dies, the daemon dies (and dagster dev with it).
    site.suffer({"kind": 500, "endpoint": "list", "count": 6 if site.scenarios == SCENARIOS else 2})
    site.suffer(*missing_at_first())
    assert len(site.kill(*CODE_SERVER)) == 2
    site.suffer(*missing_at_first())
    assert site.kill(DAEMON)
    assert site.dagster is not None
    site.dagster.wait()
    site.start()
    # While results are collected: everything dies at once.
    clock.resume()
    site.until(lambda: any(r["status"] == "STARTED" for r in site.runs()), "a run is under way")
    assert site.kill("")
    site.dagster.wait()
    site.start()


@pytest.fixture(
    scope="module", params=[pytest.param(FEW, id="three"), pytest.param(SCENARIOS, id="seven", marks=pytest.mark.long)]
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    scenarios: tuple[Scenario, ...] = request.param
    root = tmp_path_factory.mktemp("scenarios")
    folder, home = root / "workloads", Home(root / "home")
    for scenario in scenarios:
        changes = {"model": ERRING_MODEL} if scenario.lines_fail else {}
        write_workload(folder, name_of(scenario), **changes)
    home.dagster.mkdir(parents=True)
    (home.dagster / "dagster.yaml").write_text(yaml.safe_dump(yaml.safe_load(DAGSTER_YAML) | SOONER))
    (erring,) = [fault for scenario in scenarios if scenario.lines_fail for fault in scenario.faults]
    options = Options(speed=600, batch_seconds=(60, 180), seed=13, paused=True)
    with running(options) as simulator:
        simulator.faults.add(**erring, model=ERRING_MODEL)
        environment = {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "ANTHROPIC_API_KEY": simulator.api_key,
            "CLAUDE_PIPELINE_DEFS": str(folder),
            "CLAUDE_PIPELINE_TICK_SECONDS": "2",
            "CLAUDE_PIPELINE_SETTLE_SECONDS": "2",
        }
        site = Site(home, simulator, environment, scenarios)
        try:
            site.start()
            suffer_everything(site)
            site.until(lambda: all(site.at_rest(name_of(scenario)) for scenario in scenarios), "all is at rest")
            yield site
        finally:
            site.stop()


def test_each_record_is_billed_and_delivered_once(site: Site, subtests: pytest.Subtests) -> None:
    lines = [orjson.loads(line) for piece in site.simulator.invoice_lines() for line in piece.splitlines()]
    for scenario in site.scenarios:
        with subtests.test(scenario.name):
            check_billed(lines, scenario)
            check_delivered(site.home, name_of(scenario))


def check_billed(lines: list[dict[str, Any]], scenario: Scenario) -> None:
    """Each question once, and where lines erred, those once more for nothing."""
    questions = {token_of(f"Sort: {name_of(scenario)} {n}") for n in range(RECORDS)}
    batches = {line["batch_id"] for line in lines if line["token"] in questions}
    own = [line for line in lines if line["batch_id"] in batches]  # an errored line shows no token
    outcomes = Counter(line["outcome"] for line in own)

    assert outcomes["succeeded"] == RECORDS
    assert {line["token"] for line in own if line["billed"]} == questions
    assert (outcomes["errored"] > 0) == scenario.lines_fail
    assert outcomes.total() == RECORDS + outcomes["errored"]


def test_nothing_is_billed_twice_or_sent_in_vain(site: Site) -> None:
    invoice = site.simulator.invoice()

    assert (invoice["billed_twice"], invoice["billed_requests"]) == (0, RECORDS * len(site.scenarios))
    assert invoice["batches"] == CHUNKS * len(site.scenarios) + 1  # and the errored lines once more


def test_no_run_is_left_as_started(site: Site) -> None:
    ended = {"SUCCESS", "FAILURE"}
    # The last one publishes first and then prunes: it may still be at it.
    site.until(lambda: {run["status"] for run in site.runs()} <= ended, "every run has ended")
