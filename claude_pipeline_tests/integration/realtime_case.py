"""What the tests of the real-time lane share: limits that do not make a test wait, and what both sides count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.catalog import load
from claude_pipeline.lane.waits import Waits
from claude_pipeline.ledger import ChunkRow
from claude_pipeline.simulator import Options, Simulator
from claude_pipeline.stage.ask import Asked, ask
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import BATCH_SECONDS, NOW, MovableClock
from claude_pipeline_tests.factory import asked as rows_of

QUICK = Waits(backoff=0.01, storm=0.02, storm_most=0.1)
TIER = "custom"  # the simulator's highest; the catalogue has no figures for it
FAST = """
tiers:
  custom:
    rates:
      haiku: &fast {requests_per_minute: 100000, input_tokens_per_minute: 100000000, output_tokens_per_minute: 20000000}
      sonnet: *fast
      opus: *fast
"""


def fast_options(**changes: Any) -> Options:
    """A simulator whose clock is moved by hand and whose limits do not make a test wait."""
    usual: dict[str, Any] = {
        "batch_seconds": (BATCH_SECONDS, BATCH_SECONDS),
        "paused": True,
        "start": NOW,
        "seed": 7,
        "tier": TIER,
    }
    return Options(**(usual | changes))


def write_catalog(folder: Path) -> Path:
    """The catalogue's addition that knows those limits."""
    path = folder / "catalog.yaml"
    path.write_text(FAST, encoding="utf-8")
    return path


def fast(desk: Desk, folder: Path, **settings: Any) -> Desk:
    """The desk of an account with high limits, at which hundredths of a second are waited instead of seconds."""
    catalog = load(write_catalog(folder))
    return replace(desk, catalog=catalog, waits=QUICK, settings=replace(desk.settings, tier=TIER, **settings))


def to_rest(desk: Desk, workload: Workload, simulator: Simulator, clock: MovableClock, *, seconds: float = 60) -> None:
    """All that is left to do; both clocks move where nothing can be done now."""

    def wait() -> None:
        simulator.clock.advance(seconds)
        clock.advance(seconds)

    assert drive.carry_on(desk, workload, wait).at_rest


def ask_now(desk: Desk, workload: Workload, *, seconds: float = 60.0) -> Asked:
    """One session."""
    return ask(desk, workload, walls(desk, workload), seconds=seconds)


def chunks_of(desk: Desk, name: str = "notes") -> list[ChunkRow]:
    return desk.ledger.chunks(name)


def bill(simulator: Simulator) -> tuple[int, int]:
    """Requests billed, and those of them that were billed before."""
    invoice = simulator.invoice()
    return invoice["billed_requests"], invoice["billed_twice"]


def check_cost(desk: Desk, simulator: Simulator) -> None:
    """The published warehouse names the invoice's cost, each request and each batch of it."""
    invoice = simulator.invoice()
    requests, cost = rows_of(desk, "SELECT sum(requests), sum(cost_usd) FROM ops.costs")[0]
    assert requests == invoice["billed_requests"]
    assert cost == pytest.approx(float(invoice["total_usd"]), abs=1e-9)
    cost = rows_of(desk, "SELECT sum(cost_usd) FROM notes.attempts")[0][0]
    assert cost == pytest.approx(float(invoice["total_usd"]), abs=1e-9)


def check_delivered(desk: Desk, records: int, name: str = "notes") -> None:
    """Each record is there once, answered."""
    sql = f"SELECT count(*), count(DISTINCT record_id), count(*) FILTER (outcome = 'succeeded') FROM {name}.latest"
    assert rows_of(desk, sql) == [(records, records, records)]
