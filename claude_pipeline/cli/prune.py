"""`claude-pipeline prune`: what is past its retention goes."""

from __future__ import annotations

from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of


@click.command("prune")
@click.argument("workloads", nargs=-1)
@click.option("--days", type=click.IntRange(min=0), help="In the place of each workload's own `retention`.")
@home_option
def command(workloads: tuple[str, ...], days: int | None, home: Path | None) -> None:
    """Remove raw results, params, superseded files and Dagster history that are past their time.

    Of WORKLOADS, or of all that Dagster loads. Never what is on its way, snapshots, or answers. It also
    happens by itself, each time the warehouse is published in Dagster or by `run`.
    """
    from claude_pipeline.cli.dagster_home import open_instance
    from claude_pipeline.components.prune import prune_history
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.stage.prune import prune
    from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads

    settings = settings_of(home)
    folders = [PACKAGE_DEFS, *([settings.defs] if settings.defs else [])]
    chosen = [workload_of(name, settings) for name in workloads] or list(load_workloads(folders).workloads)
    partitions = runs = 0
    with open_desk(settings) as desk, open_instance(settings.home) as instance:
        done = prune(desk, chosen, days=days)
        for workload in chosen:
            history = prune_history(instance, desk, workload, workload.retention.days if days is None else days)
            partitions, runs = partitions + history.partitions, runs + history.runs
    files = ", ".join(f"{count:,} {kind}" for kind, count in done.files.items()) or "no files"
    click.echo(f"removed {files} ({done.size_bytes / 1e6:,.1f} MB), {partitions:,} chunk partitions, {runs:,} runs")
