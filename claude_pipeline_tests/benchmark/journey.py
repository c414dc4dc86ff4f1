"""The product's whole journey without Dagster, with the CPU of each stage.

    python -m claude_pipeline_tests.benchmark.journey WORKLOAD.yaml HOME

load, render (with fingerprint and plan file), cut, submit, download, collect (parse, keep, join), merge, publish: a stage
ends at the last of its crash points, of which a test in the same process is told. Collecting several batches side
by side blurs the border between download and collect; their sum holds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

# The stage that is being done when a crash point is passed.
STAGE_OF = {
    "prepare.after_snapshot": "load",
    "prepare.after_plan": "render",
    "prepare.after_chunks": "cut",
    "submit.before_intent": "submit",
    "submit.after_intent": "submit",
    "submit.after_post": "submit",
    "submit.after_record": "submit",
    "intent_live.before_commit": "submit",
    "poll.after": "poll",
    "collect.after_download": "download",
    "collect.before_record": "collect",
    "collect.after_record": "collect",
    "chunk_collected.before_commit": "collect",
    "finalize.before_record": "merge",
    "finalize.after_record": "merge",
    "publish.before_switch": "publish",
    "publish.before_record": "publish",
}
POLL_SECONDS = 0.05


def run(workload_file: Path, home: Path, note: Callable[[str], None] = lambda stage: None) -> int:
    """Bring a workload to rest; returns how many records of its newest snapshot succeeded."""
    from claude_pipeline.garbage import no_search, seldom_search

    with no_search():  # as the command line and the code location do
        from claude_pipeline import crash
        from claude_pipeline.settings import Settings
        from claude_pipeline.stage.desk import open_desk
        from claude_pipeline.workload_file import read_workload
        from claude_pipeline_tests import drive

    settings = Settings.from_environment().with_home(home)
    workload = read_workload(workload_file)
    note("start")
    told = crash.told(lambda point: note(STAGE_OF.get(point, point)))
    with open_desk(settings) as desk, told, seldom_search():  # as a run has it
        drive.run(desk, workload, lambda: time.sleep(POLL_SECONDS))  # the API is a real process: no clock to move
        snapshot = desk.ledger.snapshots(workload.name)[-1]
    note("publish")
    return snapshot.succeeded or 0


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), Path(sys.argv[2])))
