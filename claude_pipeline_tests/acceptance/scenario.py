"""Seven ways to be interrupted between a create and its results, and what must be true after each.

A scenario says what the API does, at which moment the process is killed, and what the API does when
it is started again. The same seven are run through the command line and through Dagster's daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb
import yaml

from claude_pipeline.home import Home
from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.factory import attributes, note, token_of, write_dataset

RECORDS = 1_000
CHUNK = 250
CHUNKS = RECORDS // CHUNK
PATIENCE_SECONDS = 120
Fault = dict[str, Any]


class Moment(StrEnum):
    """When the process is killed."""

    NEVER = "never"
    RUNNING = "every batch is in progress"
    CREATING = "a create was accepted and its answer is on its way"


@dataclass(frozen=True)
class Scenario:
    """`faults` strike from the start, `faults_again` from the restart on; each must have struck at the end."""

    name: str
    killed: Moment = Moment.NEVER
    faults: tuple[Fault, ...] = ()
    faults_again: tuple[Fault, ...] = ()
    lines_fail: bool = False  # some lines come back errored: asked again, and not billed the first time


def missing_at_first(after: int = 0) -> tuple[Fault, ...]:
    """Of the looks after the first `after` lists one finds no API, the next none of our batches."""
    return (
        {"kind": 404, "endpoint": "list", "after": after, "count": 1},
        {"kind": "empty_list", "after": after + 1, "count": 1},
        {"kind": 404, "endpoint": "retrieve", "count": 1},
    )


# Each create is preceded by one list call, for its watermark; looks come after those.
SCENARIOS = (
    Scenario("killed-while-a-batch-runs", Moment.RUNNING),
    Scenario("killed-while-a-batch-runs-and-not-found-after", Moment.RUNNING, faults_again=missing_at_first()),
    Scenario(
        "killed-while-the-create-is-in-flight",
        Moment.CREATING,
        faults=({"kind": "hang_after", "endpoint": "create", "after": 1, "count": 1, "seconds": 5.0},),
    ),
    Scenario(
        "create-accepted-and-dropped", faults=({"kind": "lost_after", "endpoint": "create", "after": 1, "count": 1},)
    ),
    Scenario("six-polls-answer-500", faults=({"kind": 500, "endpoint": "list", "after": CHUNKS, "count": 6},)),
    Scenario("first-poll-not-found", faults=missing_at_first(after=CHUNKS)),
    Scenario("lines-errored-once", faults=({"kind": "line_error", "share": 0.05, "attempts": 1},), lines_fail=True),
)


def write_workload(folder: Path, name: str, **changes: Any) -> Path:
    """A workload of 1,000 records in four chunks; no other one asks what it asks."""
    rows = [note(n, f"{name} {n}") for n in range(RECORDS)]
    data = write_dataset(folder / name / "notes.jsonl", rows)
    fields = attributes(name=name, dataset={"path": str(data), "id": "id"}, chunk={"requests": CHUNK}) | changes
    file = folder / name / "defs.yaml"
    file.write_text(yaml.safe_dump({"type": "claude_pipeline.ClaudeWorkload", "attributes": fields}), encoding="utf-8")
    return file


def struck(simulator: Simulator) -> list[tuple[str, int, int | None]]:
    """Each rule's kind, how often it struck, and how often it was to."""
    return [(rule["kind"], rule["struck"], rule.get("count")) for rule in simulator.faults.as_json()]


def wait_for(moment: Moment, simulator: Simulator, what: str, *, ended: Callable[[], bool]) -> None:
    """Until the moment has come, or what it is waited for in has ended by itself."""
    match moment:
        case Moment.NEVER:
            return
        case Moment.RUNNING:
            until(lambda: _batches(simulator) == CHUNKS or ended(), what)
            looks = _looks(simulator)  # the next one comes when the last create is recorded
            until(lambda: _looks(simulator) > looks or ended(), what)
        case Moment.CREATING:
            until(
                lambda: (_batches(simulator) == 2 and ("hang_after", 1, 1) in struck(simulator)) or ended(),
                what,
            )


def _batches(simulator: Simulator) -> int:
    found: int = simulator.invoice()["batches"]
    return found


def _looks(simulator: Simulator) -> int:
    found: int = simulator.invoice()["calls"].get("list", {}).get("200", 0)
    return found


def until(happened: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS, pause: float = 0.05) -> Any:
    """Real processes have no clock to move: look until it happened."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(pause)  # real processes: no clock to move
    raise AssertionError(f"did not happen in {seconds} s: {what}")


def delivered(home: Home, name: str) -> list[tuple[str, str, str, str | None]]:
    """What the published warehouse says of each record; empty before there is a version with the workload."""
    if not home.warehouse.exists():
        return []
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        try:
            return duck.execute(f'SELECT record_id, text, outcome, answer FROM "{name}".results').fetchall()
        except duckdb.CatalogException:
            return []


def check_delivered(home: Home, name: str) -> None:
    """Each record once, with the answer to its own question."""
    rows = delivered(home, name)
    assert sorted(row[0] for row in rows) == sorted(f"n{n}" for n in range(RECORDS))
    wrong = [row for row in rows if row[2] != "succeeded" or not (row[3] or "").startswith(token_of(f"Sort: {row[1]}"))]
    assert wrong == []
