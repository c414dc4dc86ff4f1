"""`claude-pipeline retry`: dead letters are asked again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of


@click.command("retry")
@click.argument("workload")
@click.option("--snapshot", help="As `status` shows it; by default the newest.")
@click.option("--reason", help="Only dead letters of this error_type (or `canceled`).")
@click.option("--queue-only", is_flag=True, help="Leave the sending to the daemon.")
@click.option("--poll-seconds", type=click.FloatRange(min=0.05), default=30.0, show_default=True)
@home_option
def command(
    workload: str, snapshot: str | None, reason: str | None, queue_only: bool, poll_seconds: float, home: Path | None
) -> None:
    """Ask the dead letters of WORKLOAD's newest snapshot again, and wait for the answers.

    What was perhaps answered and billed, though nobody can read it (results_gone, missing_result, unreadable_result,
    unknown_result_type), is asked again only when it is the --reason.
    """
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.retry import retry

    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    with open_desk(settings) as desk:
        done = retry(desk, chosen, snapshot, reason=reason)
    left = ", ".join(f"{name} {count:,}" for name, count in done.left.most_common())
    screen = Screen()
    screen.stage(
        "retry", f"{chosen.name}/{done.snapshot.id}: {done.requests:,} requests are asked again"
        f"{f'; left as they are: {left}' if left else ''}",
    )  # fmt: skip
    if queue_only:
        return
    from claude_pipeline.cli.runner import Runner

    with Runner(settings, chosen, screen) as runner:
        summary = runner.carry_on(partition=done.snapshot.partition, poll_seconds=poll_seconds)
    screen.summary(summary)
    sys.exit(1 if summary.dead or summary.rejected else 0)
