"""`claude-pipeline doctor`: is everything in place, and what mends what is not."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_pipeline.cli.which import home_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_pipeline.stage.finding import Finding

STYLE = {"ok": "green", "warning": "yellow", "wrong": "red"}


@click.command("doctor")
@home_option
@click.option("--deep", is_flag=True, help="Read every file of answers that the ledger vouches for.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(home: Path | None, deep: bool, as_json: bool) -> None:
    """Check versions, environment, home, disk, ledger, leftover doubts, workloads, key and clock.

    Spends nothing and changes nothing: the key is tried on a free call. Ends with 0 where nothing is wrong
    (a warning is not), else with the code of a command that met the first thing that is: 2 wrong use,
    3 stopped, 4 try again, 1 damage.
    """
    from claude_pipeline.lane.client import BatchClient
    from claude_pipeline.stage.desk import utc_now
    from claude_pipeline.stage.doctor import examine
    from claude_pipeline.stage.finding import exit_code_of

    client = BatchClient()
    try:
        findings = list(examine(os.environ, folder=home, client=client, clock=utc_now, deep=deep))
    finally:
        client.close()
    code = exit_code_of(findings)
    if as_json:
        checks = [{name: value for name, value in asdict(f).items() if name != "exit_code"} for f in findings]
        click.echo(json.dumps({"ok": code == 0, "exit_code": code, "checks": checks}, indent=1, ensure_ascii=False))
    else:
        show(findings)
    sys.exit(code)


def show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        verdict = click.style(f"{finding.verdict.value:<8}", fg=STYLE[finding.verdict.value])
        click.echo(f"{verdict} {finding.check:<12} {finding.fact}")
        if finding.way_out:
            click.echo(f"{'':<22}-> {finding.way_out}")
