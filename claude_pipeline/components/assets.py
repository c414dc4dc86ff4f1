"""The assets of one workload. Each body reads its context, calls one stage, returns metadata.

    <w>/requests   by snapshot   load, render, plan, cut
    <w>/batches    by chunk      ops: plan_submission -> submit_slice (mapped) -> submitted
    <w>/results    by chunk      collect
    <w>/merged     by snapshot   one row per record, each with its final outcome
    <w>/summary    by snapshot   what it cost, how long it took, what failed

People materialize these; the controller launches jobs of the same ops that drain the ledger.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from claude_pipeline.components import metadata as meta
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.partition import add_chunk_partitions, chunk_partitions, snapshot_partitions
from claude_pipeline.controller import held_sentence, survey
from claude_pipeline.errors import ClaudePipelineError, Stopped, UsageError
from claude_pipeline.ledger import ChunkRow, ChunkState
from claude_pipeline.ledger.state import TERMINAL
from claude_pipeline.report import summarize
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.stage.forecast import plan_prepared
from claude_pipeline.stage.prepare import prepare, spec_digest
from claude_pipeline.stage.submit import plan_submission, send, walls
from claude_pipeline.workload import Workload

WORKLOAD_TAG, ACTION_TAG = "claude/workload", "claude/action"
FLAG = "flag"  # the action of a run whose only purpose is to turn a refused chunk's partition red
SLICE_CHUNKS = 25  # a mapped step costs 55 ms of its own: slices, not chunks

Context = dg.OpExecutionContext | dg.AssetExecutionContext


@dataclass(frozen=True)
class WorkloadAssets:
    """The assets, and the op graphs that the controller's jobs are made of."""

    requests: dg.AssetsDefinition
    batches: dg.AssetsDefinition
    results: dg.AssetsDefinition
    merged: dg.AssetsDefinition
    summary: dg.AssetsDefinition
    submit_job: dg.JobDefinition
    collect_job: dg.JobDefinition

    def all(self) -> list[dg.AssetsDefinition]:
        return [self.requests, self.batches, self.results, self.merged, self.summary]


def key(workload: Workload, leaf: str) -> dg.AssetKey:
    return dg.AssetKey([workload.name, leaf])


def build_assets(workload: Workload) -> WorkloadAssets:
    """All five, wired."""
    batches, submit_job = _batches(workload)
    results, collect_job = _results(workload)
    return WorkloadAssets(
        requests=_requests(workload),
        batches=batches,
        results=results,
        merged=_merged(workload),
        summary=_summary(workload),
        submit_job=submit_job,
        collect_job=collect_job,
    )


def _requests(workload: Workload) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(workload, "requests"),
        partitions_def=snapshot_partitions(workload),
        code_version=spec_digest(workload),
        check_specs=[dg.AssetCheckSpec("within_budget", asset=key(workload, "requests"))],
        group_name=workload.name,
        kinds={"parquet"},
        description=f"The dataset's records, rendered and cut into chunks for {' and '.join(workload.models)}. Asks only what is neither "
        f"answered nor on its way.\n\n```jinja\n{workload.prompt or workload.prompt_file}\n```",
    )
    def requests(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with desk.open() as d, told_plainly():
            prepared = prepare(d, workload, context.partition_key)
            add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk in prepared.chunks])
            plan = plan_prepared(d, workload, prepared)
            for warning in plan.warnings:
                context.log.warning(warning)
            yield dg.MaterializeResult(
                metadata={**meta.of_prepared(prepared, workload), **meta.of_plan(plan)},
                check_results=[_within_budget(d, workload, prepared.chunks)],
            )

    return requests


