"""Moves of the real-time lane: chunks that are asked, and the processes that share the limits.

A chunk that is asked needs no intent: its journal holds what was sent and what came back. Its reserve
is taken when it begins, at the real-time price, and grows by each request that has to be asked again
although its first answer may have been paid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update

from claude_pipeline.errors import BudgetReached
from claude_pipeline.ledger import table
from claude_pipeline.ledger.budget import budget_before
from claude_pipeline.ledger.hand_moves import HandMoves
from claude_pipeline.ledger.record import AskingRow, ChunkRow, RateRow, Walls
from claude_pipeline.ledger.state import ChunkState
from claude_pipeline.ledger.statement import insert_row, update_rows
from claude_pipeline.ledger.store import require

REALTIME = "realtime"


def ask_lock(workload: str) -> str:
    """The lock of the one process that asks for a workload."""
    return f"ask-{workload}"


ASKING_STARTED = "asking started"
# A heartbeat older than this is of a process that ended without a word. Its share of the limits goes to the
# others; should it live after all, the API's 429s are the worst that comes of it.
HEARTBEAT_SECONDS_MAX = 15.0


class AskMoves(HandMoves):
    """What may happen in the real-time lane."""

    def asking_started(self, chunk: ChunkRow, *, reserve_units: int, walls: Walls, why: str, at: datetime) -> ChunkRow:
        """A chunk is about to be asked in real time; takes the budget's reserve in the same transaction.

        Raises:
            BudgetReached: its reserve would pass a wall; the chunk is `held` now.
        """
        priced = replace(chunk, reserve_units=reserve_units)
        with self._writing() as connection:
            refusal = budget_before(connection, [priced], walls, at)
            if refusal is None:
                self._move(
                    connection, chunk, ChunkState.ASKING, at, move=ASKING_STARTED, detail=why, lane=REALTIME,
                    attempts=chunk.attempts + 1, error=None, error_type=None, not_before=None, batch_id=None,
                    reserve_units=reserve_units,
                )  # fmt: skip
            elif chunk.state is ChunkState.READY:
                self._move(connection, chunk, ChunkState.HELD, at, move="chunk held", error=refusal)
            if refusal is None:
                return self._chunk(connection, chunk.id)
        raise BudgetReached(refusal)

    def lost_reserved(self, chunk: ChunkRow, units: int, walls: Walls, *, at: datetime) -> str | None:
        """Reserve once more for a request whose answer was lost, before it is asked again.

        Returns the sentence of the wall that stands before that; nothing is reserved then.
        """
        with self._writing() as connection:
            refusal = budget_before(connection, [replace(chunk, reserve_units=units)], walls, at)
            if refusal is None:
                asked = (table.chunk.c.id == chunk.id) & (table.chunk.c.state == ChunkState.ASKING)
                more = table.chunk.c.reserve_units + units
                moved = connection.execute(update(table.chunk).where(asked).values(reserve_units=more, moved_at=at))
                require(moved.rowcount, f"chunk {chunk.partition_key} is no longer being asked")
            return refusal

    def lost_found(self, chunk: ChunkRow, *, reserve_units: int, lost: int, walls: Walls, at: datetime) -> str | None:
        """Requests were in flight when their process died: they may have been paid, and `reserve_units` lets them be
        asked again.

        Returns the sentence of the wall that stands before that; the reserve is as it was then. Both figures are of
        the whole chunk, from its journal, so that repeating it changes nothing.
        """
        with self._writing() as connection:
            now = self._chunk(connection, chunk.id)
            require(now.state is ChunkState.ASKING, f"chunk {chunk.partition_key} is no longer being asked")
            more = max(0, reserve_units - now.reserve_units)
            refusal = budget_before(connection, [replace(now, reserve_units=more)], walls, at) if more else None
            reserve = now.reserve_units + (0 if refusal else more)
            update_rows(connection, table.chunk, {"id": chunk.id}, reserve_units=reserve, lost=lost, moved_at=at)
            if lost > now.lost:
                detail = f"{lost - now.lost} in flight when their process died: they may have been paid"
                self._chunk_event(connection, "answers lost", chunk, at, detail=detail)
            return refusal

    def asking_paused(self, chunk: ChunkRow, until: datetime, why: str, *, at: datetime) -> None:
        """The API asked to wait longer than a run stays: the chunk goes on after that moment."""
        with self._writing() as connection:
            asked = {"id": chunk.id, "state": ChunkState.ASKING}
            update_rows(connection, table.chunk, asked, not_before=until, error=why)
            self._chunk_event(connection, "asking paused", chunk, at, detail=why)

    def chunk_rescued(self, chunk: ChunkRow, why: str, *, at: datetime) -> None:
        """Its batch is to be canceled, so that what it did not answer can be asked in real time."""
        with self._writing() as connection:
            update_rows(connection, table.chunk, {"id": chunk.id, "state": ChunkState.LIVE}, rescued_at=at)
            self._chunk_event(connection, "rescue begun", chunk, at, batch_id=chunk.batch_id, detail=why)

    # -- who asks now, and what the limits are -------------------------------------------------------

    def asking_beat(self, row: AskingRow) -> list[AskingRow]:
        """Say that a process still asks, and how far it is; returns all that do, itself included."""
        values = asdict(row)
        with self._writing() as connection:
            stale = row.seen_at - timedelta(seconds=HEARTBEAT_SECONDS_MAX)
            connection.execute(delete(table.asking).where(table.asking.c.seen_at < stale))
            if not update_rows(connection, table.asking, {"id": row.id}, **values):
                insert_row(connection, table.asking, **values)
            rows = connection.execute(select(table.asking).order_by(table.asking.c.id)).mappings()
            return [AskingRow.of(beat) for beat in rows]

    def asking_alone(self, workload: str) -> None:
        """Whoever holds the lock of asking for a workload is the only one: others that were told of are dead."""
        with self._writing() as connection:
            connection.execute(delete(table.asking).where(table.asking.c.workload == workload))

    def asking_ended(self, asking_id: str) -> None:
        """A process has stopped asking: its share of the limits is the others'."""
        with self._writing() as connection:
            connection.execute(delete(table.asking).where(table.asking.c.id == asking_id))

    def asking(self, *, at: datetime) -> list[AskingRow]:
        """The processes that ask now."""
        alive = table.asking.c.seen_at >= at - timedelta(seconds=HEARTBEAT_SECONDS_MAX)
        with self._reading() as connection:
            rows = connection.execute(select(table.asking).where(alive).order_by(table.asking.c.id)).mappings()
            return [AskingRow.of(row) for row in rows]

    def asked_from(self, workload: str, snapshot: str) -> datetime | None:
        """When the first chunk of a snapshot began to be asked in real time."""
        event, chunk = table.event, table.chunk
        of = (chunk.c.workload == workload) & (chunk.c.snapshot == snapshot) & (event.c.move == ASKING_STARTED)
        with self._reading() as connection:
            query = select(func.min(event.c.at)).join(chunk, chunk.c.id == event.c.chunk_id).where(of)
            found: datetime | None = connection.execute(query).scalar()
            return found

    def lost(self) -> list[tuple[str, str, int]]:
        """Workload, snapshot and the number of answers in real time that may have been paid and were lost."""
        chunk = table.chunk
        of = (chunk.c.workload, chunk.c.snapshot)
        query = select(*of, func.sum(chunk.c.lost)).where(chunk.c.lost > 0).group_by(*of).order_by(*of)
        with self._reading() as connection:
            return [(workload, snapshot, int(lost)) for workload, snapshot, lost in connection.execute(query)]

    def rate_told(self, row: RateRow) -> None:
        """Remember what the API told of a pool's limits, for the other processes and the next one."""
        values = asdict(row)
        with self._writing() as connection:
            if not update_rows(connection, table.rate, {"pool": row.pool}, **values):
                insert_row(connection, table.rate, **values)

    def rates(self) -> dict[str, RateRow]:
        """What is known of the limits from the API itself, by pool."""
        with self._reading() as connection:
            rows = [RateRow.of(row) for row in connection.execute(select(table.rate)).mappings()]
        return {row.pool: row for row in rows}


def pools_of(row: AskingRow) -> Sequence[str]:
    return list(json.loads(row.pools))
