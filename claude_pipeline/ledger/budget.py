"""The budget's walls: what stands committed, and the wall that a chunk would pass.

    committed = spent by what is collected + reserved by what is in flight + reserved by what was lost

Lost is a batch whose cost nobody can know any more: its results are gone, its chunk was sent again,
or it was accepted long after it was given up. Its upper bound stays, and so does that of a single
answer that came without its usage. Read inside the intent's transaction, so that no two processes
can both fit the same room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, Select, func, select, true

from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import Walls
from claude_pipeline.ledger.state import IN_FLIGHT, ChunkState
from claude_pipeline.money import sum_over

# A batch counts for the day of its creation at the API, whose clock may be behind ours: for so long after
# midnight the day before is still counted in.
DAY_MARGIN = timedelta(minutes=5)


class ToReserve(Protocol):
    """A chunk, or what may become one."""

    @property
    def workload(self) -> str: ...
    @property
    def snapshot(self) -> str: ...
    @property
    def reserve_units(self) -> int: ...


def budget_before(connection: Connection, chunks: Sequence[ToReserve], walls: Walls, at: datetime) -> str | None:
    """The sentence of the first wall that sending these chunks of one snapshot at that moment would pass; None
    where none is."""
    if not chunks:
        return None
    chunk, reserve = chunks[0], sum(chunk.reserve_units for chunk in chunks)
    what = "this chunk" if len(chunks) == 1 else f"{len(chunks):,} chunks"
    of_workload = table.chunk.c.workload == chunk.workload
    of_snapshot = of_workload & (table.chunk.c.snapshot == chunk.snapshot)
    start = day_start(at)
    way_out = f"raise it, or wait: it goes on after {start + timedelta(days=1) + DAY_MARGIN:%Y-%m-%d %H:%M} UTC"
    every = (
        ("budget_usd", walls.snapshot_units, of_snapshot, None, "raise budget_usd to go on"),
        ("budget_usd_per_day", walls.day_units, of_workload, start, way_out),
        ("CLAUDE_PIPELINE_BUDGET_USD", walls.ledger_units, true(), None, "raise CLAUDE_PIPELINE_BUDGET_USD to go on"),
    )
    for name, limit, where, since, way in every:
        if limit is None:
            continue
        spent = committed(connection, where, since)
        if spent + reserve > limit:
            usd = sum_over((spent, reserve), limit)
            return f"would pass {name}: {usd[0]} committed + {usd[1]} reserved for {what} > {usd[2]}; {way}"
    return None


def day_start(at: datetime) -> datetime:
    """Midnight UTC from which on spending counts for the day of that moment."""
    return (at.astimezone(UTC) - DAY_MARGIN).replace(hour=0, minute=0, second=0, microsecond=0)


def committed(connection: Connection, where: ColumnElement[bool], since: datetime | None) -> int:
    """Units committed by the chunks `where`; with `since`, of those sent or billed from then on.

    What is in flight always counts: on which day it will be billed is not known before it is collected.
    """
    chunk, intent, batch = table.chunk, table.intent, table.batch
    reserve, cost = _sum(chunk.c.reserve_units), _sum(chunk.c.cost_units + func.coalesce(chunk.c.kept_units, 0))
    spent = select(cost).where(chunk.c.state == ChunkState.DONE)
    replaced = chunk.c.batch_id.is_(None) | (chunk.c.batch_id != intent.c.batch_id)
    lost = (
        select(reserve)
        .select_from(intent)
        .join(chunk, chunk.c.id == intent.c.chunk_id)
        .where(intent.c.batch_id.is_not(None), replaced | chunk.c.state.not_in([*IN_FLIGHT, ChunkState.DONE]))
    )
    twice = (
        select(reserve)
        .select_from(batch)
        .join(intent, intent.c.tag == batch.c.tag)
        .join(chunk, chunk.c.id == intent.c.chunk_id)
        .where(batch.c.paid_twice == 1, intent.c.batch_id.is_(None))
    )
    in_flight = select(reserve).where(chunk.c.state.in_(IN_FLIGHT))
    queries = [spent, in_flight, lost, twice]
    if since is not None:
        queries[0] = spent.where(chunk.c.batch_id.in_(_batches(since)))
        queries[2] = lost.where(intent.c.batch_id.in_(_batches(since)))
        queries[3] = twice.where((batch.c.created_at >= since) | (intent.c.created_at >= since))
        queries += _in_real_time(since)
    return sum(int(connection.execute(query.where(where)).scalar_one()) for query in queries)


def _in_real_time(since: datetime) -> list[Select[int]]:
    """Of answers in real time each minute has its own cost; of one that was lost no time is known but its chunk's end."""
    chunk, spend = table.chunk, table.spend
    realtime = (chunk.c.lane == "realtime") & (chunk.c.state == ChunkState.DONE)
    cost = select(_sum(spend.c.cost_units)).select_from(spend).join(chunk, chunk.c.id == spend.c.chunk_id)
    kept = select(_sum(func.coalesce(chunk.c.kept_units, 0)))
    return [cost.where(realtime, spend.c.billed_at >= since), kept.where(realtime, chunk.c.collected_at >= since)]


def _batches(since: datetime) -> Select[tuple[str]]:
    """Ids of batches created, or sent by our clock, from a moment on."""
    created = select(table.batch.c.id).where(table.batch.c.created_at >= since)
    sent = select(table.intent.c.batch_id).where(
        table.intent.c.created_at >= since, table.intent.c.batch_id.is_not(None)
    )
    return select(created.union(sent).subquery().c[0])


def _sum(column: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)
