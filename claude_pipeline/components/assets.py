"""The assets of one workload. Each body reads its context, calls one stage, returns metadata.

    <w>/requests   by snapshot   load, render, plan, cut
    <w>/batches    by chunk      ops: plan_submission -> submit_slice (mapped) -> submitted
    <w>/results    by chunk      collect
    <w>/merged     by snapshot   one row per record, each with its final outcome
    <w>/summary    by snapshot   what it cost, how long it took, what failed

People materialize these; the controller launches jobs of the same ops that drain the ledger.
"""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from claude_pipeline.components import metadata as meta
from claude_pipeline.components.about import question
from claude_pipeline.components.ask import ask_and_tell
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import ACTION_TAG, FLAG, WORKLOAD_TAG, key, mark_run, run_tags
from claude_pipeline.components.outcome_assets import build_merged, build_summary
from claude_pipeline.components.partition import add_chunk_partitions, chunk_partitions, snapshot_partitions
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.controller import held_sentence, survey
from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import ChunkRow, ChunkState
from claude_pipeline.ledger.state import TERMINAL
from claude_pipeline.stage.ask import to_ask
from claude_pipeline.stage.collect import collect, look
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.forecast import plan_prepared
from claude_pipeline.stage.prepare import prepare, spec_digest
from claude_pipeline.stage.submit import plan_submission, send, walls
from claude_pipeline.workload import Workload

SLICE_CHUNKS = 25  # a mapped step costs 55 ms of its own: slices, not chunks
SLICES_MAX = 20  # of a run, however many chunks a person asks for
SENTENCES_MAX = 20  # of one kind in a run's log, where each is an event

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


def build_assets(workload: Workload) -> WorkloadAssets:
    """All five, wired."""
    batches, submit_job = _batches(workload)
    results, collect_job = _results(workload)
    return WorkloadAssets(
        requests=_requests(workload),
        batches=batches,
        results=results,
        merged=build_merged(workload),
        summary=build_summary(workload),
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
        description="The dataset's records, rendered and cut into chunks. Asks only what is neither answered nor on its "
        f"way; **materialize this, and everything after it goes by itself**.\n\n{question(workload)}",
    )
    def requests(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with told_plainly(), desk.open() as d:
            prepared = prepare(d, workload, context.partition_key)
            mark_run(context, run_tags(workload, snapshots=[prepared.snapshot.id]))
            add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk in prepared.chunks])
            plan = plan_prepared(d, workload, prepared)
            for warning in plan.warnings:
                context.log.warning(warning)
            yield dg.MaterializeResult(
                metadata={**meta.of_prepared(d, prepared, workload), **meta.of_plan(plan)},
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


def slices_of(keys: Sequence[str]) -> list[list[str]]:
    """The chunks of a run's mapped steps: some in each, and more where there would be too many steps."""
    size = max(SLICE_CHUNKS, -(-len(keys) // SLICES_MAX))
    return [list(keys[begin : begin + size]) for begin in range(0, len(keys), size)]


def first_of(sentences: Sequence[str]) -> list[str]:
    """What a run's log shows of many sentences; the ledger has them all."""
    more = [f"and {len(sentences) - SENTENCES_MAX:,} more"] if len(sentences) > SENTENCES_MAX else []
    return [*sentences[:SENTENCES_MAX], *more]


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
        with told_plainly(), desk.open() as d:
            planned = plan_submission(d, workload, asked_keys(context))
            add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk in planned.chunks])
            keys = [chunk.partition_key for chunk in planned.chunks]
            mark_run(context, run_tags(workload, snapshots=[c.snapshot for c in planned.chunks], chunks=keys))
        for number, some in enumerate(slices_of(keys)):
            yield dg.DynamicOutput(some, mapping_key=f"s{number:03d}")

    @dg.op(name=f"{name}__submit_slice", description="Send chunks as batches, one POST at a time.")
    def submit_slice(context: dg.OpExecutionContext, desk: DeskResource, keys: list) -> dict:  # type: ignore[type-arg]
        return _send_slice(context, desk, workload, keys)

    @dg.op(name=f"{name}__submitted", out=dg.Out(is_required=False), description="Say what was sent.")
    def submitted(context: dg.OpExecutionContext, desk: DeskResource, slices: list) -> Iterator[Any]:  # type: ignore[type-arg]
        _say_submitted(context, desk, workload, slices)
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
            "result": "One Message Batch per chunk, sent exactly once; the controller does it by itself. A chunk of the "
            "real-time lane is asked without one. "
            "A chunk that the API refused is red: **Materialize > Failed** sends exactly those again."
        },
    )

    @dg.job(name=f"{name}_submit", tags={WORKLOAD_TAG: name}, description="Send every chunk that may be sent now.")
    def submit_job() -> None:
        submitted(plan().map(submit_slice).collect())

    return asset, submit_job


