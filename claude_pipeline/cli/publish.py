"""`claude-pipeline publish`: the warehouse again, or a self-contained copy."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("publish")
@home_option
@click.option("--to", metavar="PATH", help="Write a copy that stands alone: FILE.duckdb, or FOLDER/ of Parquet files.")
@click.option("--format", "kind", type=click.Choice(["duckdb", "parquet"]), help="Where the name of --to does not say.")
@click.option("--force", is_flag=True, help="Replace what stands at --to, even where it is no copy of a warehouse.")
def command(home: Path | None, to: str | None, kind: str | None, force: bool) -> None:
    """Publish the warehouse again; with --to, write a copy as well.

    A copy appears whole or not at all, and replaces an earlier one. It needs nothing of the home: send it to whom you
    like.
    """
    from claude_pipeline.errors import UsageError
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.publish import publish
    from claude_pipeline.warehouse import Format, copy_to, format_of

    if to is None and (kind or force):
        raise UsageError("--format and --force are about --to; say where the copy is to be")
    chosen = Format.DUCKDB
    if to is not None:
        chosen = Format(kind) if kind else format_of(Path(to), as_written=to)
    settings = settings_of(home)
    with open_desk(settings) as desk:
        done = publish(desk)
    click.echo(f"published v{done.version} with {', '.join(done.workloads) or 'no results yet'}: {done.path}")
    if to is not None:
        copied = copy_to(settings.home, Path(to), format=chosen, force=force)
        click.echo(f"copied {copied.tables} tables and views, {copied.rows:,} rows, to {copied.path}")