def _within_budget(desk: Desk, workload: Workload, chunks: list[ChunkRow]) -> dg.AssetCheckResult:
    """Whether the worst case of what is not sent yet fits every wall now; the walls themselves stand in the ledger."""
    spent = sum(chunk.cost_units or 0 for chunk in chunks)
    reserve = sum(chunk.reserve_units for chunk in chunks if chunk.state not in TERMINAL)
    unsent = [chunk for chunk in chunks if chunk.state in (ChunkState.READY, ChunkState.HELD)]
    sentence = desk.ledger.wall_before_all(unsent, walls(desk, workload), at=desk.clock())
    return dg.AssetCheckResult(
        check_name="within_budget",
        passed=sentence is None,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "at_most_usd": meta.usd(spent + reserve),
            "budget_usd": workload.budget_usd or "none",
            "budget_usd_per_day": workload.budget_usd_per_day or "none",
        },
        description=None
        if sentence is None
        else f"Chunks that do not fit are held by the budget, and go out as others cost less: {sentence}",
    )


def asked_keys(context: Context) -> list[str] | None:
    """The chunks a person asked for; None where the controller wants the ledger drained."""
    asked = context.has_partition_key or context.has_partition_key_range
    return list(context.partition_keys) if asked else None


def _batches(workload: Workload) -> tuple[dg.AssetsDefinition, dg.JobDefinition]:
    name = workload.name
    asset_key = key(workload, "batches")

    @dg.op(
        name=f"{name}__plan_submission",
        out=dg.DynamicOut(list, is_required=False),
        ins={"requests": dg.In(dg.Nothing)},
        description="Settle doubtful creates, cut due rounds, and slice the chunks to send.",
    )
    def plan(context: dg.OpExecutionContext, desk: DeskResource) -> Iterator[dg.DynamicOutput[list[str]]]:
        if context.run.tags.get(ACTION_TAG) == FLAG:
            raise dg.Failure(f"the API refused chunk {context.partition_key}; materialize it to send it again")
        with desk.open() as d, told_plainly():
            planned = plan_submission(d, workload, asked_keys(context))
            add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk in planned.chunks])
            keys = [chunk.partition_key for chunk in planned.chunks]
        for number, begin in enumerate(range(0, len(keys), SLICE_CHUNKS)):
            yield dg.DynamicOutput(keys[begin : begin + SLICE_CHUNKS], mapping_key=f"s{number:03d}")

    @dg.op(name=f"{name}__submit_slice", description="Send chunks as batches, one POST at a time.")
    def submit_slice(context: dg.OpExecutionContext, desk: DeskResource, keys: list) -> dict:  # type: ignore[type-arg]
        return _send_slice(context, desk, workload, keys)

    @dg.op(name=f"{name}__submitted", out=dg.Out(is_required=False), description="Say what was sent.")
    def submitted(context: dg.OpExecutionContext, desk: DeskResource, slices: list) -> Iterator[Any]:  # type: ignore[type-arg]
        sent, count = sum(s["sent"] for s in slices), sum(s["requests"] for s in slices)
        context.log.info(f"{sent} batches created, {count:,} requests")
        for outcome in ("doubtful", "held", "failed"):
            for sentence in (sentence for s in slices for sentence in s[outcome]):
                context.log.warning(f"{outcome}: {sentence}")
        if any(s["held"] or s["released"] for s in slices):
            with desk.open() as d:
                _say_budget(context, d, workload)
        for waiting in {s["waiting"] for s in slices if s["waiting"]}:
            context.log.info(f"the rest waits: {waiting}")
        refused = [sentence for s in slices for sentence in s["failed"]]
        if refused and asked_keys(context) is not None:
            raise dg.Failure(f"{len(refused)} chunks were refused: {refused[0]}", allow_retries=False)
        # Each chunk logged its own event; an output would mark every key of a range as materialized.
        yield from ()

    @dg.graph(name=f"{name}__batches", ins={"requests": dg.GraphIn()})
    def batches_graph(requests):  # type: ignore[no-untyped-def]
        return submitted(plan(requests).map(submit_slice).collect())

    asset = dg.AssetsDefinition.from_graph(
        batches_graph,
        keys_by_output_name={"result": asset_key},
        keys_by_input_name={"requests": key(workload, "requests")},
        partition_mappings={"requests": dg.AllPartitionMapping()},
        partitions_def=chunk_partitions(workload),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=name,
        descriptions_by_output_name={
            "result": "One Message Batch per chunk, sent exactly once. A chunk that the API refused is red: "
            "Materialize > Failed sends exactly those again."
        },
    )

    @dg.job(name=f"{name}_submit", description="Send every chunk that may be sent now.")
    def submit_job() -> None:
        submitted(plan().map(submit_slice).collect())

    return asset, submit_job


