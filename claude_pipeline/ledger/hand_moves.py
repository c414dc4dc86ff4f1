"""Moves on a person's word, or on evidence that comes late: cancel, retry, split, found again, gone for ever."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from claude_pipeline.ledger import halving, table
from claude_pipeline.ledger.halving import SPLIT
from claude_pipeline.ledger.record import BatchSeen, ChunkRow, IntentRow, NewChunk, SnapshotRow, Tag
from claude_pipeline.ledger.state import ChunkState, IntentState
from claude_pipeline.ledger.statement import insert_row, update_rows
from claude_pipeline.ledger.submit_moves import CANCELED_BY_HAND, SubmitMoves

AS_IS = "as_is/"  # begins the setting that holds a person's word about a batch
UNSENT = (ChunkState.READY, ChunkState.HELD)


class HandMoves(SubmitMoves):
    """What a person may do to a snapshot or a chunk, and what is found out late."""

    def snapshot_canceled(self, snapshot: SnapshotRow, *, at: datetime) -> list[ChunkRow]:
        """Nothing more of it is sent; returns its chunks that are at the API, or may be."""
        with self._writing() as connection:
            self._move_snapshot(connection, snapshot, canceled_at=at)
            of_snapshot = (table.chunk.c.workload == snapshot.workload) & (table.chunk.c.snapshot == snapshot.id)
            rows = connection.execute(select(table.chunk).where(of_snapshot).order_by(table.chunk.c.id)).mappings()
            chunks = [ChunkRow.of(row) for row in rows]
            for chunk in chunks:
                if chunk.state in UNSENT:
                    self._move(
                        connection, chunk, ChunkState.CANCELED, at, move="chunk canceled", error=CANCELED_BY_HAND,
                        error_type=None,
                    )  # fmt: skip
            connection.execute(
                delete(table.snapshot_wait).where(
                    table.snapshot_wait.c.workload == snapshot.workload, table.snapshot_wait.c.snapshot == snapshot.id
                )
            )
            self._snapshot_event(connection, "snapshot canceled", snapshot, at, "by hand")
        return [c for c in chunks if c.state in (ChunkState.SENDING, ChunkState.LIVE, ChunkState.ASKING)]

    def batch_cancel_asked(self, chunk: ChunkRow, *, at: datetime) -> None:
        """The API was asked to cancel its batch; what is answered by then stays answered and billed."""
        with self._writing() as connection:
            update_rows(connection, table.chunk, {"id": chunk.id}, cancel_asked_at=at)
            self._chunk_event(connection, "cancel asked", chunk, at, batch_id=chunk.batch_id)

    def chunk_ready_again(self, chunk: ChunkRow, *, at: datetime) -> None:
        """A person sends a failed or withdrawn chunk again. Nothing of it was accepted, so nothing was paid."""
        with self._writing() as connection:
            self._move(connection, chunk, ChunkState.READY, at, move="chunk sent again by hand", error=None)

    def snapshot_retried(
        self,
        snapshot: SnapshotRow,
        *,
        again: Sequence[ChunkRow],
        chunks: Sequence[NewChunk],
        rounds_used: int,
        at: datetime,
    ) -> None:
        """Its dead letters are asked again: in chunks that were never accepted, and in new ones."""
        with self._writing() as connection:
            # Its merge is out of date from now on, whatever becomes of what is asked.
            self._move_snapshot(
                connection, snapshot, canceled_at=None, rounds_used=rounds_used, merged_chunks=None, wanted_from=at
            )
            connection.execute(
                update(table.chunk)
                .where(table.chunk.c.workload == snapshot.workload, table.chunk.c.snapshot == snapshot.id)
                .values(next_round_cut=1)  # what they left unanswered is in the new ones, or was not wanted
            )
            for chunk in again:
                self._move(
                    connection, chunk, ChunkState.READY, at, move="chunk sent again by hand", error=None,
                    next_round_cut=0,
                )  # fmt: skip
            self._add_chunks(connection, snapshot, chunks, at)
            requests = sum(c.requests for c in chunks) + sum(c.requests for c in again)
            self._snapshot_event(connection, "dead letters retried", snapshot, at, f"{requests} requests")

    def to_halve(self, workload: str) -> list[ChunkRow]:
        """Refused chunks that go again in halves; see `ledger.halving`."""
        with self._reading() as connection:
            return halving.to_halve(connection, workload)

    def chunk_split(self, chunk: ChunkRow, halves: Sequence[NewChunk], *, at: datetime) -> None:
        """The API refused it, and one half may be accepted: its halves take its place."""
        with self._writing() as connection:
            self._move(
                connection,
                chunk,
                ChunkState.CANCELED,
                at,
                move="chunk split",
                error="its halves took its place",
                error_type=SPLIT,
            )
            snapshot = connection.execute(
                select(table.snapshot).where(
                    table.snapshot.c.workload == chunk.workload, table.snapshot.c.id == chunk.snapshot
                )
            )
            self._add_chunks(connection, SnapshotRow.of(snapshot.mappings().one()), halves, at)

    def taken_as_is(self, chunk: ChunkRow, *, at: datetime) -> None:
        """A person's word that the results of its batch will not become better."""
        self.put_setting(f"{AS_IS}{chunk.batch_id}", chunk.partition_key, at=at, move="results to be taken as they are")

    def is_taken_as_is(self, batch_id: str) -> bool:
        return self.get_setting(f"{AS_IS}{batch_id}") is not None

    def batch_gone(self, chunk: ChunkRow, reason: str, *, at: datetime) -> None:
        """Its results can never be had: its records become dead letters, its reserve stays committed."""
        with self._writing() as connection:
            self._close_intent(connection, chunk, at)
            self._move(
                connection, chunk, ChunkState.CANCELED, at, move="results gone", error=reason, error_type="results_gone"
            )

    def batch_late(self, intent: IntentRow, seen: BatchSeen, *, at: datetime) -> bool:
        """A batch shows up whose intent was taken as not accepted.

        Adopted where its chunk was not sent again meanwhile, whole or in halves; else recorded as paid twice. Returns
        whether it was adopted.
        """
        with self._writing() as connection:
            chunk = self._chunk_of(connection, intent)
            free = chunk.state in (*UNSENT, ChunkState.FAILED, ChunkState.CANCELED) and chunk.batch_id is None
            if free and chunk.error_type != SPLIT and intent.state in (IntentState.ABSENT, IntentState.REJECTED):
                self._move_intent(connection, intent, IntentState.LIVE, at, batch_id=seen.id)
                self._see(connection, seen, at, chunk_id=chunk.id, tag=intent.tag)
                self._move(
                    connection, chunk, ChunkState.LIVE, at, move="batch adopted late", intent_id=intent.id,
                    batch_id=seen.id, error=None, error_type=None,
                )  # fmt: skip
                return True
            self._see(connection, seen, at, chunk_id=None, tag=intent.tag)
            update_rows(connection, table.batch, {"id": seen.id}, paid_twice=1)
            again = "in halves" if chunk.error_type == SPLIT else f"as {chunk.batch_id}"
            detail = f"its chunk was sent again {again}; its answers are not merged"
            self._chunk_event(connection, "paid twice", chunk, at, intent_id=intent.id, batch_id=seen.id, detail=detail)
            return False

    def batch_remembered(self, chunk: ChunkRow, tag: Tag, seen: BatchSeen, *, at: datetime) -> None:
        """A batch that the ledger had forgotten is its chunk's: as if it had never been forgotten."""
        with self._writing() as connection:
            insert_row(
                connection, table.intent, chunk_id=chunk.id, tag=tag, requests=seen.requests, watermark=seen.id,
                state=IntentState.LIVE, batch_id=seen.id, created_at=at,
            )  # fmt: skip
            self._see(connection, seen, at, chunk_id=chunk.id, tag=tag)
            self._move(
                connection, chunk, ChunkState.LIVE, at, move="batch remembered", batch_id=seen.id, error=None,
                attempts=chunk.attempts + 1,
            )  # fmt: skip

    def batch_orphaned(self, tag: Tag, seen: BatchSeen, *, at: datetime) -> None:
        """A batch of this ledger that no chunk it knows can be: kept in view, its answers belong to nothing."""
        with self._writing() as connection:
            self._see(connection, seen, at, chunk_id=None, tag=tag)
            self._event(connection, "batch belongs to nothing known", at, batch_id=seen.id, detail=tag)

    def params_dropped(self, chunk_ids: Sequence[int], *, at: datetime) -> None:
        """Their params are about to be removed: no further round is cut from them, whatever max_rounds becomes."""
        if not chunk_ids:
            return
        with self._writing() as connection:
            connection.execute(update(table.chunk).where(table.chunk.c.id.in_(chunk_ids)).values(next_round_cut=1))
            self._event(connection, "params dropped", at, detail=f"{len(chunk_ids)} chunks")
