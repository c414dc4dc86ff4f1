"""`claude-pipeline demo`: the whole journey on sample data, with nothing but this machine."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_pipeline.cli.which import home_option, settings_of, workload_of

if TYPE_CHECKING:
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.report import Summary
    from claude_pipeline.settings import Settings
    from claude_pipeline.simulator import Simulator
    from claude_pipeline.stage.desk import Desk
    from claude_pipeline.workload import Workload

SPEED = 600  # simulated seconds per second: ten minutes a second
BATCH_SECONDS = (1800, 4200)  # simulated: three to seven seconds for whoever watches
ERROR_RATE = 0.02  # overloaded at first: asked again in round 2
PERMANENT_ERROR_RATE = 0.0025  # never answered: dead letters
END_SECONDS = 600.0
LOOK_SECONDS = 0.5

QUERIES = (
    (
        "What do customers write about, and what did sorting it cost?",
        "SELECT queue, count(*) AS tickets, round(avg(CAST(urgent AS INT)), 2) AS urgent, round(sum(cost_usd), 5) AS usd\n"
        "FROM tickets.latest WHERE outcome = 'succeeded' GROUP BY queue ORDER BY tickets DESC",
    ),
    (
        "Which languages come through which channel?",
        "SELECT language, channel, count(*) AS tickets FROM tickets.latest\n"
        "GROUP BY ALL ORDER BY tickets DESC, language, channel LIMIT 5",
    ),
    (
        "Which batches ran, and how long did they take?",
        "SELECT chunk, status, requests, succeeded, errored, round(turnaround_seconds / 60) AS minutes,\n"
        "       round(cost_usd, 5) AS usd FROM ops.batches ORDER BY chunk",
    ),
)


@click.command("demo")
@home_option
@click.option("--ui", is_flag=True, help="Leave the Dagster UI open at the end.")
def command(home: Path | None, ui: bool) -> None:
    """Show the whole journey: sample tickets through Dagster, against the simulator.

    Starts the simulator and Dagster on free ports of this machine, launches the first asset, and
    lets the sensor do the rest. Needs no key, costs nothing, ends by itself.
    """
    from claude_pipeline.cli.screen import Screen

    root = home or settings_of(None).home.root / "demo"
    _forget_the_real_world()
    settings = settings_of(root)
    os.environ["CLAUDE_PIPELINE_HOME"] = str(settings.home.root)
    _fresh(settings.home.root)
    sys.exit(_demo(settings, Screen(), ui))


def _forget_the_real_world() -> None:
    """The simulator's answers must reach no real ledger, instance or account that the shell names."""
    for name in list(os.environ):
        if name.startswith(("CLAUDE_PIPELINE_", "ANTHROPIC_")) or name == "DAGSTER_HOME":
            del os.environ[name]


def _fresh(root: Path) -> None:
    """An empty demo home; refuses to empty a folder that no demo made."""
    from claude_pipeline.errors import UsageError
    from claude_pipeline.home import make_folder

    marker = root / ".demo"
    if root.exists() and any(root.iterdir()) and not marker.exists():
        raise UsageError(f"{root} is not empty and no demo made it; give --home another folder")
    shutil.rmtree(root, ignore_errors=True)
    make_folder(root)
    marker.touch()


def _demo(settings: Settings, screen: Screen, ui: bool) -> int:
    from claude_pipeline.cadence import partition_of
    from claude_pipeline.cli.dagster_dev import DagsterDev
    from claude_pipeline.simulator import Options, running
    from claude_pipeline.stage.desk import open_desk

    workload = workload_of("tickets", settings)
    options = Options(
        speed=SPEED,
        batch_seconds=BATCH_SECONDS,
        error_rate=ERROR_RATE,
        permanent_error_rate=PERMANENT_ERROR_RATE,
        seed=7,
    )
    with ExitStack() as stack:
        simulator = stack.enter_context(running(options))
        screen.stage("simulator", f"{simulator.base_url}  (ten minutes pass in a second; nothing here costs money)")
        environment = {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "ANTHROPIC_API_KEY": simulator.api_key,
            "CLAUDE_PIPELINE_TICK_SECONDS": "5",
        }
        dagster = stack.enter_context(DagsterDev(settings.home, environment=environment))
        screen.now("starting Dagster (webserver, daemon, code location)")
        dagster.wait_until_ready()
        screen.stage("dagster", f"{dagster.url}  (log: {shown_path(dagster.log_path)})")
        desk = stack.enter_context(open_desk(settings))
        partition = partition_of(workload.cadence, workload.timezone, desk.clock())
        dagster.launch(f"{workload.name}_requests", partition)
        screen.stage("launch", f"tickets/requests for {partition}; from here on the controller sensor decides")
        summary = _follow(desk, workload, screen)
        code = _show(settings, simulator, screen, summary)
        if ui:
            screen.say(f"\nThe Dagster UI is at {dagster.url}  (stop: Ctrl-C)")
            dagster.wait()
        return code


