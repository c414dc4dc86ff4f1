"""The product under a seeded scheduler: 200 storms, each with crashes, pauses and an API that lies.

`make seeds` plays 10,000. A seed that fails says how to play it again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import claude_pipeline
from claude_pipeline_tests.simulation.seeds import Theatre, Total, theatre

SEEDS = 120  # `make seeds` plays ten thousand
ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(claude_pipeline.__file__).parent
# Every point of these stages is one that a crash in the storm must have met.
STAGES = ("submit", "reconcile", "poll", "collect", "intent_live", "chunk_collected")
POINTS = sorted(
    name
    for file in PACKAGE.rglob("*.py")
    for name in re.findall(r'crash_point\("([a-z_.]+)"\)', file.read_text(encoding="utf-8"))
    if name.partition(".")[0] in STAGES
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Theatre]:
    with theatre() as stage:
        yield stage


@pytest.fixture(scope="module")
def total(stage: Theatre) -> Total:
    """All seeds, played once."""
    return stage.play_all(range(SEEDS))


def test_no_seed_pays_twice_loses_a_row_or_never_ends(total: Total) -> None:
    assert not total.failed, "\n\n".join(played.report() for played in total.failed[:3])
    assert total.seeds == SEEDS


@pytest.mark.parametrize("point", POINTS)
def test_processes_died_at_every_named_point(total: Total, point: str) -> None:
    assert total.figures.died_at[point] > 0, f"passed {total.figures.passed[point]} times"


@pytest.mark.parametrize(
    "fault",
    [
        "create: lost after accept", "create: 500 after accept", "create: accepted late", "create: reset before",
        "create: 429", "create: 400", "create: connection refused", "create: answer is cut",
        "list: list empty", "list: list short", "list: 500", "list: other workspace", "list: answer is cut",
        "retrieve: 404", "retrieve: 500", "results: results cut", "results: results empty", "results: lines twice",
        "results: lines missing", "results: other workspace", "ledger: locked",
    ],
)  # fmt: skip
def test_every_fault_struck(total: Total, fault: str) -> None:
    assert total.figures.faults[fault] > 0


def test_the_storms_were_storms(total: Total) -> None:
    counts = total.figures.counts
    assert min(counts["crashes"], counts["pauses"], counts["foreign batches"]) > 2 * SEEDS


def test_a_seed_plays_the_same_again(stage: Theatre) -> None:
    assert stage.play(7).trace == stage.play(7).trace


def test_a_seed_plays_the_same_in_another_process(stage: Theatre) -> None:
    command = [sys.executable, "-m", "claude_pipeline_tests.simulation", "--seed", "11"]
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert f"trace {stage.play(11).digest}" in done.stdout
