"""What must hold after every seed, judged by the simulator's invoice and the ledger's own story.

twice       a request was accepted, or a record billed, more than once for one attempt
lost        a record without exactly one final outcome, or a paid answer that is nowhere
cost        what the ledger says was spent is not what the invoice says
story       a move that `ledger.state` forbids, or an event that does not go on where the last one ended
unfinished  something is still on its way, reserved or in doubt, or the processes never came to rest
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
import pyarrow.parquet as pq

from claude_pipeline.ledger import ChunkState
from claude_pipeline.ledger.state import CHUNK_MOVES, IN_FLIGHT
from claude_pipeline.ledger.table import metadata
from claude_pipeline.simulator.invoice import invoice_lines
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.simulation.world import World

UNIT_USD = Decimal("1e-10")
# What may follow an intent's last move, by the words of its events.
INTENT_STORY = {
    None: {"intent opened"},
    "intent opened": {"create in doubt", "batch created", "batch adopted", "create refused"},
    "create in doubt": {"candidates frozen", "batch adopted", "batch named by hand", "create was not accepted"},
    "candidates frozen": {"batch adopted", "batch named by hand", "create was not accepted"},
}


@dataclass
class Broken:
    """One invariant that does not hold, and the chunks whose stories tell how that came."""

    invariant: str
    what: str
    rows: int = 1
    chunks: tuple[int, ...] = ()


@dataclass
class Paid:
    """The invoice's lines of this ledger."""

    lines: list[dict[str, Any]]
    batches_of: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # chunk -> accepted batches
    chunk_of: dict[str, int] = field(default_factory=dict)  # tag -> chunk


def judge(world: World) -> list[Broken]:
    """Everything that is wrong with a world that has come to rest; nothing, as a rule."""
    world.server.api.clock.advance(3 * 24 * 3600)  # what is still running ends, and is billed
    world.server.api.settle_all()
    with world.open(None) as desk:
        paid = _paid(world, desk)
        return [
            *_twice(paid),
            *_lost(world, desk, paid),
            *_cost(desk, paid),
            *_story(desk),
            *_unfinished(desk, paid),
        ]


def _paid(world: World, desk: Desk) -> Paid:
    pieces = b"".join(invoice_lines(world.server.api.store)).splitlines()
    lines = [orjson.loads(line) for line in pieces]
    paid = Paid([line for line in lines if line["custom_id"].startswith(f"{desk.ledger.id}-")])
    paid.chunk_of = {str(row["tag"]): int(str(row["chunk_id"])) for row in desk.ledger.dump("intent")}
    for line in paid.lines:
        line["tag"], _, line["position"] = line["custom_id"].rpartition("-")
        if line["tag"] in paid.chunk_of:
            paid.batches_of[paid.chunk_of[line["tag"]]].add(line["batch_id"])
    return paid


def _twice(paid: Paid) -> Iterator[Broken]:
    for tag in {line["tag"] for line in paid.lines} - paid.chunk_of.keys():
        yield Broken("twice", f"the API accepted {tag}, which the ledger does not know")
    for chunk, batches in paid.batches_of.items():
        if len(batches) > 1:
            rows = Counter(line["batch_id"] for line in paid.lines if line["batch_id"] in batches)
            yield Broken("twice", f"chunk {chunk} was accepted as {sorted(batches)}", min(rows.values()), (chunk,))
    billed = Counter(line["digest"] for line in paid.lines if line["billed"])
    again = {digest for digest, times in billed.items() if times > 1}
    if again:
        chunks = {paid.chunk_of.get(line["tag"], 0) for line in paid.lines if line["digest"] in again}
        yield Broken("twice", f"{len(again)} records were billed more than once", len(again), tuple(sorted(chunks)))


