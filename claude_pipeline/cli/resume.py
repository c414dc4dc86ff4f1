"""`claude-pipeline resume`: the account is mended, sending goes on."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("resume")
@home_option
def command(home: Path | None) -> None:
    """End a stop of the account (key refused, low credit, spend limit), once it is mended.

    It also ends by itself: from time to time one batch is sent to see, at most one an hour.
    """
    from claude_pipeline.lane.stranger import check_age
    from claude_pipeline.stage.desk import open_desk

    with open_desk(settings_of(home)) as desk:
        check_age(desk.ledger)  # an outdated ledger is mended by a rebuild only
        stop = desk.ledger.stop()
        if stop is None:
            click.echo("nothing is stopped")
            return
        desk.ledger.account_resumed(how="by hand", at=desk.clock())
        click.echo(f"resumed; it was stopped since {stop.since:%Y-%m-%d %H:%M} UTC: {stop.reason}")
