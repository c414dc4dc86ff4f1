"""`claude-pipeline plan`: what a workload would cost and how long it would take, before anything is spent."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of

if TYPE_CHECKING:
    from claude_pipeline.plan import Plan


@click.command("plan")
@click.argument("workload")
@home_option
@click.option("--partition", help="The snapshot partition; by default the running one.")
@click.option("--tier", help="Plan for another tier than CLAUDE_PIPELINE_TIER.")
@click.option("--offline", is_flag=True, help="Ask the API nothing, not even token counts, which are free.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    workload: str, home: Path | None, partition: str | None, tier: str | None, offline: bool, as_json: bool
) -> None:
    """Say what WORKLOAD, a name or a YAML file, would cost and how long it would take.

    Loads the dataset and decides what would be asked, but registers nothing and sends nothing: the API is
    asked for token counts of a sample at most. Planning again costs no further counts.
    """
    from claude_pipeline.cadence import partition_of
    from claude_pipeline.plan import document
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.forecast import plan_workload

    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    with open_desk(settings) as desk:
        day = partition or partition_of(chosen.cadence, chosen.timezone, desk.clock())
        plan = plan_workload(desk, chosen, day, tier=tier, wait=None if offline else time.sleep)
    if as_json:
        click.echo(json.dumps(document(plan), indent=2))
        return
    show(plan)


def show(plan: Plan) -> None:
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.plan import notes, rows, table

    screen = Screen()
    for warning in plan.warnings:
        screen.say(f"WARNING: {warning}")
    screen.table("Plan", rows(plan))
    if plan.options:
        screen.say()
        columns, lines = table(plan)
        screen.grid(columns, lines, title="Alternatives")
        for note in notes(plan):
            screen.say(note)
