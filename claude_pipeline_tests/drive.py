"""Bring a workload to rest by the controller's decisions and the stages alone, without Dagster.

    python -m claude_pipeline_tests.drive WORKLOAD.yaml HOME

does so in a process of its own, which a test may have killed at a crash point.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from claude_pipeline.controller import Action, Kind, Situation, decide, survey
from claude_pipeline.errors import ApiRefused, ApiUnclear
from claude_pipeline.settings import Settings
from claude_pipeline.stage.ask import ask
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk, open_desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.stage.publish import publish
from claude_pipeline.stage.submit import plan_submission, send, settle, walls
from claude_pipeline.workload import Workload
from claude_pipeline.workload_file import read_workload

PARTITION = "2026-11-22"
LOOKS_MAX = 400
POLL_SECONDS = 0.05


def run(
    desk: Desk, workload: Workload, wait: Callable[[], None], *, partition: str = PARTITION, publishes: bool = True
) -> Situation:
    """Prepare a snapshot, then carry on until nothing is left to do, or nothing but to publish."""
    with desk.ledger.many_reads():
        prepare(desk, workload, partition)
    return carry_on(desk, workload, wait, publishes=publishes)


def carry_on(desk: Desk, workload: Workload, wait: Callable[[], None], *, publishes: bool = True) -> Situation:
    """Act on every decision; `wait` when a look changed nothing. Ends at rest or before a wall.

    A test that looks at the warehouse once, after many snapshots, publishes then: that takes a third of a run of a few
    records.
    """
    with desk.ledger.many_reads():  # thousands, of few rows each: to open a connection for each takes longer
        return _carried_on(desk, workload, wait, publishes=publishes)


def _carried_on(desk: Desk, workload: Workload, wait: Callable[[], None], *, publishes: bool) -> Situation:
    before: Situation | None = None
    for _ in range(LOOKS_MAX):
        look_once(desk)
        situation = survey(desk, workload)
        if not publishes:
            situation = replace(situation, unpublished=())
        if situation.at_rest:
            return situation
        actions = decide(situation)
        if not actions and situation.wall is not None:
            return situation
        if situation == before or not actions:
            wait()
        for action in actions:
            act(desk, workload, action, publishes=publishes)
        before = situation
    raise AssertionError(f"not at rest after {LOOKS_MAX} looks: {situation}")


def look_once(desk: Desk) -> None:
    """What a tick of the sensor does first; an unclear answer decides nothing."""
    try:
        settle(desk)
        look(desk)
    except (ApiUnclear, ApiRefused):
        return


def act(desk: Desk, workload: Workload, action: Action, *, publishes: bool = True) -> None:
    match action.kind:
        case Kind.SUBMIT:
            send(desk, workload, plan_submission(desk, workload).chunks)
        case Kind.ASK:
            ask(desk, workload, walls(desk, workload))
        case Kind.COLLECT:
            collect(desk, workload)
        case Kind.FINALIZE:
            assert action.partition is not None
            finalize(desk, workload, action.partition)
            if publishes:
                publish(desk)


def main(file: str, folder: str) -> None:
    settings = Settings.from_environment().with_home(Path(folder))
    with open_desk(settings) as desk:
        workload = read_workload(Path(file))
        run(desk, workload, lambda: time.sleep(POLL_SECONDS))  # a process of its own, killed by tests: no clock to move


if __name__ == "__main__":
    main(*sys.argv[1:])
