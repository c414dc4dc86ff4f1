"""An asset of yours downstream of a workload: copy this file to `claude_pipeline/defs/queue_report.py`.

It reads the published answers through the resource `warehouse`, which the code location gives to all assets. The
resource is read-only and opens what was published last: it never holds up a publication, nor waits for one.
"""

import dagster as dg

from claude_pipeline import WarehouseResource

DAYS = dg.DailyPartitionsDefinition("2026-11-01", end_offset=1)  # as those of the workload


@dg.asset(
    deps=[dg.AssetKey(["tickets", "summary"]), "warehouse"],  # whose numbers it is about; where it reads them
    partitions_def=DAYS,
    automation_condition=dg.AutomationCondition.eager(),  # by itself, once a day's answers are published
    group_name="tickets_downstream",
    kinds={"duckdb"},
    description="How many tickets each queue got in a day's newest snapshot.",
)
def queue_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    with warehouse.get_connection() as duck:
        frame = duck.execute(
            """SELECT queue, count(*) AS tickets, count(*) FILTER (WHERE urgent) AS urgent
               FROM tickets.results WHERE outcome = 'succeeded' AND snapshot = (
                   SELECT arg_max(snapshot, number) FROM ops.snapshots
                   WHERE workload = 'tickets' AND partition = ? AND merged_at IS NOT NULL)
               GROUP BY queue ORDER BY tickets DESC""",
            [context.partition_key],
        ).df()
    # … write the frame where you need it
    return dg.MaterializeResult(
        metadata={"tickets": int(frame["tickets"].sum()), "queues": dg.MetadataValue.md(frame.to_csv(index=False))}
    )


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[queue_report])
