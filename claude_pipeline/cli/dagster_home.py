"""The Dagster instance under the home, so that the UI shows what the command line ran."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from claude_pipeline.home import Home, make_folder, written
from claude_pipeline.ledger.connection import unhurried
from claude_pipeline.ledger.lock import FileLocks, hold

if TYPE_CHECKING:
    import dagster as dg

# What the product needs of an instance; a user's own dagster.yaml is never overwritten.
DAGSTER_YAML = """\
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  runs: {max_concurrent_runs: 4}
  pools: {granularity: run}
# As Dagster comes, it looks at its queue each 5 s and starts one run after the other, 1.4 s each (2026-11-28).
run_queue: {dequeue_interval_seconds: 1, dequeue_use_threads: true, dequeue_num_workers: 4}
# A host that crashed leaves a run STARTED for ever without this and dagster/max_runtime on runs.
# One that was killed before it started holds its workload up for as long as the start may take.
run_monitoring: {enabled: true, poll_interval_seconds: 20, start_timeout_seconds: 60, free_slots_after_run_end_seconds: 60}
sensors: {use_threads: true, num_workers: 4}
retention:
  sensor: {purge_after_days: {skipped: 7, success: 30}}
"""


def dagster_home(home: Home) -> Path:
    """`$DAGSTER_HOME` where it is set, else the embedded one; its dagster.yaml is made when missing."""
    folder = Path(os.environ.get("DAGSTER_HOME") or home.dagster)
    make_folder(folder)
    if not (folder / "dagster.yaml").exists():
        with written(folder / "dagster.yaml") as temporary:
            temporary.write_text(DAGSTER_YAML, encoding="utf-8")
    return folder


# A run in this process would have its standard error caught into a file, and the terminal with it: progress would
# stand still, and the helpers that catch it would show their stack traces at Ctrl-C. Ops print nothing.
NO_CAPTURE = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}


@contextmanager
def open_instance(home: Home) -> Iterator[dg.DagsterInstance]:
    """The instance for runs in this process.

    What Dagster notes of them is not waited for at the disk: a power loss may take the last of it, and what was done
    stands in the ledger.
    """
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    folder = dagster_home(home)
    with unhurried(folder / "history", folder / "schedules"), revisions_read_once():
        # Two processes that make one instance's databases at once can leave them unusable.
        with hold(FileLocks(home.root / "locks"), "dagster", wait=True):
            instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides=NO_CAPTURE))
        with instance:
            yield instance


@contextmanager
def revisions_read_once() -> Iterator[None]:
    """Alembic keeps what it has read of a storage's revisions, for as long as the `with` lasts.

    Dagster has each run's events in a database of its own, and for each of them reads ninety files twice: 0.07 s CPU
    a run (2026-11-27).
    """
    from alembic.script import ScriptDirectory

    usual = ScriptDirectory.__dict__["from_config"]
    ScriptDirectory.from_config = functools.cache(ScriptDirectory.from_config)  # type: ignore[method-assign]
    try:
        yield
    finally:
        ScriptDirectory.from_config = usual  # type: ignore[method-assign]
