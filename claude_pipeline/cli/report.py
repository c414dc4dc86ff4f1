"""`claude-pipeline report`: a snapshot, and its workload over time, as HTML files for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of


@click.command("report")
@click.argument("workload")
@home_option
@click.option("--snapshot", metavar="S", help="The snapshot; by default the newest merged one.")
@click.option(
    "--against",
    metavar="SNAPSHOT|MODEL",
    help="Compare with that snapshot, or with a model's answers; by default with the snapshot before.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the snapshot's page there, and nothing else; by default both pages go to reports/ in the home.",
)
def command(workload: str, home: Path | None, snapshot: str | None, against: str | None, to: Path | None) -> None:
    """Write what came of WORKLOAD, a name or a YAML file, as a page that opens anywhere.

    One HTML file with everything in it, without a network: what was asked, what it cost against the plan and the
    real-time price, how fast it went, what failed, how good the answers are, samples, and what changed since the
    snapshot before. Beside it index.html shows the workload's snapshots over time.
    """
    from claude_pipeline.errors import UsageError
    from claude_pipeline.home import written
    from claude_pipeline.report_page import (
        choose_other,
        choose_snapshot,
        read_snapshot,
        read_workload_facts,
        snapshot_page,
        workload_page,
    )
    from claude_pipeline.stage.desk import open_desk

    settings = settings_of(home)
    chosen = workload_of(workload, settings)
    if to is not None and not to.absolute().parent.is_dir():
        raise UsageError(f"--to: there is no folder {to.absolute().parent}; make it, or name another file")
    with open_desk(settings) as desk:
        found = choose_snapshot(desk, chosen, snapshot)
        facts = read_snapshot(desk, chosen, found, choose_other(desk, chosen, found, against))
        page = snapshot_page(replace(facts, index=to is None))
        target = to or settings.home.report(chosen.name, found.id)
        with written(target, private=to is None) as temporary:
            temporary.write_text(page, encoding="utf-8")
        click.echo(f"report of {chosen.name} {found.id}: {target}")
        if to is None:
            index = settings.home.report(chosen.name, "index")
            with written(index) as temporary:
                temporary.write_text(workload_page(read_workload_facts(desk, chosen)), encoding="utf-8")
            click.echo(f"all its snapshots: {index}")
