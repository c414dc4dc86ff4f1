"""`claude-pipeline backup`: a copy of the ledger, taken while it works."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("backup")
@home_option
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="The copy; by default under backups/.")
@click.option("--keep", type=click.IntRange(min=1), default=7, show_default=True, help="Copies kept under backups/.")
def command(home: Path | None, to: Path | None, keep: int) -> None:
    """Copy the ledger, consistently, also while a run works.

    To restore: stop everything, put the copy in the place of ledger.db, run `claude-pipeline reconcile
    --rebuild`. What the copy has forgotten is read back from the API; until then nothing is sent.
    """
    from claude_pipeline.stage.backup import backup
    from claude_pipeline.stage.desk import open_desk

    with open_desk(settings_of(home)) as desk:
        done = backup(desk, to, keep=keep)
    click.echo(f"{done.path}: {done.size_bytes:,} bytes, {done.events:,} events")
    for path in done.dropped:
        click.echo(f"dropped {path}")
