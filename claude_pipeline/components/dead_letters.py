"""The asset `<w>/dead_letters`: the records of a snapshot without an answer, and one click to ask them again."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
from typing import Any

import dagster as dg

from claude_pipeline.components import metadata as meta
from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import key, mark_run, run_tags
from claude_pipeline.components.partition import add_chunk_partitions, snapshot_partitions
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.errors import UsageError
from claude_pipeline.stage.retry import retry
from claude_pipeline.workload import Workload


class RetryConfig(dg.Config):
    """What to ask again; money has no say here: the budget's wall stands in the ledger."""

    reason: str = ""  # an error_type of <w>.dead_letters, or `canceled`; empty: all but what was perhaps paid


def build_dead_letters(workload: Workload) -> dg.AssetsDefinition:
    """Materialized alone it asks them again; together with others (Materialize all) it only counts them."""
    asset_key = key(workload, "dead_letters")

    @dg.asset(
        key=asset_key,
        deps=[key(workload, "merged")],
        partitions_def=snapshot_partitions(workload),
        group_name=workload.name,
        description="Records of a snapshot that no further attempt will answer by itself. **Materialize this asset alone to ask them "
        "again** (in the launchpad: only those of one `reason`); the controller sends them. Together with other assets "
        "it only counts them.",
    )
    def dead_letters(
        context: dg.AssetExecutionContext, desk: DeskResource, config: RetryConfig
    ) -> dg.MaterializeResult[None]:
        with told_plainly(), desk.open() as d:
            snapshots = d.ledger.snapshots(workload.name, partition=context.partition_key)
            if not snapshots:
                raise UsageError(
                    f"{workload.name} has no snapshot of {context.partition_key}; materialize requests first"
                )
            mark_run(context, run_tags(workload, snapshots=[snapshots[-1].id]))
            found: dict[str, Any] = {"snapshot": snapshots[-1].id, "dead_letters": snapshots[-1].dead or 0}
            if snapshots[-1].dead and _alone(context, asset_key):
                done = retry(d, workload, snapshots[-1].id, reason=config.reason or None)
                keys = [c.partition_key for c in d.ledger.chunks(workload.name, snapshot=snapshots[-1].id)]
                add_chunk_partitions(context.instance, workload, keys)
                context.log.info(f"{done.requests:,} requests are asked again; the controller sends them")
                found |= {"asked_again": done.requests, "left": meta.counted(done.left)}
            return dg.MaterializeResult(metadata=found)

    return dead_letters


def _alone(context: dg.AssetExecutionContext, asset_key: dg.AssetKey) -> bool:
    """Whether a person chose just this asset: the run of a larger selection pays for nothing twice."""
    selection = context.run.asset_selection
    return selection is None or set(selection) == {asset_key}
