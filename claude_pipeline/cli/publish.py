"""`claude-pipeline publish`: the warehouse again, or a self-contained copy."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("publish")
@home_option
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), help="Write a copy with tables instead of views."
)
def command(home: Path | None, to: Path | None) -> None:
    """Publish the warehouse again; with --to FILE, write a self-contained copy as well."""
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.publish import publish
    from claude_pipeline.warehouse import copy_to

    settings = settings_of(home)
    with open_desk(settings) as desk:
        done = publish(desk)
    click.echo(f"published v{done.version} with {', '.join(done.workloads) or 'no results yet'}: {done.path}")
    if to is not None:
        click.echo(f"copied {copy_to(settings.home, to)} tables to {to}")
