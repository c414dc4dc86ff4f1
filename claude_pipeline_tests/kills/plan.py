"""What a seed asks for: workloads, faults of the API, and the fate of each process. Pure: chance comes in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import claude_pipeline

AT_RANDOM = "at a random instant"
LATE_SECONDS = 0.2  # real: how long after a dropped connection the API may still accept, or hide a batch from its list
SETTLE_SECONDS = 1.0  # the product's patience; must be longer than the API is late
SPEED = 600  # simulated seconds a second
BATCH_SECONDS = (60.0, 300.0)  # simulated
PAUSE_SECONDS = 1.5  # longer than the product's patience: a paused process is not a dead one
CHUNK = 8
# Each with the share of calls it strikes. What is dropped or answered oddly may have been accepted.
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "lost_after", "endpoint": "create", "probability": 0.25},
    {"kind": "reset_before", "endpoint": "create", "probability": 0.15},
    {"kind": "accept_late", "seconds": LATE_SECONDS, "probability": 0.15},
    {"kind": 500, "endpoint": "create", "accepted": True, "probability": 0.15},
    {"kind": 529, "endpoint": "create", "probability": 0.15},
    {"kind": 429, "endpoint": "create", "retry_after": 0.1, "probability": 0.2},
    {"kind": "bad_body", "endpoint": "create", "form": "html", "probability": 0.1},
    {"kind": "bad_body", "endpoint": "create", "form": "no_id", "probability": 0.1},
    {"kind": "hang_after", "endpoint": "create", "seconds": 0.3, "probability": 0.2},
    {"kind": "list_lag", "seconds": LATE_SECONDS * SPEED, "probability": 0.3},
    {"kind": "line_error", "share": 0.15, "attempts": 1},
    {"kind": 500, "endpoint": "list", "probability": 0.15},
    {"kind": 404, "endpoint": "list", "probability": 0.1},
    {"kind": "empty_list", "probability": 0.1},
    {"kind": "short_list", "probability": 0.15},
    {"kind": "reset_before", "endpoint": "list", "probability": 0.1},
    {"kind": "other_workspace", "endpoint": "list", "after": 10, "probability": 0.05},
    {"kind": 404, "endpoint": "retrieve", "probability": 0.3},
    {"kind": "cut_results", "share": 0.5, "probability": 0.25},
    {"kind": "cut_results", "share": 0.5, "form": "clean", "probability": 0.2},
    {"kind": "empty_results", "probability": 0.15},
    {"kind": "missing_lines", "share": 0.2, "probability": 0.15},
    {"kind": "duplicate_lines", "share": 0.2, "probability": 0.15},
    {"kind": 404, "endpoint": "results", "probability": 0.15},
)
FAULTS_LEAST, FAULTS_MOST = 4, 9
NOT_PASSED = {"prune.before_params"}  # a person's command, which no driver gives
IN_REAL_TIME = ("ask.", "journal.", "close.")  # points of the real-time lane begin so


@cache
def all_points() -> frozenset[str]:
    """Every crash point that a driver passes, read from the product's code."""
    files = sorted(Path(claude_pipeline.__file__).parent.rglob("*.py"))
    pattern = re.compile(r'crash_point\("([a-z_.]+)"\)')
    return frozenset(name for file in files for name in pattern.findall(file.read_text(encoding="utf-8"))) - NOT_PASSED


def points() -> tuple[str, ...]:
    """Those that a process passes which sends batches."""
    return tuple(sorted(name for name in all_points() if not name.startswith(IN_REAL_TIME)))


def realtime_points() -> tuple[str, ...]:
    """Those that a process passes while it asks in real time."""
    asking = {name for name in all_points() if name.startswith(IN_REAL_TIME)}
    return tuple(sorted({*asking, "chunk_collected.before_commit"}))


@dataclass(frozen=True)
class Fate:
    """How one process is to end: at a crash point, or by a signal from outside after `seconds`, if it still lives."""

    crash_at: str = ""
    seconds: float | None = None
    pause_at: float | None = None  # stopped then, for PAUSE_SECONDS


CALM = Fate()


def draw_fate(chance: Random, killed: Mapping[str, int]) -> Fate:
    """Two of three processes die at a point, rather at those where few died so far."""
    pause_at = chance.uniform(0.05, 1.0) if chance.random() < 0.1 else None
    if chance.random() < 1 / 3:
        return Fate(seconds=chance.uniform(0.02, 2.0), pause_at=pause_at)
    names = points()
    name = chance.choices(names, [1 / (1 + killed.get(name, 0)) for name in names])[0]
    nth = chance.choices((1, 2, 3), (6, 2, 1))[0]
    return Fate(crash_at=f"{name}:{nth}", seconds=chance.uniform(15.0, 30.0), pause_at=pause_at)


def draw_faults(chance: Random) -> list[dict[str, Any]]:
    """Rules for one pool."""
    chosen = chance.sample(FAULTS, chance.randint(FAULTS_LEAST, FAULTS_MOST))
    return [{**rule, "seed": chance.randrange(1 << 30)} for rule in chosen]


def draw_size(chance: Random) -> tuple[int, int]:
    """Records of a workload, and how many of them ask what another one asks."""
    return chance.randint(CHUNK, 5 * CHUNK), chance.randint(0, 3)
