"""Asset keys, the tags of runs, and addresses within the UI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import quote

import dagster as dg

from claude_pipeline.workload import Workload

WORKLOAD_TAG, ACTION_TAG = "claude/workload", "claude/action"
SNAPSHOT_TAG, CHUNK_TAG, BATCH_TAG = "claude/snapshot", "claude/chunk", "claude/batch"
BATCHES_TAG = "dagster/claude_batch"  # in Dagster's own namespace, so that the list of runs stays readable
SERVES_TAG = "claude_workload"  # of sensors and schedules, with a workload's name behind it: one may serve several
FLAG = "flag"  # the action of a run whose only purpose is to turn a refused chunk's partition red
BATCHES_TAGGED_MAX = 20  # tags of one run are shown as a whole; a longer list says nothing to anybody


def key(workload: Workload | str, leaf: str) -> dg.AssetKey:
    return dg.AssetKey([workload if isinstance(workload, str) else workload.name, leaf])


def partition_path(asset: dg.AssetKey, partition: str) -> str:
    """Of a partition's page in the UI, whatever host serves it."""
    return f"/assets/{'/'.join(map(quote, asset.path))}?view=partitions&partition={quote(partition, safe='')}"


def runs_path(batch_id: str) -> str:
    """Of the runs that sent or collected a batch."""
    return f"/runs?q[0]={quote(f'tag:{BATCHES_TAG}/{batch_id}=yes', safe='')}"


def automation_tags(workloads: Collection[Workload]) -> dict[str, str]:
    """By what the Automation page finds a sensor or a schedule: `tag: "claude_workload/tickets"`."""
    return {f"{SERVES_TAG}/{workload.name}": "" for workload in workloads}


def mark_run(context: dg.OpExecutionContext | dg.AssetExecutionContext, tags: Mapping[str, str]) -> None:
    """Add to a run the tags that it has not: those that people launch have none of ours."""
    missing = {name: value for name, value in tags.items() if context.run.tags.get(name) != value}
    if missing:
        context.instance.add_run_tags(context.run.run_id, missing)


def run_tags(
    workload: Workload, *, snapshots: Collection[str] = (), chunks: Collection[str] = (), batches: Collection[str] = ()
) -> dict[str, str]:
    """By what a run is found in the UI: its workload; the snapshot and the chunk where it is about one.

    A batch has `claude/batch`; of several each has a tag of its own, `dagster/claude_batch/<id>`, which the list of
    runs does not show but finds: a list within one tag could neither be searched nor, on PostgreSQL, be as long as
    it may get.
    """
    tags = {WORKLOAD_TAG: workload.name}
    for tag, values in ((SNAPSHOT_TAG, set(snapshots)), (CHUNK_TAG, set(chunks)), (BATCH_TAG, set(batches))):
        if len(values) == 1:
            tags[tag] = values.pop()
    if len(set(batches)) <= BATCHES_TAGGED_MAX:
        tags |= {f"{BATCHES_TAG}/{batch}": "yes" for batch in sorted(set(batches))}
    return tags
