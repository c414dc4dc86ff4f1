"""The asset `warehouse`: the DuckDB file of all workloads."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from collections.abc import Sequence

import dagster as dg

from claude_pipeline.components.assets import key, told_plainly
from claude_pipeline.components.desk_resource import DeskResource
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
        description="The DuckDB file that analysts open: each workload's results, and ops.* on what ran and what it cost.",
    )
    def warehouse(desk: DeskResource) -> dg.MaterializeResult[None]:
        with desk.open() as d, told_plainly():
            done = publish(d)
            return dg.MaterializeResult(
                metadata={
                    "version": done.version,
                    "path": dg.MetadataValue.path(str(done.path)),
                    "workloads": ", ".join(done.workloads) or "none yet",
                }
            )

    return warehouse
