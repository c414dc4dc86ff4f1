"""The job `<w>_pilot`: ask a stratified sample of a snapshot; the controller sends and collects it."""

# No deferred annotations here: Dagster reads those of decorated functions as they are.
import dagster as dg

from claude_pipeline.components.desk_resource import DeskResource
from claude_pipeline.components.key import WORKLOAD_TAG
from claude_pipeline.components.partition import add_chunk_partitions, snapshot_partitions
from claude_pipeline.components.plainly import told_plainly
from claude_pipeline.stage.prepare import prepare
from claude_pipeline.workload import Workload


class PilotConfig(dg.Config):
    """How many requests; the budget's wall stands in the ledger."""

    requests: int = 50


def build_pilot(workload: Workload) -> dg.JobDefinition:
    """A partitioned job; `claude-pipeline plan <w>` then learns from what was answered."""

    @dg.op(name=f"{workload.name}__pilot", out=dg.Out(is_required=False), description="Cut a stratified sample.")
    def cut_pilot(context: dg.OpExecutionContext, desk: DeskResource, config: PilotConfig) -> None:
        with told_plainly(), desk.open() as d:
            prepared = prepare(d, workload, context.partition_key, pilot=config.requests)
            add_chunk_partitions(context.instance, workload, [chunk.partition_key for chunk in prepared.chunks])
            context.log.info(
                f"{prepared.new_requests:,} requests of {prepared.snapshot.id} are asked; the controller sends them. "
                f"Materialize {workload.name}/requests for the rest: what the pilot answered is not asked again"
            )

    @dg.job(
        name=f"{workload.name}_pilot",
        partitions_def=snapshot_partitions(workload),
        tags={WORKLOAD_TAG: workload.name},
        description="Ask a stratified sample of a snapshot for real; the full run asks only the rest.",
    )
    def pilot_job() -> None:
        cut_pilot()

    return pilot_job
