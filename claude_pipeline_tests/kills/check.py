"""What must be true of a pool at its end: the invoice, the ledger and the warehouse say the same, each question once."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import orjson

from claude_pipeline.home import Home, sweep
from claude_pipeline.ledger import ChunkState, Ledger
from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.factory import token_of
from claude_pipeline_tests.kills.figures import Figures

FOREIGN = "foreign-"  # begins the custom_ids of others in the workspace


@dataclass(frozen=True)
class Expected:
    """One workload of a pool."""

    name: str
    texts: dict[str, str]  # record id -> its text

    @property
    def questions(self) -> int:
        return len(set(self.texts.values()))


def check(home: Home, simulator: Simulator, workloads: list[Expected]) -> Figures:
    """Figures of a pool whose processes have all ended; `wrong` names each broken promise."""
    found = Figures()
    found.rows = sum(len(workload.texts) for workload in workloads)
    found.asked = sum(workload.questions for workload in workloads)
    _check_invoice(home, simulator, found)
    for workload in workloads:
        _check_delivered(home, workload, found)
    _check_files(home, found)
    return found


def _check_invoice(home: Home, simulator: Simulator, found: Figures) -> None:
    invoice = simulator.invoice()
    lines = [line for line in _lines(simulator) if not line["custom_id"].startswith(FOREIGN)]
    billed = Counter(line["digest"] for line in lines if line["billed"])
    of_ours = {line["batch_id"] for line in lines}
    found.posts = sum(invoice["calls"].get("create", {}).values())
    found.batches, found.foreign = len(of_ours), invoice["batches"] - len(of_ours)
    found.errored = sum(line["outcome"] == "errored" for line in lines)
    found.twice = sum(count > 1 for count in billed.values())
    if found.twice or invoice["billed_twice"]:
        found.wrong.append(f"{found.twice} questions were billed more than once")
    if len(billed) != found.asked:
        found.wrong.append(f"{found.asked} questions, but {len(billed)} were billed")
    again = [custom_id for custom_id, count in Counter(line["custom_id"] for line in lines).items() if count > 1]
    if again:
        found.wrong.append(f"one intent was posted twice: custom_id {again[0]} is in two batches")
    cost = sum((Decimal(line["cost_usd"]) for line in lines), Decimal(0))
    with Ledger.open(None, path=home.ledger) as ledger:
        _check_ledger(ledger, of_ours, cost, found)


def _lines(simulator: Simulator) -> Iterator[dict[str, Any]]:
    for piece in simulator.invoice_lines():
        yield from map(orjson.loads, piece.splitlines())


def _check_ledger(ledger: Ledger, of_ours: set[str], cost: Decimal, found: Figures) -> None:
    chunks = [chunk for name in ledger.workloads() for chunk in ledger.chunks(name)]
    spent = Decimal(sum(chunk.cost_units or 0 for chunk in chunks)) / 10_000_000_000
    if abs(spent - cost) > Decimal("0.000000001"):
        found.wrong.append(f"the ledger says {spent} USD were spent, the invoice {cost}")
    if left := [chunk.partition_key for chunk in chunks if chunk.state is not ChunkState.DONE]:
        found.wrong.append(f"{len(left)} chunks are not done, as {left[0]}")
    if unsettled := ledger.unsettled_intents():
        found.wrong.append(f"{len(unsettled)} intents are unsettled")
    recorded = set(ledger.sent_batches())
    if recorded != of_ours:
        found.wrong.append(f"the ledger and the invoice differ in batches: {sorted(recorded ^ of_ours)}")


def _check_delivered(home: Home, workload: Expected, found: Figures) -> None:
    """Each record once in the published file, succeeded, with the answer to its own text."""
    with duckdb.connect(str(home.warehouse.resolve()), read_only=True) as duck:
        rows = duck.execute(f"SELECT record_id, outcome, answer FROM {workload.name}.results").fetchall()
        left = duck.execute("SELECT count(*) FROM ops.chunks WHERE state != 'done'").fetchall()
    answers = {record_id: answer for record_id, outcome, answer in rows if outcome == "succeeded"}
    right = [
        record_id
        for record_id, text in workload.texts.items()
        if (answers.get(record_id) or "").startswith(token_of(f"Sort: {text}"))
    ]
    lost = len(workload.texts) - len(right)
    found.lost += lost
    if lost or len(rows) != len(workload.texts):
        found.wrong.append(f"{workload.name}: {len(rows)} rows for {len(workload.texts)} records, {lost} of them wrong")
    if left != [(0,)]:
        found.wrong.append(f"the warehouse was published before {left[0][0]} chunks were done")


def _check_files(home: Home, found: Figures) -> None:
    """The database is whole; once swept, nothing is there that a kill left half done."""
    with sqlite3.connect(home.ledger) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        adopted = connection.execute("SELECT count(*) FROM event WHERE move = 'batch adopted'").fetchone()[0]
    connection.close()
    found.adopted = adopted
    if verdict != [("ok",)]:
        found.wrong.append(f"integrity_check: {verdict[0][0]}")
    found.swept = sweep(home, older_than_seconds=-1)
    if stale := [path for path in sorted(home.root.rglob("*")) if _half_done(home, path)]:
        found.wrong.append(
            f"{len(stale)} files were left behind, as {', '.join(home.relative(path) for path in stale[:3])}"
        )


def _half_done(home: Home, path: Path) -> bool:
    if not path.is_file():
        return False
    unpacked = path.suffix == ".jsonl" and path.is_relative_to(home.root / "downloads")
    return (
        unpacked
        or path.suffix in {".tmp", ".fresh"}
        or path.name.startswith(".")
        or path.is_relative_to(home.scratch())
    )
