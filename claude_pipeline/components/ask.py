"""The real-time lane in Dagster: a job that asks what is for real time, with its progress in the run's log."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import dagster as dg

from claude_pipeline.components import metadata as meta
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import WORKLOAD_TAG, key, mark_run, run_tags
from claude_pipeline.components.partition import add_chunk_partitions
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.controller import Kind, told_of
from claude_pipeline.ledger import AskingRow
from claude_pipeline.stage.ask import Asked, ask
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.submit import walls
from claude_pipeline.workload import Workload


def build_ask(workload: Workload) -> dg.JobDefinition:
    """The job `<w>_ask`, which the controller launches."""

    @dg.op(
        name=f"{workload.name}__ask",
        out=dg.Out(is_required=False),
        description="Ask what is for real time, as fast as the account's limits let it; each answer is journaled.",
    )
    def ask_op(context: dg.OpExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with told_plainly(), desk.open() as d:
            ask_and_tell(context, d, workload, None)
        yield from ()

    @dg.job(
        name=f"{workload.name}_{Kind.ASK.value}",
        tags={WORKLOAD_TAG: workload.name},
        description="Ask every chunk that is for real time.",
    )
    def ask_job() -> None:
        ask_op()

    return ask_job


def ask_and_tell(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    desk: Desk,
    workload: Workload,
    keys: Collection[str] | None,
) -> Asked:
    """Ask chunks in real time; log how far it is, and a materialization for each chunk that is answered."""
    done = ask(desk, workload, walls(desk, workload), keys, tell=_told_now_and_then(context, desk.waits.progress))
    add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk, _ in done.done])
    chunks = [chunk for chunk, _ in done.done]
    tags = run_tags(workload, snapshots=[c.snapshot for c in chunks], chunks=[c.partition_key for c in chunks])
    mark_run(context, tags)
    for number, (chunk, collected) in enumerate(done.done, start=1):
        for leaf, of_chunk in (
            ("batches", meta.of_asked(workload, chunk, collected)),
            ("results", meta.of_collected(desk, workload, chunk, collected, newest=number == len(chunks))),
        ):
            context.log_event(
                dg.AssetMaterialization(key(workload, leaf), partition=chunk.partition_key, metadata=dict(of_chunk))
            )
    for chunk, why in done.held:
        context.log.warning(f"held: {chunk.partition_key}: {why}")
    if done.lost:
        context.log.warning(
            f"{done.lost:,} requests were in flight when an earlier process died: they may have been paid, and were asked again"
        )
    if done.waiting:
        context.log.info(f"the rest waits: {done.waiting}")
    return done


def _told_now_and_then(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, seconds: float
) -> Callable[[AskingRow], None]:
    next_at = 0.0

    def tell(row: AskingRow) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + seconds
            context.log.info(told_of(row))

    return tell