def _follow(desk: Desk, workload: Workload, screen: Screen) -> Summary:
    """One line whenever a stage moved on, until everything is published."""
    from claude_pipeline.controller import describe, survey
    from claude_pipeline.errors import ClaudePipelineError
    from claude_pipeline.ledger import ChunkState
    from claude_pipeline.report import summarize

    told: set[str] = set()
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        snapshots = desk.ledger.snapshots(workload.name)
        if snapshots and snapshots[-1].planned_at is not None:
            for stage, sentence in _moves(desk, workload, snapshots[-1].id):
                if f"{stage}{sentence}" not in told:
                    told.add(f"{stage}{sentence}")
                    screen.stage(stage, sentence)
            situation = survey(desk, workload)
            if (
                situation.at_rest
                and desk.ledger.last_publication()
                and not desk.ledger.chunks(
                    workload.name, states=[s for s in ChunkState if s.value in ("ready", "sending", "live", "ended")]
                )
            ):
                screen.still()
                return summarize(desk, workload, desk.ledger.snapshots(workload.name)[-1])
            screen.now(describe(situation, desk.clock()))
        else:
            screen.now("loading the tickets and cutting them into chunks")
        time.sleep(LOOK_SECONDS)
    raise ClaudePipelineError(f"the demo did not end within {END_SECONDS:.0f} s; the log of Dagster tells why")


def _moves(desk: Desk, workload: Workload, snapshot_id: str) -> list[tuple[str, str]]:
    """What has happened so far, as (stage, sentence) in the order of the journey."""
    from claude_pipeline.ledger import ChunkState

    snapshot = desk.ledger.snapshot(workload.name, snapshot_id)
    assert snapshot is not None
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot_id)
    first = [chunk for chunk in chunks if chunk.round == 1]
    moves = [
        (
            "requests",
            f"{snapshot.records:,} records -> {snapshot.asked:,} requests in {len(first)} chunks "
            f"({snapshot.duplicates} duplicates are asked once)",
        )
    ]
    for number in sorted({chunk.round for chunk in chunks}):
        of_round = [chunk for chunk in chunks if chunk.round == number]
        sent = [chunk for chunk in of_round if chunk.batch_id is not None]
        done = [chunk for chunk in of_round if chunk.state is ChunkState.DONE]
        if len(sent) == len(of_round):
            requests = sum(chunk.requests for chunk in sent)
            moves.append(("batches", f"round {number}: {len(sent)} batches created, {requests:,} requests"))
        if len(done) == len(of_round):
            succeeded, failed = (sum(getattr(c, name) or 0 for c in done) for name in ("succeeded", "errored"))
            again = sum(chunk.retryable or 0 for chunk in done)
            moves.append(
                (
                    "results",
                    f"round {number}: {succeeded:,} succeeded, {failed:,} errored, {again:,} of them may be asked again",
                )
            )
    if snapshot.merged_at is not None:
        moves.append(("merged", f"{snapshot.records:,} rows, each with its final outcome"))
    published = desk.ledger.last_publication()
    if published is not None and snapshot.merged_at is not None:
        moves.append(("warehouse", f"v{published[0]} published"))
    return moves


def _show(settings: Settings, simulator: Simulator, screen: Screen, summary: Summary) -> int:
    """Summary, invoice, three queries, where things are; 0 when everything adds up."""
    from claude_pipeline.warehouse import connect

    screen.summary(summary)
    invoice = Decimal(str(simulator.invoice()["total_usd"]))
    agrees = abs(invoice - Decimal(str(summary.cost_usd))) < Decimal("0.000001")
    adds_up = summary.records == summary.succeeded + summary.dead + summary.rejected
    screen.say(
        f"\nThe simulator's invoice says ${invoice:,.6f}: {'the same, to the cent and beyond' if agrees else 'NOT the same'}."
    )
    duck = connect(home=settings.home.root)
    for question, sql in QUERIES:
        screen.say(f"\n-- {question}\n{sql};\n")
        found = duck.execute(sql)
        columns = [column[0] for column in found.description or ()]
        screen.grid(columns, found.fetchall())
    duck.close()
    screen.say(f"\nWarehouse   {shown_path(settings.home.warehouse)}   (open it with any DuckDB client)")
    screen.say("Workload    claude_pipeline/defs/tickets/defs.yaml")
    screen.say("Next        make ui, or put your own defs.yaml into claude_pipeline/defs/<name>/")
    return 0 if agrees and adds_up else 1


def shown_path(path: Path) -> str:
    """Relative to where the reader stands, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
