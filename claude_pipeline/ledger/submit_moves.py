"""Moves of a chunk, its intents and its batch: the submit protocol's memory.

Each method is one transaction, compare-and-set on the state it expects, and leaves one event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import BudgetReached, LedgerError, WorkspaceMismatch
from claude_pipeline.ledger import table
from claude_pipeline.ledger.budget import ToReserve, budget_before
from claude_pipeline.ledger.record import BatchId, BatchSeen, ChunkRow, Collected, IntentRow, Part, Tag, Walls
from claude_pipeline.ledger.snapshot_moves import SnapshotMoves
from claude_pipeline.ledger.state import (
    ChunkState,
    IntentState,
    check_chunk_move,
    check_intent_move,
)
from claude_pipeline.ledger.statement import insert_row, rows_where, update_rows
from claude_pipeline.ledger.store import require

CANCELED_BY_HAND = "canceled by hand"


class QueueFull(LedgerError):
    """The tier's queue, or the cap on batches in flight, has no room for the chunk now."""


class SubmitMoves(SnapshotMoves):
    """What may happen to a chunk on its way to an answer."""

    def pin_workspace(self, workspace_id: str | None, *, at: datetime) -> None:
        """Remember the workspace of the first answer; refuse another one ever after.

        Raises:
            WorkspaceMismatch: the key belongs to another workspace: its list proves nothing here.
        """
        if workspace_id is None:
            return
        pinned = self.get_setting("workspace_id")
        if pinned is None:
            self.put_setting("workspace_id", workspace_id, at=at, move="workspace pinned")
        elif pinned != workspace_id:
            raise WorkspaceMismatch(
                f"this ledger belongs to workspace {pinned}, the key to {workspace_id}; use a key of {pinned}, "
                "or another home"
            )

    def intent_opened(
        self, chunk: ChunkRow, *, tag: Tag, watermark: BatchId | None, walls: Walls, at: datetime
    ) -> IntentRow:
        """Note that a chunk is about to be sent; takes the budget's reserve in the same transaction.

        Raises:
            BudgetReached: its reserve would pass a wall; the chunk is `held` now.
            QueueFull: no room in the API's queue now; the chunk stays as it is.
        """
        with self._writing() as connection:
            refusal = self._wall_before(connection, chunk, walls, at)
            if refusal is None:
                intent_id = self._open(connection, chunk, tag, watermark, at)
                row = rows_where(connection, table.intent, id=intent_id).one()
            elif chunk.state is ChunkState.READY:
                self._move(connection, chunk, ChunkState.HELD, at, move="chunk held", error=refusal)
        if refusal is not None:
            raise BudgetReached(refusal)
        intent = IntentRow.of(row)
        self.put_mark(intent.id)
        return intent

    def _open(self, connection: Connection, chunk: ChunkRow, tag: Tag, watermark: BatchId | None, at: datetime) -> int:
        if chunk.state is ChunkState.HELD:
            self._move(connection, chunk, ChunkState.READY, at, move="chunk released", error=None)
        moved = update_rows(
            connection, table.chunk, {"id": chunk.id, "state": ChunkState.READY}, state=ChunkState.SENDING, moved_at=at,
            attempts=chunk.attempts + 1, error=None, error_type=None, not_before=None, batch_id=None,
        )  # fmt: skip
        require(moved, f"chunk {chunk.partition_key} is no longer ready")
        opened = insert_row(
            connection, table.intent, chunk_id=chunk.id, tag=tag, requests=chunk.requests, watermark=watermark,
            state=IntentState.OPEN, created_at=at,
        )  # fmt: skip
        key = opened.inserted_primary_key
        assert key is not None
        self._chunk_event(
            connection,
            "intent opened",
            chunk,
            at,
            intent_id=key[0],
            before=ChunkState.READY,
            after=ChunkState.SENDING,
            detail=tag,
        )
        return int(key[0])

    def wall_before(self, chunk: ToReserve, walls: Walls, *, at: datetime) -> str | None:
        """The sentence of the budget that forbids sending a chunk at that moment; None where none does."""
        with self._reading() as connection:
            return budget_before(connection, [chunk], walls, at)

    def wall_before_all(self, chunks: Sequence[ChunkRow], walls: Walls, *, at: datetime) -> str | None:
        """As `wall_before`, of several chunks of one snapshot together."""
        with self._reading() as connection:
            return budget_before(connection, chunks, walls, at)

    def _wall_before(self, connection: Connection, chunk: ChunkRow, walls: Walls, at: datetime) -> str | None:
        """As `wall_before`; raises QueueFull where only room is missing."""
        in_flight = table.chunk.c.state.in_([ChunkState.SENDING, ChunkState.LIVE])
        queued, batches = connection.execute(
            select(func.coalesce(func.sum(table.chunk.c.requests), 0), func.count()).where(in_flight)
        ).one()
        if batches >= walls.batches_in_flight or (batches and queued + chunk.requests > walls.queued_requests):
            raise QueueFull(
                f"{batches} batches with {queued:,} requests are in the API's queue of {walls.queued_requests:,}; "
                f"chunk {chunk.partition_key} waits for room"
            )
        return budget_before(connection, [chunk], walls, at)

    def reserve_raised(self, chunk: ChunkRow, reserve_units: int, *, at: datetime) -> ChunkRow:
        """What it may cost at most has become more since it was cut: prices rose."""
        with self._writing() as connection:
            unsent = table.chunk.c.state.in_([ChunkState.READY, ChunkState.HELD])
            moved = connection.execute(
                update(table.chunk).where(table.chunk.c.id == chunk.id, unsent).values(reserve_units=reserve_units)
            )
            if moved.rowcount:  # else it was sent meanwhile
                detail = f"{chunk.reserve_units} -> {reserve_units} units"
                self._chunk_event(connection, "reserve raised", chunk, at, detail=detail)
            return self._chunk(connection, chunk.id)

    def intent_live(self, intent: IntentRow, seen: BatchSeen, *, at: datetime, move: str = "batch created") -> None:
        """The API accepted it under that batch id (`move="batch adopted"` when found later)."""
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            self._move_intent(connection, intent, IntentState.LIVE, at, batch_id=seen.id)
            self._see(connection, seen, at, chunk_id=chunk.id, tag=intent.tag)
            self._move(
                connection, chunk, ChunkState.LIVE, at, move=move, intent_id=intent.id, batch_id=seen.id, error=None
            )
            crash_point("intent_live.before_commit")

    def intent_refused(
        self,
        intent: IntentRow,
        *,
        chunk_state: ChunkState,
        error: str,
        error_type: str,
        not_before: datetime | None,
        at: datetime,
    ) -> None:
        """The API refused it clearly, or it never left: the chunk is ready again, or failed."""
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            self._move_intent(connection, intent, IntentState.REJECTED, at)
            self._move(
                connection,
                chunk,
                chunk_state,
                at,
                move="create refused",
                intent_id=intent.id,
                error=error,
                error_type=error_type,
                not_before=not_before,
            )
            self._withdraw_if_canceled(connection, chunk.id, at)

    def intent_doubted(self, intent: IntentRow, *, reason: str, at: datetime) -> None:
        """No clear answer: nothing is sent again until the API's list has told."""
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            self._move_intent(connection, intent, IntentState.DOUBT, at, doubt_at=at, doubt_reason=reason)
            self._chunk_event(connection, "create in doubt", chunk, at, intent_id=intent.id, detail=reason)

    def candidates_frozen(self, intent: IntentRow, candidates: Sequence[BatchId], *, at: datetime) -> None:
        """These batches, and no later one, may be the doubtful intent's."""
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            doubtful = {"id": intent.id, "state": IntentState.DOUBT}
            moved = update_rows(connection, table.intent, doubtful, candidates=json.dumps(list(candidates)))
            require(moved, f"intent {intent.tag} is no longer in doubt")
            self._chunk_event(
                connection, "candidates frozen", chunk, at, intent_id=intent.id, detail=", ".join(candidates) or "none"
            )

    def intent_absent(self, intent: IntentRow, *, at: datetime) -> None:
        """The API's list shows that it was not accepted: the chunk is ready again."""
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            self._move_intent(connection, intent, IntentState.ABSENT, at)
            self._move(connection, chunk, ChunkState.READY, at, move="create was not accepted", intent_id=intent.id)
            self._withdraw_if_canceled(connection, chunk.id, at)

    def _withdraw_if_canceled(self, connection: Connection, chunk_id: int, at: datetime) -> None:
        """A create under way when its snapshot was canceled is not made again."""
        chunk = self._chunk(connection, chunk_id)
        canceled = select(table.snapshot.c.canceled_at).where(
            table.snapshot.c.workload == chunk.workload, table.snapshot.c.id == chunk.snapshot
        )
        if chunk.state is ChunkState.READY and connection.execute(canceled).scalar() is not None:
            self._move(
                connection,
                chunk,
                ChunkState.CANCELED,
                at,
                move="chunk canceled",
                error=CANCELED_BY_HAND,
                error_type=None,
            )

    def batch_foreign(self, seen: BatchSeen, *, at: datetime) -> None:
        """A batch of our workspace that is not of this ledger."""
        with self._writing() as connection:
            self._see(connection, seen, at, chunk_id=None, tag=None)
            self._event(connection, "batch is not ours", at, batch_id=seen.id)

    def batch_seen(self, *batches: BatchSeen, at: datetime) -> None:
        """What a poll said of some of our batches; the end of one moves its chunk on. Safe to repeat."""
        with self._writing() as connection:
            for seen in batches:
                self._batch_seen(connection, seen, at)

    def _batch_seen(self, connection: Connection, seen: BatchSeen, at: datetime) -> None:
        row = rows_where(connection, table.batch, id=seen.id).first()
        if row is None or row["chunk_id"] is None:
            return
        self._see(connection, seen, at, chunk_id=row["chunk_id"], tag=row["tag"])
        if not seen.ended:
            return
        chunk = self._chunk(connection, row["chunk_id"])
        if chunk.state is ChunkState.LIVE and chunk.batch_id == seen.id:
            self._move(
                connection, chunk, ChunkState.ENDED, at, move="batch ended", batch_id=seen.id,
                detail=", ".join(f"{count} {outcome}" for outcome, count in seen.counts.items() if count),
            )  # fmt: skip

    def chunk_collected(self, chunk: ChunkRow, collected: Collected, parts: Sequence[Part], *, at: datetime) -> None:
        """Its results are on disk; the reserve shrinks to what was spent. Safe to repeat."""
        with self._writing() as connection:
            now = self._chunk(connection, chunk.id)
            if now.state is ChunkState.DONE:
                return
            self._close_intent(connection, chunk, at)
            for part in parts:
                self._add_part(connection, part, at)
            for spend in collected.spend:
                insert_row(connection, table.spend, chunk_id=chunk.id, **spend.__dict__)
            self._move(
                connection,
                now,
                ChunkState.DONE,
                at,
                move="chunk collected",
                batch_id=chunk.batch_id,
                detail=f"{collected.succeeded} succeeded, {collected.errored} errored, {collected.canceled} canceled, "
                f"{collected.expired} expired",
                collected_at=at,
                succeeded=collected.succeeded,
                errored=collected.errored,
                canceled=collected.canceled,
                expired=collected.expired,
                retryable=collected.retryable,
                stopped=collected.stopped,
                moves_on=collected.moves_on,
                invalid=collected.invalid,
                input_tokens=collected.input_tokens,
                output_tokens=collected.output_tokens,
                cost_units=collected.cost_units,
                kept_units=collected.kept_units,
                lost=collected.lost,
            )
            if collected.stop is not None:
                self._stop_account(connection, "lines", collected.stop, at)
            else:
                self._settle_probe(connection, chunk.id, at)
            crash_point("chunk_collected.before_commit")

    def _close_intent(self, connection: Connection, chunk: ChunkRow, at: datetime) -> None:
        """That of a chunk's batch; what was asked in real time has none."""
        if chunk.batch_id is not None:
            live = {"batch_id": chunk.batch_id, "state": IntentState.LIVE}
            update_rows(connection, table.intent, live, state=IntentState.CLOSED, settled_at=at)

    def _move(
        self,
        connection: Connection,
        chunk: ChunkRow,
        after: ChunkState,
        at: datetime,
        *,
        move: str,
        intent_id: int | None = None,
        detail: str | None = None,
        **columns: object,
    ) -> None:
        check_chunk_move(chunk.state, after)
        before = {"id": chunk.id, "state": chunk.state}
        moved = update_rows(connection, table.chunk, before, state=after, moved_at=at, **columns)
        require(moved, f"chunk {chunk.partition_key} is no longer {chunk.state}")
        batch_id = columns.get("batch_id", chunk.batch_id)
        self._chunk_event(
            connection, move, chunk, at, intent_id=intent_id, batch_id=batch_id, before=chunk.state, after=after,
            detail=detail or columns.get("error"),
        )  # fmt: skip

    def _move_intent(
        self, connection: Connection, intent: IntentRow, after: IntentState, at: datetime, **columns: object
    ) -> None:
        check_intent_move(intent.state, after)
        before, settled_at = {"id": intent.id, "state": intent.state}, None if after is IntentState.DOUBT else at
        moved = update_rows(connection, table.intent, before, state=after, settled_at=settled_at, **columns)
        require(moved, f"intent {intent.tag} is no longer {intent.state}")

    def _chunk_event(self, connection: Connection, move: str, chunk: ChunkRow, at: datetime, **columns: object) -> None:
        self._event(
            connection, move, at, workload=chunk.workload, snapshot=chunk.snapshot, chunk_id=chunk.id, **columns
        )

    def _see(
        self, connection: Connection, seen: BatchSeen, at: datetime, *, chunk_id: int | None, tag: str | None
    ) -> None:
        values = {
            "chunk_id": chunk_id,
            "tag": tag,
            "requests": seen.requests,
            "status": seen.status,
            "created_at": seen.created_at,
            "expires_at": seen.expires_at,
            "ended_at": seen.ended_at,
            "archived_at": seen.archived_at,
            "counts": json.dumps(seen.counts),
            "seen_at": at,
        }
        if not update_rows(connection, table.batch, {"id": seen.id}, **values):
            insert_row(connection, table.batch, id=seen.id, **values)

    def _chunk(self, connection: Connection, chunk_id: int) -> ChunkRow:
        return ChunkRow.of(rows_where(connection, table.chunk, id=chunk_id).one())

    def _chunk_of(self, connection: Connection, intent: IntentRow) -> ChunkRow:
        return self._chunk(connection, intent.chunk_id)
