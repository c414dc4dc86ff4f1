"""The asset `warehouse`: the DuckDB file of all workloads."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import key
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.components.prune import prune_history
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.prune import prune
from claude_pipeline.stage.publish import publish
from claude_pipeline.workload import Workload


def build_warehouse(workloads: Sequence[Workload]) -> dg.AssetsDefinition:
    """One asset downstream of every `<w>/summary`."""
    upstream = [
        dg.AssetDep(key(workload, "summary"), partition_mapping=dg.AllPartitionMapping()) for workload in workloads
    ]

    @dg.asset(
        key="warehouse",
        deps=upstream,
        group_name="warehouse",
        kinds={"duckdb"},
        check_specs=[dg.AssetCheckSpec("nothing_paid_twice", asset="warehouse")],
        description="The DuckDB file that analysts open: each workload's results, and ops.* on what ran and what it cost.",
    )
    def warehouse(context: dg.AssetExecutionContext, desk: DeskResource) -> Iterator[Any]:
        with told_plainly(), desk.open() as d:
            done = publish(d)
            pruned = prune(d, workloads)
            for workload in workloads:
                prune_history(context.instance, d, workload, workload.retention.days)
            yield dg.MaterializeResult(
                check_results=[_nothing_paid_twice(d)],
                metadata={
                    "version": done.version,
                    "path": dg.MetadataValue.path(str(done.path)),
                    "workloads": ", ".join(done.workloads) or "none yet",
                    "pruned_files": sum(pruned.files.values()),
                },
            )

    return warehouse


def _nothing_paid_twice(desk: Desk) -> dg.AssetCheckResult:
    """The residual risk, should it ever happen: the API accepted a create long after it was given up."""
    twice = desk.ledger.paid_twice()
    return dg.AssetCheckResult(
        check_name="nothing_paid_twice",
        passed=not twice,
        metadata={"batches": ", ".join(batch.id for batch in twice) or "none"},
        description="Batches that the API accepted after their chunk was sent again; their answers are not merged."
        if twice
        else None,
    )
