"""`claude-pipeline cancel`: nothing more of a snapshot is sent, and its batches are asked to stop."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of


@click.command("cancel")
@click.argument("workload")
@click.argument("snapshot")
@home_option
def command(workload: str, snapshot: str, home: Path | None) -> None:
    """Cancel SNAPSHOT (as `status` shows it) of WORKLOAD: here, and at the API.

    What the API has answered by then is billed, kept and collected. `retry` asks the rest again.
    """
    from claude_pipeline.money import dollars
    from claude_pipeline.stage.cancel import cancel
    from claude_pipeline.stage.desk import open_desk

    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    with open_desk(settings) as desk:
        done = cancel(desk, chosen, snapshot)
    click.echo(
        f"{chosen.name}/{snapshot}: {done.withdrawn} chunks withdrawn before they were sent, {done.asked} batches asked "
        "to cancel at the API"
    )
    if done.unasked:
        click.echo(f"{done.unasked} more could not be asked now; the daemon or the next `run` does it")
    click.echo(
        f"billed already: {dollars(done.spent_units)}; what the canceled batches had answered by then is billed "
        f"too (at most {dollars(done.reserved_units)}), kept, and collected when they end"
    )
