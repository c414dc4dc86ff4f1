"""One process of a pool: drives every workload of a folder to its end by the product's own decisions and stages.

It stands for a daemon, a run worker or a command line: what they share is exactly this.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from claude_pipeline.controller import decide, survey
from claude_pipeline.errors import ClaudePipelineError
from claude_pipeline.settings import Settings
from claude_pipeline.stage.desk import Desk, open_desk
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests.drive import act, look_once

PARTITION = "2026-11-22"
POLL_SECONDS = 0.05
GIVES_UP_SECONDS = 90.0
ASKED_AGAIN = 0.2  # share of prepared workloads that a process prepares once more, as a second schedule tick does
NOT_AT_REST = 5  # exit code


def main(folder: str, home: str, log: str, seed: int, environment: Mapping[str, str]) -> None:
    """Ends with 0 when all is at rest. Its errors go to `log`."""
    os.environ.update(environment)
    with open(log, "a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 2)
    deadline = time.monotonic() + GIVES_UP_SECONDS
    workloads = [read_workload(file) for file in sorted(Path(folder).glob("*.yaml"))]
    chance = Random(seed)
    chance.shuffle(workloads)  # so that processes meet at different places
    with open_desk(Settings.from_environment().with_home(Path(home))) as desk:
        unprepared = [w for w in workloads if not _is_planned(desk, w) or chance.random() < ASKED_AGAIN]
        while time.monotonic() < deadline:
            unprepared = [workload for workload in unprepared if not _prepared(desk, workload)]
            _told(lambda: look_once(desk))
            done = [_carried_on(desk, workload) for workload in workloads]
            if all(done) and not unprepared:
                return
            time.sleep(POLL_SECONDS)  # a process of its own, killed from outside: no clock to move
    sys.exit(NOT_AT_REST)


def _is_planned(desk: Desk, workload: Workload) -> bool:
    return any(snapshot.planned_at is not None for snapshot in desk.ledger.snapshots(workload.name))


def _prepared(desk: Desk, workload: Workload) -> bool:
    return _told(lambda: prepare(desk, workload, PARTITION))


def _carried_on(desk: Desk, workload: Workload) -> bool:
    """Do what can be done; True when nothing is left."""
    situation = survey(desk, workload)
    for action in decide(situation):
        if not _told(lambda action=action: act(desk, workload, action)):
            return False
    return situation.at_rest


def _told(step) -> bool:  # type: ignore[no-untyped-def]
    """Whether the step ended well; an error of ours is told, and the next look tries again, as a daemon does."""
    try:
        step()
    except ClaudePipelineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    return True
