"""A year of nightly snapshots: what the home and a look of the controller grow to.

    python -m claude_pipeline_tests.benchmark.year [--nights 365] [--records 1000] [--changed 30]

Each night some records have changed; the night's snapshot asks only those, and is merged, published
and pruned. Both clocks are moved by hand, so that a year takes minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from claude_pipeline.catalog import load
from claude_pipeline.controller import decide, survey
from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger
from claude_pipeline.settings import Settings
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prune import prune
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import MovableClock, client_of
from claude_pipeline_tests.factory import note, workload_over

FIRST_NIGHT = datetime(2026, 11, 22, 2, tzinfo=UTC)
FOLDERS = ("chunks", "downloads", "merged", "results", "snapshots", "warehouse", "ledger.db")


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--nights", type=int, default=365)
    options.add_argument("--records", type=int, default=1_000)
    options.add_argument("--changed", type=int, default=30, help="records that change each night")
    chosen = options.parse_args()
    clock = MovableClock(FIRST_NIGHT)
    started = time.perf_counter()
    with opened_desk(clock) as (desk, simulator):
        print(f"{'night':>6} {'requests':>9} {'look ms':>8} {'night s':>8}  MB on disk: {', '.join(FOLDERS)}")
        for number in range(chosen.nights):
            seconds = night(desk, simulator, clock, number, chosen.records, chosen.changed)
            if number + 1 in {1, 30, 90, 180, 365, chosen.nights}:
                print(row(desk, number + 1, seconds), flush=True)
        billed = simulator.invoice()
        print(f"billed {billed['billed_requests']:,} requests, {billed['billed_twice']} twice; "
              f"{time.perf_counter() - started:.0f} s in all")  # fmt: skip


@contextmanager
def opened_desk(clock: MovableClock) -> Iterator[tuple[Desk, Simulator]]:
    with tempfile.TemporaryDirectory() as folder, running(Options(paused=True, batch_seconds=(60, 60))) as simulator:
        home = Home(Path(folder) / "home")
        home.root.mkdir()
        with Ledger.open(None, path=home.ledger) as ledger:
            client = client_of(simulator)
            yield Desk(Settings(home), ledger, load(), client, clock), simulator
            client.close()


def night(desk: Desk, simulator: Simulator, clock: MovableClock, number: int, records: int, changed: int) -> float:
    """One night of the schedule; returns its wall-clock seconds."""
    began = time.perf_counter()
    asked = number * changed  # record n has changed as often as the moving window has passed over it
    rows = [note(n, text=f"note {n}, version {(asked + records - 1 - n) // records}") for n in range(records)]
    workload = workload_over(desk.home.root.parent, rows, chunk={"requests": 500})
    drive.run(desk, workload, lambda: simulator.clock.advance(60), partition=f"{clock():%Y-%m-%d}")
    prune(desk, [workload])
    clock.advance(timedelta(days=1).total_seconds())
    simulator.clock.advance(timedelta(days=1).total_seconds())
    return time.perf_counter() - began


def row(desk: Desk, number: int, seconds: float) -> str:
    workload = workload_over(desk.home.root.parent / "again", [note(1)])
    began = time.perf_counter()
    decide(survey(desk, workload))
    look = time.perf_counter() - began
    requests = sum(chunk.requests for chunk in desk.ledger.chunks("notes"))
    sizes = ", ".join(f"{size_of(desk.home.root / folder) / 1e6:.1f}" for folder in FOLDERS)
    return f"{number:>6} {requests:>9,} {look * 1000:>8.1f} {seconds:>8.2f}  {sizes}"


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