def _lost(world: World, desk: Desk, paid: Paid) -> Iterator[Broken]:
    """Each record is in the merged rows once, answered where it was billed and only there."""
    workload = world.template.workload.name
    outcomes: dict[str, list[str]] = defaultdict(list)
    for part in desk.ledger.merged_parts(workload):
        for row in pq.read_table(desk.path(part.path), columns=["record_id", "outcome"]).to_pylist():
            outcomes[row["record_id"]].append(row["outcome"])
    wrong = [f"n{n}" for n in range(world.template.records) if len(outcomes[f"n{n}"]) != 1]
    if wrong:
        yield Broken("lost", f"no single final outcome for {wrong[:3]}: {[outcomes[n] for n in wrong[:3]]}", len(wrong))
    records = {chunk.id: _records(desk, chunk.index_path) for chunk in desk.ledger.chunks(workload)}
    answered = {record for record, ends in outcomes.items() if ends == ["succeeded"]}
    billed = {
        records[paid.chunk_of[line["tag"]]][int(line["position"])]
        for line in paid.lines
        if line["billed"] and line["tag"] in paid.chunk_of
    }
    if answered != billed:
        odd = sorted(answered ^ billed)
        yield Broken("lost", f"billed and answered are not the same records: {odd[:3]}", len(odd))


def _records(desk: Desk, index_path: str) -> list[str]:
    return [str(r) for r in pq.read_table(desk.path(index_path), columns=["record_id"]).column(0).to_pylist()]


def _cost(desk: Desk, paid: Paid) -> Iterator[Broken]:
    invoiced = sum((Decimal(line["cost_usd"]) for line in paid.lines), Decimal(0))
    spent = sum((Decimal(str(row["cost_units"])) for row in desk.ledger.dump("spend")), Decimal(0)) * UNIT_USD
    if invoiced != spent:
        yield Broken("cost", f"the ledger has spent {spent} USD, the invoice says {invoiced}")


def _story(desk: Desk) -> Iterator[Broken]:
    at: dict[int, str] = {}
    intents: dict[int, str] = {}
    for row in desk.ledger.dump("event"):
        move, before, after = str(row["move"]), row["before"], row["after"]
        if isinstance(row["intent_id"], int) and row["intent_id"]:
            allowed = INTENT_STORY.get(intents.get(row["intent_id"]), set())
            if move not in allowed:
                what = f"intent {row['intent_id']}: {move!r} after {intents.get(row['intent_id'])!r}"
                yield Broken("story", what, chunks=(int(str(row["chunk_id"])),))
            intents[row["intent_id"]] = move
        if not isinstance(row["chunk_id"], int) or after is None:
            continue
        chunk = row["chunk_id"]
        now, then = at.get(chunk, ChunkState.READY.value), str(after)
        if before is not None and before != now:
            yield Broken("story", f"chunk {chunk}: {move!r} starts from {before}, but it was {now}", chunks=(chunk,))
        if ChunkState(then) not in CHUNK_MOVES[ChunkState(now)]:
            yield Broken("story", f"chunk {chunk}: {move!r} moves it from {now} to {then}", chunks=(chunk,))
        at[chunk] = then
    for found in desk.ledger.chunks():
        if found.state.value != at.get(found.id, ChunkState.READY.value):
            what = f"chunk {found.id} is {found.state}, its story ends with {at.get(found.id)}"
            yield Broken("story", what, chunks=(found.id,))


def _unfinished(desk: Desk, paid: Paid) -> Iterator[Broken]:
    for chunk in desk.ledger.chunks():
        if chunk.state in IN_FLIGHT or chunk.state in (ChunkState.READY, ChunkState.HELD):
            yield Broken("unfinished", f"chunk {chunk.id} is {chunk.state}", chunk.requests, (chunk.id,))
    if desk.ledger.in_flight() != (0, 0):
        yield Broken("unfinished", f"in flight, and reserved: {desk.ledger.in_flight()}")
    closed = {str(row["batch_id"]) for row in desk.ledger.dump("intent") if row["state"] == "closed"}
    accepted = {line["batch_id"] for line in paid.lines}
    if closed != accepted:
        yield Broken("unfinished", f"batches collected and batches accepted differ: {sorted(closed ^ accepted)}")
    for intent in desk.ledger.unsettled_intents():
        yield Broken("unfinished", f"intent {intent.id} is {intent.state}", chunks=(intent.chunk_id,))


def stories(desk: Desk, chunks: set[int]) -> str:
    """The event table of some chunks, and of what belongs to no chunk, for people."""
    columns = [c.name for c in metadata.tables["event"].columns if c.name not in ("workload", "snapshot")]
    rows = [row for row in desk.ledger.dump("event") if row["chunk_id"] is None or row["chunk_id"] in chunks]
    lines = [" | ".join("" if row[c] is None else str(row[c]) for c in columns) for row in rows]
    return "\n".join([" | ".join(columns), *lines])
