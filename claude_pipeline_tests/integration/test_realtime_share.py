"""Several processes at one account's limits: together they keep to them, and what one leaves the others take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext as Forks
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import orjson
import pytest
import yaml

from claude_pipeline.home import Home
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.ledger import AskingRow, Ledger
from claude_pipeline.ledger.ask_moves import HEARTBEAT_SECONDS_MAX
from claude_pipeline.simulator import Simulator, running
from claude_pipeline_tests.conftest import messages_of
from claude_pipeline_tests.factory import attributes, note, write_dataset
from claude_pipeline_tests.integration.realtime_case import TIER, fast_options, write_catalog
from claude_pipeline_tests.kills import driver
from claude_pipeline_tests.kills.pool import make_forks

SHARE = 0.01  # of 100,000 requests a minute
PER_MINUTE = 1_000
RECORDS = 120
Start = Callable[[str, int], ForkServerProcess]


@pytest.fixture(scope="module")
def forks() -> Forks:
    return make_forks()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Its buckets are empty: whoever sends faster than they fill is refused."""
    with running(fast_options(paused=False, start=None)) as simulator:
        simulator.limit(SHARE)
        asyncio.run(drained(simulator))
        yield simulator


async def drained(simulator: Simulator) -> None:
    params = {"model": "claude-haiku-5-5", "max_tokens": 8}
    async with MessageClient(lambda: datetime.now(UTC), connect=messages_of(simulator)) as client:
        for first in range(0, PER_MINUTE, 100):
            bodies = (
                orjson.dumps(params | {"messages": [{"role": "user", "content": f"drain {n}"}]})
                for n in range(first, first + 100)
            )
            await asyncio.gather(*(client.ask(body, 60) for body in bodies))


@pytest.fixture
def start(forks: Forks, simulator: Simulator, tmp_path: Path, ledger_url: str | None) -> Iterator[Start]:
    """A process for a workload of its own, all at one ledger and one home."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_TIER": TIER,
        "CLAUDE_PIPELINE_CATALOG": str(write_catalog(home)),
        "CLAUDE_PIPELINE_LEDGER_URL": ledger_url or "",
    }
    started: list[ForkServerProcess] = []

    def process(name: str, records: int) -> ForkServerProcess:
        folder = tmp_path / name
        data = write_dataset(folder / "notes.jsonl", [note(n, f"{name} {n}") for n in range(records)])
        fields = attributes(
            name=name, dataset={"path": str(data), "id": "id"}, chunk={"requests": 100}, lane="realtime", max_tokens=16
        )
        document = {"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}
        (folder / "defs.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        arguments = (str(folder), str(home), str(tmp_path / f"{name}.log"), 1, environment)
        child = forks.Process(target=driver.main, args=arguments)
        child.start()
        started.append(child)
        return child

    yield process
    for child in started:
        if child.exitcode is None:
            child.kill()
            child.join()


def calls(simulator: Simulator) -> dict[str, int]:
    found: dict[str, int] = simulator.invoice()["calls"].get("messages", {})
    return found


def asking(tmp_path: Path, ledger_url: str | None) -> list[AskingRow]:
    with Ledger.open(ledger_url, path=Home(tmp_path / "home").ledger) as ledger:
        return ledger.asking(at=datetime.now(UTC))


@pytest.mark.both_databases
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_together_keep_to_the_limits(
    start: Start, simulator: Simulator, tmp_path: Path, processes: int
) -> None:
    before, began = calls(simulator), time.monotonic()
    children = [start(f"w{n}", RECORDS) for n in range(processes)]
    for child in children:
        child.join(120)
    seconds = time.monotonic() - began
    assert [child.exitcode for child in children] == [0] * processes, [
        file.read_text() for file in tmp_path.glob("*.log")
    ]
    after = calls(simulator)
    assert after.get("429", 0) == before.get("429", 0)
    assert after["200"] - before["200"] == processes * RECORDS
    assert simulator.invoice()["billed_twice"] == 0
    assert processes * RECORDS <= PER_MINUTE / 60 * (seconds + 1)


@pytest.mark.long
@pytest.mark.both_databases
def test_the_share_of_a_killed_process_comes_back(
    start: Start, simulator: Simulator, tmp_path: Path, ledger_url: str | None
) -> None:
    children = [start(name, 900) for name in ("left", "right")]
    rates = wait_for(tmp_path, ledger_url, lambda rows: len(rows) == 2 and min(rows) > PER_MINUTE / 4, 60)
    assert max(rates) <= 0.6 * PER_MINUTE
    assert max(rates) < 1.5 * min(rates)
    children[0].kill()
    killed = time.monotonic()
    wait_for(tmp_path, ledger_url, lambda rows: len(rows) == 1 and rows[0] > 0.8 * PER_MINUTE, 60)
    # Its heart must have stopped for so long; then the mean over the last twenty seconds must have risen.
    assert time.monotonic() - killed < HEARTBEAT_SECONDS_MAX + 30
    assert calls(simulator).get("429", 0) == 0


def wait_for(
    tmp_path: Path, ledger_url: str | None, happened: Callable[[list[int]], bool], seconds: float
) -> list[int]:
    """Requests a minute of each process, once that is true of them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rates = [row.requests_per_minute for row in asking(tmp_path, ledger_url)]
        if happened(rates):
            return rates
        time.sleep(0.5)  # real processes: no clock to move
    raise AssertionError(f"did not happen in {seconds} s: {rates}")
