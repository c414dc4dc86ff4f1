"""`claude-pipeline reconcile`: settle batches whose creation was never answered."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("reconcile")
@click.argument("intent", required=False)
@click.option("--absent", is_flag=True, help="INTENT was not accepted: its chunk may be sent again.")
@click.option("--batch", metavar="ID", help="INTENT is this batch.")
@home_option
def command(intent: str | None, absent: bool, batch: str | None, home: Path | None) -> None:
    """Look for batches whose creation was never answered.

    Where the evidence is gone for ever (deleted, archived), a person decides: give the INTENT's tag,
    as `status` shows it, with --absent or --batch ID.
    """
    from claude_pipeline.errors import UsageError
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.submit import settle, settle_by_hand

    if (intent is None) != (not absent and batch is None) or (absent and batch is not None):
        raise UsageError("give INTENT with --absent or with --batch ID, or none of them")
    with open_desk(settings_of(home)) as desk:
        if intent is not None:
            click.echo(settle_by_hand(desk, intent, batch_id=batch))
            return
        found = settle(desk)
        for settled, batch_id in found.adopted:
            click.echo(f"{settled.tag}: adopted {batch_id}")
        for settled in found.absent:
            click.echo(f"{settled.tag}: was not accepted; its chunk is ready again")
        for settled, why in found.waiting:
            click.echo(f"{settled.tag}: {why}")
        if not (found.adopted or found.absent or found.waiting):
            click.echo("nothing is in doubt")
