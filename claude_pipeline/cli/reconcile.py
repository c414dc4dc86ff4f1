"""`claude-pipeline reconcile`: settle what is in doubt, by evidence or by a person's word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_pipeline.cli.which import home_option, settings_of

if TYPE_CHECKING:
    from claude_pipeline.lane.stranger import Rebuilt
    from claude_pipeline.stage.desk import Desk


@click.command("reconcile")
@click.argument("intent", required=False)
@click.option("--absent", is_flag=True, help="INTENT was not accepted: its chunk may be sent again.")
@click.option("--batch", metavar="ID", help="INTENT is this batch.")
@click.option("--gone", metavar="BATCH", help="This batch was deleted at the API: give its answers up.")
@click.option(
    "--as-is", metavar="BATCH", help="Take what can be read of this batch's results, though they are not whole."
)
@click.option("--rebuild", is_flag=True, help="The ledger was restored from a backup: read the API's list into it.")
@home_option
def command(
    intent: str | None,
    absent: bool,
    batch: str | None,
    gone: str | None,
    as_is: str | None,
    rebuild: bool,
    home: Path | None,
) -> None:
    """Look for batches whose creation was never answered.

    Where the evidence is gone for ever (deleted, archived), a person decides: give the INTENT's tag,
    as `status` shows it, with --absent or --batch ID.
    """
    from claude_pipeline.errors import UsageError
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.submit import give_up_batch, rebuild_ledger, settle_by_hand, take_batch_as_is

    ways = [intent is not None, gone is not None, as_is is not None, rebuild]
    if sum(ways) > 1 or (intent is None) != (not absent and batch is None) or (absent and batch is not None):
        raise UsageError(
            "give INTENT with --absent or with --batch ID, or --gone BATCH, or --as-is BATCH, or --rebuild, or none of them"
        )
    with open_desk(settings_of(home)) as desk:
        if intent is not None:
            click.echo(settle_by_hand(desk, intent, batch_id=batch))
        elif gone is not None:
            click.echo(give_up_batch(desk, gone))
        elif as_is is not None:
            click.echo(take_batch_as_is(desk, as_is))
        elif rebuild:
            _say_rebuilt(rebuild_ledger(desk))
        else:
            _settle(desk)


def _settle(desk: Desk) -> None:
    from claude_pipeline.stage.submit import settle

    found = settle(desk)
    for settled, batch_id in found.adopted:
        click.echo(f"{settled.tag}: adopted {batch_id}")
    for settled in found.absent:
        click.echo(f"{settled.tag}: was not accepted; its chunk is ready again")
    for twice in found.paid_twice:
        click.echo(f"{twice}: was accepted after its chunk was sent again: paid twice, not merged again")
    for settled, why in found.waiting:
        click.echo(f"{settled.tag}: {why}")
    if not (found.adopted or found.absent or found.waiting or found.paid_twice):
        click.echo("nothing is in doubt")


def _say_rebuilt(found: Rebuilt) -> None:
    for chunk, batch_id in found.remembered:
        click.echo(f"{batch_id}: is chunk {chunk.workload}/{chunk.partition_key}; collected with the others")
    for batch_id in found.orphaned:
        click.echo(
            f"{batch_id}: is of a snapshot that this ledger does not know; materialize the same records again, and its "
            "answers are taken from it"
        )
    for batch_id, why in found.unreadable:
        click.echo(f"{batch_id}: {why}")
    if found.running:
        click.echo(
            f"{len(found.running)} batches that nobody knows still run ({', '.join(found.running[:3])}"
            f"{', …' if len(found.running) > 3 else ''}): whose they are shows at their end"
        )
    click.echo(
        "rebuilt; sending goes on"
        if found.whole
        else "not whole yet: nothing is sent; run `reconcile --rebuild` again later"
    )
