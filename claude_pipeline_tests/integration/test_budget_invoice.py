"""With a wall of X the simulator's invoice never exceeds X: whatever fails, whoever dies, however many run at once."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.controller import decide, survey
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload
from claude_pipeline_tests import drive
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import attributes, note, prepared_snapshot, workload_over, write_dataset
from claude_pipeline_tests.forks import Forks, driven, log_of, make_forks

WALLS = ("budget_usd", "budget_usd_per_day", "CLAUDE_PIPELINE_BUDGET_USD")
# Each wall meets six kinds of weather; three of them in every run of the tests.
SEEDS = [pytest.param(seed, marks=[pytest.mark.long] if seed >= 9 else []) for seed in range(18)]
STEPS = 40
STEP_SECONDS = 45
FAULTS: list[dict[str, Any]] = [
    {"kind": "lost_after", "endpoint": "create"},
    {"kind": "reset_before", "endpoint": "create"},
    {"kind": "500", "endpoint": "create", "accepted": True},
    {"kind": "accept_late", "endpoint": "create", "seconds": 0.01},
    {"kind": "429", "endpoint": "create", "retry_after": 7},
    {"kind": "bad_body", "endpoint": "create", "form": "no_id"},
    {"kind": "low_credit", "share": 0.3},
    {"kind": "line_error", "share": 0.5},
    {"kind": "expire", "share": 0.5},
    {"kind": "line_answer", "form": "no_usage", "share": 0.4},
    {"kind": "line_answer", "form": "max_tokens", "share": 0.4},
    {"kind": "malformed_lines", "share": 0.3},
    {"kind": "cut_results", "share": 0.5, "form": "clean"},
    {"kind": "short_list", "endpoint": "list"},
    {"kind": "early_404"},
]


def billed_usd(simulator: Simulator) -> float:
    """As if every batch had ended: what it is charged is known to the simulator from the start."""
    simulator.clock.advance(25 * 3600)
    return float(simulator.invoice()["total_usd"])


@pytest.mark.parametrize("seed", SEEDS)
def test_no_fault_makes_the_invoice_exceed_the_wall(
    desk: Desk, simulator: Simulator, clock: MovableClock, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    fields = {"cache": "auto", "system": "Rules. " * 400} if dice.random() < 0.5 else {}
    workload = workload_over(tmp_path, [note(n) for n in range(40)], **fields)
    most = max(chunk.reserve_units for chunk in prepared_snapshot(desk, workload).chunks)
    wall = most * dice.uniform(0.5, 2.5) / UNITS_PER_USD
    desk, workload = walled(desk, workload, WALLS[seed % len(WALLS)], wall)
    for fault in dice.sample(FAULTS, 4):
        simulator.faults.add(**fault, count=dice.randint(1, 3), after=dice.randint(0, 2))
    for _ in range(STEPS):
        with suppress(ClaudePipelineError):  # it stops, and is started again
            drive.look_once(desk)
            for action in decide(survey(desk, workload)):
                drive.act(desk, workload, action)
        simulator.clock.advance(STEP_SECONDS)
        clock.advance(STEP_SECONDS)
        if survey(desk, workload).at_rest:
            break
    assert 0 <= billed_usd(simulator) <= wall


def walled(desk: Desk, workload: Workload, name: str, usd: float) -> tuple[Desk, Workload]:
    if name in Workload.model_fields:
        return desk, workload.model_copy(update={name: usd})
    return replace(desk, settings=replace(desk.settings, budget_usd=usd)), workload


# Processes of their own, at a simulator whose clock runs.


@pytest.fixture(scope="module")
def forks() -> Forks:
    return make_forks()


@pytest.fixture(scope="module")
def fast_simulator() -> Iterator[Simulator]:
    """Ten simulated minutes a second: a batch takes a tenth of a real one."""
    with running(Options(speed=600, batch_seconds=(30, 60), seed=3)) as simulator:
        yield simulator


@pytest.fixture
def file(tmp_path: Path, desk: Desk, fast_simulator: Simulator) -> tuple[Path, float]:
    """A workload of sixty records in six chunks, and its wall: room for one chunk and a half."""
    fast_simulator.reset()
    write_dataset(tmp_path / "notes.jsonl", [note(n) for n in range(10, 70)])
    fields = attributes(dataset={"path": str(tmp_path / "notes.jsonl"), "id": "id"})
    chunk = prepared_snapshot(desk, Workload.from_attributes(fields)).chunks[0]
    wall = 1.5 * chunk.reserve_units / UNITS_PER_USD
    file = tmp_path / "notes.yaml"
    workload = {"type": "claude_pipeline.ClaudeWorkload", "attributes": {**fields, "budget_usd": wall}}
    file.write_text(yaml.safe_dump(workload))
    return file, wall


def start(forks: Forks, simulator: Simulator, file: Path, home: Path, crash_at: str = "") -> Any:
    """A process that drives the workload to its end, or to its wall."""
    environment = {
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": simulator.api_key,
        "CLAUDE_PIPELINE_SETTLE_SECONDS": "0.2",
        "CLAUDE_PIPELINE_CRASH_AT": crash_at,
    }
    child = forks.Process(target=driven, args=(str(file), str(home), environment))
    child.start()
    return child


KILLED = [
    "submit.before_intent:2",
    "submit.after_intent:2",
    "submit.after_post",
    "submit.after_post:2",
    "intent_live.before_commit",
    "collect.before_record",
    "chunk_collected.before_commit",
]


@pytest.mark.parametrize("point", KILLED)
def test_no_crash_makes_the_invoice_exceed_the_wall(
    forks: Forks, fast_simulator: Simulator, file: tuple[Path, float], tmp_path: Path, point: str
) -> None:
    workload, wall = file
    home = tmp_path / "crashing"
    ends = []
    for crash_at in (point, point, ""):
        child = start(forks, fast_simulator, workload, home, crash_at)
        child.join(60)
        ends.append(child.exitcode)
    # The second may meet the wall before it comes to the point.
    assert (ends[0], ends[2]) == (-signal.SIGKILL, 0), log_of(home).read_text()
    assert 0 < billed_usd(fast_simulator) <= wall
    assert fast_simulator.invoice()["billed_twice"] == 0


def test_four_processes_at_once_spend_no_more_than_one(
    forks: Forks, fast_simulator: Simulator, file: tuple[Path, float], tmp_path: Path
) -> None:
    workload, wall = file
    home = tmp_path / "parallel"
    children = [start(forks, fast_simulator, workload, home) for _ in range(4)]
    for child in children:
        child.join(90)
    log = log_of(home).read_text()
    assert any(child.exitcode == 0 for child in children), log  # one that another overtook may end with that sentence
    assert all("Error" not in line or "LedgerError" in line for line in log.splitlines()), log
    assert 0 < billed_usd(fast_simulator) <= wall
    assert fast_simulator.invoice()["billed_twice"] == 0
