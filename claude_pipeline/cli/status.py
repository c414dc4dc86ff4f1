"""`claude-pipeline status`: what is on its way, what it cost, what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_pipeline.cli.which import home_option, settings_of

if TYPE_CHECKING:
    from claude_pipeline.stage.desk import Desk


@click.command("status")
@home_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(home: Path | None, as_json: bool) -> None:
    """Say what is on its way, what it cost, what failed; reads the ledger only."""
    from claude_pipeline.stage.desk import open_desk

    settings = settings_of(home)
    with open_desk(settings) as desk:
        found = gather(desk)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
        return
    show(found, str(settings.home.root))


def gather(desk: Desk) -> dict[str, Any]:
    """Snapshots with the counts of their chunks, batches in progress, doubts, what stands against sending."""
    from claude_pipeline.controller import standing

    now = desk.clock()
    snapshots = []
    for workload in desk.ledger.workloads():
        for progress in desk.ledger.progress(workload, all_merged=True):
            s = progress.snapshot
            snapshots.append(
                {
                    "workload": s.workload, "snapshot": s.id, "state": s.state.value, "records": s.records,
                    "requests": s.asked, "succeeded": s.succeeded, "dead": s.dead, "rejected": s.rejected,
                    "cost_usd": progress.cost_units / 1e10,
                    "chunks": {state.value: count for state, count in progress.chunks.items()},
                }
            )  # fmt: skip
    batches = [
        {
            "batch": b.id, "requests": b.requests, "status": b.status, "created_at": b.created_at,
            "hours_to_sla": (b.expires_at - now).total_seconds() / 3600 if b.expires_at else None,
        }
        for b in desk.ledger.batches(unended=True)
    ]  # fmt: skip
    doubts = [
        {"intent": i.tag, "state": i.state.value, "since": i.doubt_at or i.created_at, "why": i.doubt_reason}
        for i in desk.ledger.unsettled_intents()
    ]
    published = desk.ledger.last_publication()
    twice = [{"batch": b.id, "requests": b.requests, "created_at": b.created_at} for b in desk.ledger.paid_twice()]
    return {
        "stopped": standing(desk.ledger, now) or (stop.sentence if (stop := desk.ledger.stop()) else None),
        "paid_twice": twice,
        "snapshots": snapshots,
        "batches": batches,
        "doubts": doubts,
        "held": _held(desk),
        "published": published[0] if published else None,
    }


def _held(desk: Desk) -> list[dict[str, Any]]:
    """Chunks before a budget's wall by workload, with its sentence when the last one was held."""
    from claude_pipeline.ledger import ChunkState

    last = {}
    count: dict[str, int] = {}
    for chunk in desk.ledger.chunks(states=[ChunkState.HELD]):
        count[chunk.workload] = count.get(chunk.workload, 0) + 1
        last[chunk.workload] = chunk.error
    return [{"workload": name, "chunks": count[name], "why": last[name]} for name in count]


def show(found: dict[str, Any], home: str) -> None:
    from claude_pipeline.cli.screen import Screen

    screen = Screen()
    if found["stopped"]:
        screen.say(f"STOPPED: {found['stopped']}\n")
    if not found["snapshots"]:
        screen.say(f"nothing has run in {home} yet; try `claude-pipeline run tickets`")
        return
    columns = ["workload", "snapshot", "state", "records", "requests", "succeeded", "dead", "rejected", "cost_usd"]
    rows = [
        [*(s[c] for c in columns), ", ".join(f"{count} {state}" for state, count in s["chunks"].items())]
        for s in found["snapshots"]
    ]
    screen.grid([*columns, "chunks"], rows)
    if found["batches"]:
        screen.say()
        keys = ["batch", "requests", "status", "created_at", "hours_to_sla"]
        screen.grid(keys, [[b[key] for key in keys] for b in found["batches"]], title="In progress")
    if found["doubts"]:
        screen.say()
        keys = ["intent", "state", "since", "why"]
        screen.grid(keys, [[d[key] for key in keys] for d in found["doubts"]], title="Creates without a clear answer")
    for held in found["held"]:
        screen.say(f"\n{held['workload']}: {held['chunks']:,} chunks held by the budget: {held['why']}")
    if found["paid_twice"]:
        screen.say()
        keys = ["batch", "requests", "created_at"]
        rows = [[b[key] for key in keys] for b in found["paid_twice"]]
        screen.grid(keys, rows, title="Paid twice: accepted after their chunk was given up and sent again; not merged")
    if found["published"]:
        screen.say(f"\nwarehouse v{found['published']} in {home}")