def _send_slice(
    context: dg.OpExecutionContext, desk: DeskResource, workload: Workload, keys: list[str]
) -> dict[str, Any]:
    """Send the chunks of a slice, log a materialization for each batch; what became of them, as JSON."""
    with desk.open() as d, told_plainly():
        done = send(d, workload, _chunks(d, workload, keys))
        for chunk, batch_id in done.sent:
            sent = dict(meta.of_sent(chunk, batch_id))
            batches = key(workload, "batches")
            context.log_event(dg.AssetMaterialization(batches, partition=chunk.partition_key, metadata=sent))
        return {
            "sent": len(done.sent),
            "requests": done.requests,
            "waiting": done.waiting,
            "failed": [f"{chunk.partition_key}: {why}" for chunk, why in done.failed],
            "doubtful": [f"{chunk.partition_key}: {why}" for chunk, why in done.doubtful],
            "held": [f"{chunk.partition_key}: {why}" for chunk, why in done.held],
            "released": sum(chunk.state is ChunkState.HELD for chunk, _ in done.sent),
        }


def _say_budget(context: dg.OpExecutionContext, desk: Desk, workload: Workload) -> None:
    """Keep the check `within_budget` true to what happened after it was made: chunks are held, or none is any more."""
    situation = survey(desk, workload)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=key(workload, "requests"),
        check_name="within_budget",
        passed=not situation.held,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"held_chunks": situation.held},
        description=held_sentence(situation) if situation.held else "no chunk is held by the budget any more",
    )
    context.log_event(evaluation)  # type: ignore[arg-type]  # taken, though the annotation does not name it


def _chunks(desk: Desk, workload: Workload, keys: list[str]) -> list[ChunkRow]:
    """The chunks of a slice that still wait to be sent: another run may have moved some."""
    found = []
    for partition_key in keys:
        snapshot, _, name = partition_key.partition("|")
        chunk = desk.ledger.chunk_by_key(workload.name, snapshot, name)
        if chunk is not None and chunk.state in (ChunkState.READY, ChunkState.HELD):
            found.append(chunk)
    return found


