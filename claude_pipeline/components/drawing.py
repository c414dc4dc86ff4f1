"""The pictures beside a materialization, as Markdown with the SVG inside: nothing is fetched to show them."""

from __future__ import annotations

import re

import dagster as dg

from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.picture import CostDay, Flow, markdown_image
from claude_pipeline.picture.beside import pictures_of
from claude_pipeline.picture.summary import SummaryRows
from claude_pipeline.sql import literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.warehouse import live_ops
from claude_pipeline.workload import Workload

DAYS = 30
WIDTH = 600  # px: Dagster shows them in a dialog of 80 % of the window, which is 800 px or more


def pictures(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> dg.MetadataValue:
    """Throughput of a snapshot; cost and turnaround of its workload over the last days that anything was billed."""
    tables = ("throughput", "costs", "batches")
    with live_ops(tables, desk.ledger.dump, desk.home.scratch(), workload=workload.name) as ops:
        flows = ops.ask(
            """SELECT minute, lane::VARCHAR, sum(requests_per_min), sum(input_tokens_per_min + output_tokens_per_min),
                      bool_or(estimated) FROM ops.throughput GROUP BY ALL ORDER BY ALL""",
            snapshot=snapshot.id,
        )
        costs = ops.ask(
            f"""SELECT day, model, sum(cost_usd) FROM ops.costs
                WHERE day IN (SELECT DISTINCT day FROM ops.costs ORDER BY day DESC LIMIT {DAYS})
                GROUP BY ALL ORDER BY ALL"""
        )
        hours = ops.ask(
            f"""SELECT turnaround_seconds / 3600 FROM ops.batches WHERE workload = {literal(workload.name)}
                AND turnaround_seconds IS NOT NULL
                AND ended_at > (SELECT max(ended_at) FROM ops.batches) - INTERVAL {DAYS} DAY"""
        )
    rows = SummaryRows(
        [Flow(*row) for row in flows], [CostDay(*row) for row in costs], [row[0] for row in hours], WIDTH
    )
    return dg.MetadataValue.md(
        "\n\n".join(markdown_image(_sized(svg), name) for name, svg in pictures_of(rows).items())
    )


def _sized(svg: str) -> str:
    """With a width and a height of its own: the dialog that shows it is as wide as what is in it."""
    return re.sub(r'<svg ([^>]*viewBox="0 0 ([\d.]+) ([\d.]+)")', r'<svg width="\2" height="\3" \1', svg, count=1)
