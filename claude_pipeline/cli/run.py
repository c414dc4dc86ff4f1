"""`claude-pipeline run`: a workload to its end without a daemon."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of
from claude_pipeline.garbage import no_search


@click.command("run")
@click.argument("workload")
@home_option
@click.option("--partition", help="The snapshot partition; by default the running one.")
@click.option(
    "--poll-seconds",
    type=click.FloatRange(min=0.05),
    default=30.0,
    show_default=True,
    help="Most seconds between two looks; the first looks come sooner.",
)
@click.option("--quiet", is_flag=True, help="Only the summary.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one document, for machines; implies --quiet.")
def command(
    workload: str, home: Path | None, partition: str | None, poll_seconds: float, quiet: bool, as_json: bool
) -> None:
    """Run WORKLOAD, a name or a YAML file, to its end.

    The same assets, ops and decisions as in Dagster, in this process. Killed and started again it
    carries on; a daemon may work on the same home at the same time.

    Exit codes: 0 done; 1 done, but records are dead letters or rejected; 2 wrong use or input; 3 stopped (budget,
    key, account); 4 interrupted, run it again.
    """
    with no_search():
        from claude_pipeline.cli.runner import Runner
        from claude_pipeline.cli.screen import Screen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: exit code 4
    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    screen = Screen(quiet=quiet or as_json)
    with Runner(settings, chosen, screen) as runner:
        summary = runner.run(partition=partition, poll_seconds=poll_seconds)
    if as_json:
        click.echo(json.dumps({**asdict(summary), "warehouse": str(settings.home.warehouse)}, indent=2, default=str))
        sys.exit(1 if summary.dead or summary.rejected else 0)
    screen.summary(summary)
    screen.say()
    screen.say(f"warehouse  {settings.home.warehouse}")
    if summary.records:
        screen.say(f"query      SELECT * FROM {chosen.name}.results LIMIT 10")
    if summary.dead:
        screen.say(f"           SELECT record_id, error_type, error_message FROM {chosen.name}.dead_letters")
    sys.exit(1 if summary.dead or summary.rejected else 0)
