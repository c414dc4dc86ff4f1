"""`claude-pipeline ui`: the Dagster UI on this home."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("ui")
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="On this machine only.")
@click.option(
    "--read-only", is_flag=True, help="To look: nothing can be launched or changed, and no daemon is started."
)
def command(home: Path | None, port: int, read_only: bool) -> None:
    """Open the Dagster UI, with its daemon, on this home; Ctrl-C ends both.

    It runs against the API that ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY name. It listens on this machine
    only, has no login, and refuses what pages of other sites ask of it; from another machine reach it
    through `ssh -L`.
    """
    from claude_pipeline.cli.dagster_dev import DagsterDev, DagsterFailed, listens
    from claude_pipeline.errors import UsageError

    if listens(port):
        raise UsageError(f"port {port} is taken; give another with --port")
    with DagsterDev(settings_of(home).home, port=port, read_only=read_only) as dagster:
        click.echo("starting Dagster …", err=True)
        dagster.wait_until_ready()
        click.echo(f"the UI is at {dagster.url}   (log: {dagster.log_path}; stop: Ctrl-C)")
        if dagster.wait():
            raise DagsterFailed(f"Dagster ended by itself (log: {dagster.log_path}); start it again, it carries on")