def _say_submitted(
    context: dg.OpExecutionContext, desk: DeskResource, workload: Workload, slices: Sequence[dict[str, Any]]
) -> None:
    """In the run's log and its tags. Raises Failure where chunks that a person asked for were refused."""
    sent, count = sum(s["sent"] for s in slices), sum(s["requests"] for s in slices)
    context.log.info(f"{sent} batches created, {count:,} requests")
    for outcome in ("doubtful", "held", "failed"):
        for sentence in first_of([sentence for s in slices for sentence in s[outcome]]):
            context.log.warning(f"{outcome}: {sentence}")
    mark_run(context, run_tags(workload, batches=[batch for s in slices for batch in s["batches"]]))
    if any(s["held"] or s["released"] for s in slices):
        with told_plainly(), desk.open() as d:
            _say_budget(context, d, workload)
    for waiting in {s["waiting"] for s in slices if s["waiting"]}:
        context.log.info(f"the rest waits: {waiting}")
    refused = [sentence for s in slices for sentence in s["failed"]]
    if refused and asked_keys(context) is not None:
        raise dg.Failure(f"{len(refused)} chunks were refused: {refused[0]}", allow_retries=False)


def _send_slice(
    context: dg.OpExecutionContext, desk: DeskResource, workload: Workload, keys: list[str]
) -> dict[str, Any]:
    """Send the chunks of a slice, log a materialization for each batch; what became of them, as JSON.

    Those that a person wants sent and whose lane is real time are asked here and now.
    """
    with told_plainly(), desk.open() as d:
        chunks = _chunks(d, workload, keys)
        asked = {chunk.id for chunk in to_ask(d, workload, walls(d, workload), keys)}
        done = send(d, workload, [chunk for chunk in chunks if chunk.id not in asked])
        if asked:
            ask_and_tell(context, d, workload, keys)
        for chunk, batch_id in done.sent:
            sent = dict(meta.of_sent(workload, chunk, batch_id))
            batches = key(workload, "batches")
            context.log_event(dg.AssetMaterialization(batches, partition=chunk.partition_key, metadata=sent))
        for chunk, why in done.failed:
            refused = dict(meta.of_refused(chunk, why))
            context.log_event(
                dg.AssetObservation(key(workload, "batches"), partition=chunk.partition_key, metadata=refused)
            )
        return {
            "sent": len(done.sent),
            "batches": [batch_id for _, batch_id in done.sent],
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
        with told_plainly(), desk.open() as d:
            if keys is not None:
                look(d)  # a person asks before the next tick has looked
                _refuse_uncollectable(d, workload, keys)
            found = collect(d, workload, keys)
            done = [chunk for chunk, _ in found.done]
            tags = run_tags(
                workload,
                snapshots=[c.snapshot for c in done],
                chunks=[c.partition_key for c in done],
                batches=[c.batch_id for c in done if c.batch_id],
            )
            mark_run(context, tags)
            for number, (chunk, collected) in enumerate(found.done, start=1):
                of_chunk = meta.of_collected(d, workload, chunk, collected, newest=number == len(done))
                context.log_event(
                    dg.AssetMaterialization(asset_key, partition=chunk.partition_key, metadata=dict(of_chunk))
                )
            for sentence in first_of([f"{chunk.partition_key}: {why}" for chunk, why in found.unclear]):
                context.log.warning(sentence)
            for reason in first_of([reason for _, reason in found.gone]):
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
        description="One row per request of a chunk: outcome, answer, usage, cost; and its answered records, joined. "
        "The controller collects a batch once it has ended. `most_failures` and `chunks_with_failures` beside the newest materialization lead to the records without a good answer.",
    )
    def results(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        run(context, desk, list(context.partition_keys))
        yield from ()  # each chunk logged its own event

    @dg.op(name=f"{workload.name}__collect", out=dg.Out(is_required=False), description="Collect every ended batch.")
    def collect_op(context: dg.OpExecutionContext, desk: DeskResource) -> Iterator[Any]:
        run(context, desk, None)
        yield from ()

    @dg.job(
        name=f"{workload.name}_collect",
        tags={WORKLOAD_TAG: workload.name},
        description="Collect every batch that has ended.",
    )
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