def _results(workload: Workload) -> tuple[dg.AssetsDefinition, dg.JobDefinition]:
    asset_key = key(workload, "results")

    def run(context: Context, desk: DeskResource, keys: list[str] | None) -> None:
        with desk.open() as d, told_plainly():
            if keys is not None:
                look(d)  # a person asks before the next tick has looked
                _refuse_uncollectable(d, workload, keys)
            found = collect(d, workload, keys)
            for chunk, collected in found.done:
                context.log_event(
                    dg.AssetMaterialization(
                        asset_key, partition=chunk.partition_key, metadata=dict(meta.of_collected(chunk, collected))
                    )
                )
            for chunk, why in found.unclear:
                context.log.warning(f"{chunk.partition_key}: {why}")
            for _, reason in found.gone:
                context.log.error(reason)
            if found.stop is not None:
                context.log.error(f"the account is stopped, nothing is sent: {found.stop}")
            if found.unclear and (keys is not None or not found.done):
                raise dg.Failure(f"{len(found.unclear)} batches could not be collected: {found.unclear[0][1]}")

    @dg.asset(
        key=asset_key,
        deps=[key(workload, "batches")],
        partitions_def=chunk_partitions(workload),
        output_required=False,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=workload.name,
        kinds={"parquet"},
        description="One row per request of a chunk: outcome, answer, usage, cost; and its answered records, joined.",
    )
    def results(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        run(context, desk, list(context.partition_keys))
        yield from ()  # each chunk logged its own event

    @dg.op(name=f"{workload.name}__collect", out=dg.Out(is_required=False), description="Collect every ended batch.")
    def collect_op(context: dg.OpExecutionContext, desk: DeskResource) -> Iterator[Any]:
        run(context, desk, None)
        yield from ()

    @dg.job(name=f"{workload.name}_collect", description="Collect every batch that has ended.")
    def collect_job() -> None:
        collect_op()

    return results, collect_job


def _refuse_uncollectable(desk: Desk, workload: Workload, keys: list[str]) -> None:
    """Say of a chunk that has nothing to collect what it is."""
    for partition_key in keys:
        snapshot, _, name = partition_key.partition("|")
        chunk = desk.ledger.chunk_by_key(workload.name, snapshot, name)
        if chunk is None or chunk.state not in (ChunkState.ENDED, ChunkState.DONE):
            state = "unknown" if chunk is None else chunk.state.value
            raise UsageError(f"chunk {partition_key} is {state}: there is nothing to collect yet")


def _merged(workload: Workload) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(workload, "merged"),
        deps=[dg.AssetDep(key(workload, "results"), partition_mapping=dg.AllPartitionMapping())],
        partitions_def=snapshot_partitions(workload),
        check_specs=[
            dg.AssetCheckSpec("every_record_has_an_outcome", asset=key(workload, "merged")),
            dg.AssetCheckSpec("no_dead_letters", asset=key(workload, "merged")),
        ],
        group_name=workload.name,
        kinds={"parquet"},
        description="One row per record of the snapshot: its columns, the final outcome, the answer.",
    )
    def merged(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with desk.open() as d, told_plainly():
            done = finalize(d, workload, context.partition_key)
            if not done:
                snapshots = d.ledger.snapshots(workload.name, partition=context.partition_key)
                if not snapshots:
                    raise UsageError(
                        f"{workload.name} has no snapshot of {context.partition_key}; materialize requests first"
                    )
                context.log.info("nothing new to merge")
                yield dg.MaterializeResult(metadata={"snapshot": snapshots[-1].id}, check_results=[
                    _complete(workload, snapshots[-1].records, snapshots[-1].succeeded or 0, snapshots[-1].dead or 0,
                              snapshots[-1].rejected or 0), _no_dead(snapshots[-1].dead or 0)])  # fmt: skip
                return
            last = done[-1]
            yield dg.MaterializeResult(
                metadata=dict(meta.of_merged(d, workload, last)),
                check_results=[
                    _complete(workload, last.records, last.succeeded, last.dead, last.rejected),
                    _no_dead(last.dead),
                ],
            )

    return merged


def _complete(workload: Workload, records: int, succeeded: int, dead: int, rejected: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="every_record_has_an_outcome",
        passed=records == succeeded + dead + rejected,
        metadata={"records": records, "succeeded": succeeded, "dead_letters": dead, "rejected": rejected},
        description=f"records = succeeded + dead letters + rejected in {workload.name}",
    )


def _no_dead(dead: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="no_dead_letters",
        passed=dead == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"dead_letters": dead},
    )


def _summary(workload: Workload) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(workload, "summary"),
        deps=[key(workload, "merged")],
        partitions_def=snapshot_partitions(workload),
        group_name=workload.name,
        kinds={"duckdb"},
        description="Cost, throughput, time and failures of a snapshot, in numbers that plot.",
    )
    def summary(context: dg.AssetExecutionContext, desk: DeskResource) -> dg.MaterializeResult[None]:
        with desk.open() as d, told_plainly():
            snapshots = d.ledger.snapshots(workload.name, partition=context.partition_key)
            if not snapshots:
                raise UsageError(
                    f"{workload.name} has no snapshot of {context.partition_key}; materialize requests first"
                )
            found = summarize(d, workload, snapshots[-1])
            return dg.MaterializeResult(metadata={**found.numbers(), "summary": dg.MetadataValue.md(found.markdown())})

    return summary


class told_plainly:
    """Turns an error of ours into a Dagster failure with its sentence, and no retry where a person must act."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ClaudePipelineError):
            stopped = isinstance(error, UsageError | Stopped)
            raise dg.Failure(str(error), metadata={"error": type(error).__name__}, allow_retries=not stopped) from None
