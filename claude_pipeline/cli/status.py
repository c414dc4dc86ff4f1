"""`claude-pipeline status`: what is on its way, what it cost, what failed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_pipeline.cli.which import home_option, settings_of

if TYPE_CHECKING:
    from datetime import datetime

    from claude_pipeline.cli.live import Live
    from claude_pipeline.ledger import ChunkRow
    from claude_pipeline.stage.desk import Desk


@click.command("status")
@home_option
@click.option("--json", "as_json", is_flag=True, help="One document, for machines.")
@click.option("--watch", "watching", is_flag=True, help="A live table of the whole screen, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds, for --watch.")
def command(home: Path | None, as_json: bool, watching: bool, every: float) -> None:
    """Say what is on its way, what it cost, what failed; reads the ledger only.

    With --watch it looks again and again: rates by lane, the age of each batch against its 24 h, cost against
    budget, what stands in the way and what comes next. Where there is no terminal it writes a line per snapshot and look.

    Exit codes: 0, also when Ctrl-C ended --watch; 2 wrong use or settings; 4 the ledger's database gives no answer.
    """
    from claude_pipeline.cli.live import known_workloads, look_at
    from claude_pipeline.stage.desk import open_desk
    from claude_pipeline.workload_folder import PACKAGE_DEFS, load_workloads

    settings = settings_of(home)
    with open_desk(settings) as desk:
        folders = [PACKAGE_DEFS, *([settings.defs] if settings.defs else [])]

        def moment() -> Live:  # definitions are read anew: their budgets may change while one watches
            return look_at(desk, known_workloads(desk, load_workloads(folders).workloads))

        if watching and not as_json:
            from claude_pipeline.cli.watch import watch

            watch(moment, str(settings.home.root), every_seconds=every)
            return
        found = gather(desk)
        if as_json:
            found["now"] = moment().document()
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
        return
    show(found, str(settings.home.root))


def gather(desk: Desk) -> dict[str, Any]:
    """Snapshots with the counts of their chunks, batches in progress, who asks in real time, doubts, what stands
    against sending."""
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
        "asking": _asking(desk, now),
        "pauses": _pauses(desk, now),
        "lost": _lost(desk),
        "doubts": doubts,
        "held": _held(desk),
        "published": published[0] if published else None,
    }


def _asking(desk: Desk, now: datetime) -> list[dict[str, Any]]:
    """Chunks that are asked in real time, by workload, and how far the process is that asks them; None: there is none."""
    from claude_pipeline.controller import told_of
    from claude_pipeline.ledger import ChunkState

    rows = {row.workload: row for row in desk.ledger.asking(at=now)}
    chunks: dict[str, list[ChunkRow]] = {name: [] for name in rows}
    for chunk in desk.ledger.chunks(states=[ChunkState.ASKING]):
        chunks.setdefault(chunk.workload, []).append(chunk)
    found = []
    for name, open_chunks in sorted(chunks.items()):
        row = rows.get(name)
        found.append(
            {
                "workload": name, "chunks": len(open_chunks), "requests": sum(c.requests for c in open_chunks),
                "lost": sum(c.lost for c in open_chunks),
                "not_before": min((c.not_before for c in open_chunks if c.not_before and c.not_before > now), default=None),
                "process": None if row is None else {**asdict(row), "pools": json.loads(row.pools)},
                "told": None if row is None else told_of(row),
            }
        )  # fmt: skip
    return found


def _pauses(desk: Desk, now: datetime) -> list[dict[str, Any]]:
    """Pools of models for which the API asked everyone to wait."""
    return [
        {"pool": rate.pool, "until": rate.paused_until}
        for rate in desk.ledger.rates().values()
        if rate.paused_until is not None and rate.paused_until > now
    ]


def _lost(desk: Desk) -> list[dict[str, Any]]:
    """Snapshots with answers in real time that may have been paid, and that nobody recorded."""
    return [{"workload": name, "snapshot": snapshot, "lost": lost} for name, snapshot, lost in desk.ledger.lost()]


def _held(desk: Desk) -> list[dict[str, Any]]:
    """Chunks before a budget's wall by workload, with its sentence when the last one was held."""
    from claude_pipeline.ledger import ChunkState

    last = {}
    count: dict[str, int] = {}
    for chunk in desk.ledger.chunks(states=[ChunkState.HELD]):
        count[chunk.workload] = count.get(chunk.workload, 0) + 1
        last[chunk.workload] = chunk.error
    return [{"workload": name, "chunks": count[name], "why": last[name]} for name in count]


def _asking_sentence(asking: dict[str, Any]) -> str:
    if asking["told"]:
        return str(asking["told"])
    if asking["not_before"]:
        return f"{asking['requests']:,} requests wait until {asking['not_before']:%H:%M:%S} UTC, as the API asked"
    return (
        f"begun, and no process asks now: of {asking['requests']:,} requests the next run asks what has no answer yet"
    )


def show(found: dict[str, Any], home: str) -> None:
    from claude_pipeline.cli.screen import Screen
    from claude_pipeline.controller import plural

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
    if found["asking"]:
        screen.say("\nIn real time")
        for asking in found["asking"]:
            screen.say(f"  {asking['workload']}: {_asking_sentence(asking)}")
    for pause in found["pauses"]:
        screen.say(f"\nthe API asked to wait until {pause['until']:%H:%M:%S} UTC with {pause['pool']} in real time")
    if found["doubts"]:
        screen.say()
        keys = ["intent", "state", "since", "why"]
        screen.grid(keys, [[d[key] for key in keys] for d in found["doubts"]], title="Creates without a clear answer")
    for held in found["held"]:
        screen.say(f"\n{held['workload']}: {held['chunks']:,} chunks held by the budget: {held['why']}")
    for lost in found["lost"]:
        count = plural(lost["lost"], "answer", "answers")
        screen.say(
            f"\n{lost['workload']} {lost['snapshot']}: {count} in real time may have been paid and were lost, with a killed "
            "process or a broken connection"
        )
    if found["paid_twice"]:
        screen.say()
        keys = ["batch", "requests", "created_at"]
        rows = [[b[key] for key in keys] for b in found["paid_twice"]]
        screen.grid(keys, rows, title="Paid twice: accepted after their chunk was given up and sent again; not merged")
    if found["published"]:
        screen.say(f"\nwarehouse v{found['published']} in {home}")
