"""`claude-pipeline ui`: the Dagster UI on this home."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of


@click.command("ui")
@home_option
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="On this machine only.")
def command(home: Path | None, port: int) -> None:
    """Open the Dagster UI, with its daemon, on this home; Ctrl-C ends both.

    It runs against the API that ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY name. Anyone who reaches the
    port can launch runs: it listens on this machine only.
    """
    from claude_pipeline.cli.dagster_dev import DagsterDev, listens
    from claude_pipeline.errors import UsageError

    if listens(port):
        raise UsageError(f"port {port} is taken; give another with --port")
    with DagsterDev(settings_of(home).home, port=port) as dagster:
        click.echo("starting Dagster …", err=True)
        dagster.wait_until_ready()
        click.echo(f"the UI is at {dagster.url}   (log: {dagster.log_path}; stop: Ctrl-C)")
        dagster.wait()
