"""The assets of a snapshot's outcome: `<w>/merged`, one row per record, and `<w>/summary`, what it cost and how it went."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from claude_pipeline.components import metadata as meta
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.freshness import freshness_of
from claude_pipeline.components.key import key, mark_run, run_tags
from claude_pipeline.components.partition import snapshot_partitions
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.errors import UsageError
from claude_pipeline.report import summarize
from claude_pipeline.stage.finalize import finalize
from claude_pipeline.workload import Workload


def build_merged(workload: Workload) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(workload, "merged"),
        deps=[dg.AssetDep(key(workload, "results"), partition_mapping=dg.AllPartitionMapping())],
        partitions_def=snapshot_partitions(workload),
        check_specs=[
            dg.AssetCheckSpec("every_record_has_an_outcome", asset=key(workload, "merged")),
            dg.AssetCheckSpec("no_dead_letters", asset=key(workload, "merged")),
        ],
        freshness_policy=freshness_of(workload),
        group_name=workload.name,
        description="One row per record of the snapshot: its columns, the final outcome, the answer.",
    )
    def merged(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with told_plainly(), desk.open() as d:
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
            mark_run(context, run_tags(workload, snapshots=[last.snapshot.id]))
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


def build_summary(workload: Workload) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(workload, "summary"),
        deps=[key(workload, "merged")],
        partitions_def=snapshot_partitions(workload),
        group_name=workload.name,
        description="Cost, throughput, time and failures of a snapshot, in numbers that plot.",
    )
    def summary(context: dg.AssetExecutionContext, desk: DeskResource) -> dg.MaterializeResult[None]:
        with told_plainly(), desk.open() as d:
            snapshots = d.ledger.snapshots(workload.name, partition=context.partition_key)
            if not snapshots:
                raise UsageError(
                    f"{workload.name} has no snapshot of {context.partition_key}; materialize requests first"
                )
            mark_run(context, run_tags(workload, snapshots=[snapshots[-1].id]))
            found = summarize(d, workload, snapshots[-1])
            return dg.MaterializeResult(metadata=dict(meta.of_summary(d, workload, snapshots[-1], found)))

    return summary
