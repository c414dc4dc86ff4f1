"""A published warehouse with every outcome, for the tests of what analysts see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from claude_pipeline.catalog import load
from claude_pipeline.home import Home
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Simulator
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, SETTLE_SECONDS, MovableClock
from claude_pipeline_tests.factory import note, workload_over

OUTPUT = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["billing", "other"], "description": "Which team answers"},
        "score": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"type": "string"}},
        "money": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
    },
    "required": ["queue", "score", "parts", "money"],
}


def run(desk: Desk, workload: Workload, simulator: Simulator, partition: str = drive.PARTITION) -> None:
    def wait() -> None:
        simulator.clock.advance(BATCH_SECONDS)
        if isinstance(desk.clock, MovableClock):
            desk.clock.advance(BATCH_SECONDS)

    drive.run(desk, workload, wait, partition=partition)


def publish_every_outcome(desk: Desk, simulator: Simulator, folder: Path) -> Workload:
    """Twelve records: answered and dead ones, one rejected, one duplicate."""
    simulator.faults.add(kind="line_error", share=0.4, error_type="invalid_request_error", message="too odd")
    rows = [{**note(n), "stars": n, "model": "T"} for n in range(10)]
    rows += [{**note(10, None), "stars": 1, "model": "T"}, {**note(11, "note 0"), "stars": 2, "model": "T"}]
    workload = workload_over(
        folder, rows, output=OUTPUT, labels="model", score="score > 0", max_reject_ratio=0.2, max_tokens=200
    )
    run(desk, workload, simulator)
    return workload


@contextmanager
def desk_over(home: Home, client: BatchClient) -> Iterator[Desk]:
    """A desk in a home that outlives one test; nothing is asked in real time."""
    with Ledger.open(None, path=home.ledger) as ledger:
        yield Desk(Settings(home, settle_seconds=SETTLE_SECONDS), ledger, load(), client, MovableClock())


def publish_for_many(simulator: Simulator, client: BatchClient, folder: Path) -> Home:
    """A home with every outcome published, for all tests of a module. Its views name their files by whole paths: it
    is read where it is, or put there again."""
    home = Home(folder / "home")
    home.root.mkdir()
    simulator.reset()
    with desk_over(home, client) as desk:
        publish_every_outcome(desk, simulator, folder)
    return home


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """As an analyst opens it."""
    with duckdb.connect(str(path.resolve()), read_only=True) as duck:
        duck.execute("SET TimeZone = 'UTC'")
        yield duck


def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with opened(path) as duck:
        return duck.execute(sql).fetchall()
