"""`claude-pipeline plan`: what a workload would cost and how long it would take, before anything is spent."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_pipeline.cli.which import check_partition, home_option, settings_of, workload_of

if TYPE_CHECKING:
    from claude_pipeline.plan import Plan
    from claude_pipeline.settings import Settings
    from claude_pipeline.stage.pilot import PilotRows
    from claude_pipeline.workload import Workload


@click.command("plan")
@click.argument("workload")
@home_option
@click.option("--partition", help="The snapshot partition; by default the running one.")
@click.option("--tier", help="Plan for another tier than CLAUDE_PIPELINE_TIER.")
@click.option("--offline", is_flag=True, help="Ask the API nothing, not even token counts, which are free.")
@click.option("--pilot", type=click.IntRange(min=1), metavar="N", help="Ask a sample of N requests for real first.")
@click.option("--poll-seconds", type=click.FloatRange(min=0.05), default=30.0, show_default=True, help="For --pilot.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    workload: str,
    home: Path | None,
    partition: str | None,
    tier: str | None,
    offline: bool,
    pilot: int | None,
    poll_seconds: float,
    as_json: bool,
) -> None:
    """Say what WORKLOAD, a name or a YAML file, would cost and how long it would take.

    Loads the dataset and decides what would be asked, but registers nothing and sends nothing: the API is
    asked for token counts of a sample at most. Planning again costs no further counts.

    With --pilot N, a stratified sample of N requests is asked for real, inside the budget, in real time unless
    `lane: batch` forbids it; its answers are shown beside their records, the plan learns from them, and the full run does
    not ask them again.
    """
    from claude_pipeline.cadence import partition_of
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.plan import document
    from claude_pipeline.progress import heard_by
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.forecast import plan_workload

    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    if partition is not None:
        check_partition(chosen, partition)
    with open_desk(settings) as desk:
        day = partition or partition_of(chosen.cadence, chosen.timezone, desk.clock())
    answers = _pilot(settings, chosen, day, pilot, poll_seconds, quiet=as_json) if pilot is not None else None
    screen = Screen(quiet=as_json)
    with open_desk(settings) as desk, screen, heard_by(screen.now):
        screen.now(f"planning {chosen.name}")
        plan = plan_workload(desk, chosen, day, tier=tier, wait=None if offline else time.sleep)
    if as_json:
        found = document(plan)
        if answers is not None:
            found["pilot"] = {
                **asdict(answers),
                "shown": [dict(zip(answers.columns, row, strict=True)) for row in answers.shown],
            }
        click.echo(json.dumps(found, indent=2, default=str))
        return
    if answers is not None:
        _show_pilot(answers)
    show(plan)


def _pilot(
    settings: Settings, workload: Workload, day: str, count: int, poll_seconds: float, *, quiet: bool
) -> PilotRows:
    from claude_pipeline.cli.runner import Runner
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.pilot import read_pilot

    with Runner(settings, workload, Screen(quiet=quiet)) as runner:
        snapshot = runner.pilot(count, partition=day, poll_seconds=poll_seconds)
    with open_desk(settings) as desk:
        return read_pilot(desk, workload, snapshot)


def _show_pilot(answers: PilotRows) -> None:
    from claude_pipeline.cli.screen import Screen

    screen = Screen()
    screen.table(
        "Pilot",
        [
            ("asked", f"{answers.asked:,}"),
            ("succeeded", f"{answers.succeeded:,}"),
            ("fit the output schema", f"{answers.valid:,}"),
            ("tokens", f"{answers.input_tokens:,} in, {answers.output_tokens:,} out"),
            ("cost", f"${answers.cost_usd:,.6f}"),
        ],
    )
    screen.grid(list(answers.columns), [list(row) for row in answers.shown], title="Answers beside their records")
    screen.say()


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
