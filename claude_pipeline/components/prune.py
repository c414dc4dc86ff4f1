"""Keep Dagster's own history of a workload within bounds: chunk partitions and the runs that drained the ledger."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from claude_pipeline.components.key import ACTION_TAG, FLAG, WORKLOAD_TAG
from claude_pipeline.controller import Kind
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prune import old_chunks
from claude_pipeline.workload import Workload

PARTITIONS_MAX = 90_000  # Dagster's own guide: at most 100,000 per asset
RUNS_PER_PRUNE = 500  # a few ms each; the rest goes next time
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass
class PrunedHistory:
    """How many partitions and runs went."""

    partitions: int = 0
    runs: int = 0


def prune_history(instance: dg.DagsterInstance, desk: Desk, workload: Workload, days: int | None) -> PrunedHistory:
    """Remove what is older than `days` (None: only what passes Dagster's bounds).

    Chunk partitions of finished snapshots, and the runs of submit, collect and flag; those of requests
    and finalize stay, since they hold the history of the snapshots' assets.
    """
    now, done = desk.clock(), PrunedHistory()
    name = f"{workload.name}_chunks"
    there = instance.get_dynamic_partitions(name)
    finished = list(old_chunks(desk, workload, now))
    past = now - timedelta(days=days) if days is not None else None
    going = [c for c in finished if past is not None and c.moved_at < past]
    excess = len(there) - len(going) - PARTITIONS_MAX
    if excess > 0:
        going += [c for c in finished if c not in going][:excess]
    known = set(there)
    for key in [c.partition_key for c in going if c.partition_key in known]:
        instance.delete_dynamic_partition(name, key)
        done.partitions += 1
    for kind in (Kind.SUBMIT.value, Kind.COLLECT.value, FLAG) if past is not None else ():
        tags = {WORKLOAD_TAG: workload.name, ACTION_TAG: kind}
        filters = dg.RunsFilter(tags=tags, statuses=ENDED, updated_before=past)
        for run in instance.get_runs(filters, limit=RUNS_PER_PRUNE):
            instance.delete_run(run.run_id)
            done.runs += 1
    return done
