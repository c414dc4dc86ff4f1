"""Ledger: what was sent and what became of it; the only writer of its database.

The moves stand in `snapshot_moves` and `submit_moves`, the database in `store`; here is what can be
asked of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, func, select

from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import BatchId, BatchRow, ChunkRow, IntentRow, Part, SnapshotId, SnapshotRow
from claude_pipeline.ledger.state import (
    TERMINAL,
    UNSETTLED_INTENTS,
    ChunkState,
    SnapshotState,
)
from claude_pipeline.ledger.submit_moves import SubmitMoves


@dataclass(frozen=True)
class SnapshotProgress:
    """A snapshot with the counts of its chunks: all that decisions need of it."""

    snapshot: SnapshotRow
    chunks: dict[ChunkState, int]
    requests: dict[ChunkState, int]
    due: int  # collected chunks whose unanswered requests another round may ask
    waits_on: tuple[SnapshotId, ...]  # snapshots whose answers it waits for, not yet settled
    waited_on: tuple[SnapshotId, ...]  # of those it named, settled ones: its wait may be over
    last_collected_at: datetime | None
    cost_units: int

    @property
    def pending(self) -> int:
        """Chunks that are not at their end."""
        return sum(count for state, count in self.chunks.items() if state not in TERMINAL)

    @property
    def settled(self) -> bool:
        """Nothing of it is on its way, and nothing is left to ask."""
        return self.snapshot.state is not SnapshotState.LOADED and not (self.pending or self.due or self.waits_on)


class _Count(NamedTuple):
    """The chunks of a snapshot in one state."""

    state: ChunkState
    chunks: int
    requests: int
    last: datetime | None  # collected_at
    cost_units: int


class Ledger(SubmitMoves):
    """An open ledger; see `Store.open`."""

    def snapshot(self, workload: str, snapshot_id: str) -> SnapshotRow | None:
        found = self._rows(
            select(table.snapshot).where(table.snapshot.c.workload == workload, table.snapshot.c.id == snapshot_id)
        )
        return next((SnapshotRow.of(row) for row in found), None)

    def snapshots(self, workload: str | None = None, *, partition: str | None = None) -> list[SnapshotRow]:
        """Oldest first."""
        query = select(table.snapshot).order_by(
            table.snapshot.c.workload, table.snapshot.c.partition, table.snapshot.c.number
        )
        if workload is not None:
            query = query.where(table.snapshot.c.workload == workload)
        if partition is not None:
            query = query.where(table.snapshot.c.partition == partition)
        return [SnapshotRow.of(row) for row in self._rows(query)]

    def chunks(
        self,
        workload: str | None = None,
        *,
        snapshot: str | None = None,
        states: Collection[ChunkState] | None = None,
    ) -> list[ChunkRow]:
        """In the order they were cut."""
        query = select(table.chunk).order_by(table.chunk.c.id)
        if workload is not None:
            query = query.where(table.chunk.c.workload == workload)
        if snapshot is not None:
            query = query.where(table.chunk.c.snapshot == snapshot)
        if states is not None:
            query = query.where(table.chunk.c.state.in_(list(states)))
        return [ChunkRow.of(row) for row in self._rows(query)]

    def chunk(self, chunk_id: int) -> ChunkRow:
        return next(ChunkRow.of(row) for row in self._rows(select(table.chunk).where(table.chunk.c.id == chunk_id)))

    def chunk_by_key(self, workload: str, snapshot: str, key: str) -> ChunkRow | None:
        query = select(table.chunk).where(
            table.chunk.c.workload == workload, table.chunk.c.snapshot == snapshot, table.chunk.c.key == key
        )
        return next((ChunkRow.of(row) for row in self._rows(query)), None)

    def last_number(self, workload: str, snapshot: str, round_number: int) -> int:
        """The highest chunk number cut for a round of a snapshot; 0 before the first."""
        query = select(func.coalesce(func.max(table.chunk.c.number), 0)).where(
            table.chunk.c.workload == workload,
            table.chunk.c.snapshot == snapshot,
            table.chunk.c.round == round_number,
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def unsettled_intents(self) -> list[IntentRow]:
        """Those open (a process died, or is at it) or in doubt."""
        query = (
            select(table.intent).where(table.intent.c.state.in_(list(UNSETTLED_INTENTS))).order_by(table.intent.c.id)
        )
        return [IntentRow.of(row) for row in self._rows(query)]

    def intent_by_tag(self, tag: str) -> IntentRow | None:
        return next(
            (IntentRow.of(row) for row in self._rows(select(table.intent).where(table.intent.c.tag == tag))), None
        )

    def batches(self, *, ids: Collection[str] | None = None, unended: bool = False) -> list[BatchRow]:
        """Batches as last seen, oldest first; `unended` gives those of ours still in progress."""
        query = select(table.batch).order_by(table.batch.c.created_at, table.batch.c.id)
        if ids is not None:
            query = query.where(table.batch.c.id.in_(list(ids)))
        if unended:
            # By the chunk's state: a batch may be known as ended before its chunk has moved on.
            query = query.join(table.chunk, table.chunk.c.batch_id == table.batch.c.id)
            query = query.where(table.chunk.c.state == ChunkState.LIVE)
        return [BatchRow.of(row) for row in self._rows(query)]

    def batch(self, batch_id: str) -> BatchRow | None:
        return next(iter(self.batches(ids=[batch_id])), None)

    def parts(
        self, workload: str, *, kinds: Collection[str], snapshot: str | None = None, plan_number: int | None = None
    ) -> list[Part]:
        """Current files of rows, in the order of their chunks."""
        query = (
            select(table.part)
            .where(table.part.c.workload == workload, table.part.c.kind.in_(list(kinds)), table.part.c.current == 1)
            .order_by(table.part.c.snapshot, table.part.c.chunk_id, table.part.c.path)
        )
        if snapshot is not None:
            query = query.where(table.part.c.snapshot == snapshot)
        if plan_number is not None:
            query = query.where(table.part.c.plan_number == plan_number)
        return [Part.of(row) for row in self._rows(query)]

    def merged_parts(self, workload: str) -> list[Part]:
        """The files of every merged snapshot, as its last merge named them, oldest snapshot first."""
        snapshot, part = table.snapshot, table.part
        query = (
            select(part)
            .join(snapshot, (snapshot.c.workload == part.c.workload) & (snapshot.c.id == part.c.snapshot))
            .where(
                part.c.workload == workload,
                part.c.kind.in_(["answered", "rest"]),
                part.c.current == 1,
                part.c.plan_number == snapshot.c.merged_plan,
                part.c.created_at <= snapshot.c.merged_at,
            )
            .order_by(snapshot.c.partition, snapshot.c.number, part.c.kind, part.c.chunk_id, part.c.path)
        )
        return [Part.of(row) for row in self._rows(query)]

    def sent_batches(self) -> dict[BatchId, int]:
        """Batches of ours, each with the id of its intent: the order in which they were sent."""
        query = select(table.intent.c.batch_id, table.intent.c.id).where(table.intent.c.batch_id.is_not(None))
        return {BatchId(row["batch_id"]): row["id"] for row in self._rows(query.order_by(table.intent.c.id))}

    def workloads(self) -> list[str]:
        return [row["name"] for row in self._rows(select(table.workload.c.name).order_by(table.workload.c.name))]

    def progress(self, workload: str, *, max_rounds: int = 1, all_merged: bool = False) -> list[SnapshotProgress]:
        """Snapshots with work left (with `all_merged`, all of them), oldest first; counts, not rows.

        Chunks of the round `max_rounds` leave nothing to ask again.
        """
        chunk = table.chunk
        counted = (
            select(
                chunk.c.snapshot,
                chunk.c.state,
                func.count().label("chunks"),
                func.sum(chunk.c.requests).label("requests"),
                func.max(chunk.c.collected_at).label("last"),
                func.sum(chunk.c.cost_units).label("cost"),
            )
            .where(chunk.c.workload == workload)
            .group_by(chunk.c.snapshot, chunk.c.state)
        )
        due = (
            select(chunk.c.snapshot, func.count().label("due"))
            .where(
                chunk.c.workload == workload,
                chunk.c.retryable > 0,
                chunk.c.next_round_cut == 0,
                chunk.c.round < max_rounds,
            )
            .group_by(chunk.c.snapshot)
        )
        waits = select(table.snapshot_wait).where(table.snapshot_wait.c.workload == workload)
        by_snapshot: dict[str, list[_Count]] = {}
        for row in self._rows(counted):
            state, cost = ChunkState(row["state"]), int(row["cost"] or 0)
            by_snapshot.setdefault(row["snapshot"], []).append(
                _Count(state, row["chunks"], int(row["requests"]), row["last"], cost)
            )
        due_of = {row["snapshot"]: row["due"] for row in self._rows(due)}
        waits_of: dict[str, list[SnapshotId]] = {}
        for row in self._rows(waits):
            waits_of.setdefault(row["snapshot"], []).append(row["waits_on"])
        snapshots = self.snapshots(workload)
        settled = self._settled(snapshots, by_snapshot, due_of)
        result = [
            _progress(s, by_snapshot.get(s.id, []), due_of.get(s.id, 0), waits_of.get(s.id, []), settled)
            for s in snapshots
        ]
        return [p for p in result if all_merged or needs_work(p)]

    def _settled(
        self,
        snapshots: list[SnapshotRow],
        counts: dict[str, list[_Count]],
        due: dict[str, int],
    ) -> set[str]:
        """Snapshots with nothing of their own on its way. What they wait for themselves does not count:
        who waits, waits for their chunks, and two that wait for each other would wait for ever."""
        settled: set[str] = set()
        for snapshot in snapshots:
            pending = any(count.state not in TERMINAL for count in counts.get(snapshot.id, []))
            if not pending and not due.get(snapshot.id):
                settled.add(snapshot.id)
        return settled

    def in_flight(self) -> tuple[int, int]:
        """Batches and requests at the API, over all workloads."""
        query = select(func.count(), func.coalesce(func.sum(table.chunk.c.requests), 0)).where(
            table.chunk.c.state.in_([ChunkState.SENDING, ChunkState.LIVE])
        )
        with self._reading() as connection:
            batches, requests = connection.execute(query).one()
        return int(batches), int(requests)

    def count(self, state: ChunkState, workload: str) -> int:
        query = select(func.count()).where(table.chunk.c.state == state, table.chunk.c.workload == workload)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def last_publication(self) -> tuple[int, datetime] | None:
        """Version and moment of the newest published warehouse."""
        query = select(table.publication).order_by(table.publication.c.version.desc()).limit(1)
        return next(((row["version"], row["published_at"]) for row in self._rows(query)), None)

    def unpublished(self, workload: str) -> tuple[str, ...]:
        """Partitions with a snapshot merged after the last publication."""
        last = self.last_publication()
        merged = table.snapshot.c.merged_at
        query = select(table.snapshot.c.partition).where(table.snapshot.c.workload == workload, merged.is_not(None))
        if last is not None:
            query = query.where(merged > last[1])
        return tuple(sorted({row["partition"] for row in self._rows(query)}))

    def dump(self, name: str) -> Iterator[dict[str, object]]:
        """All rows of one table, in the order of its key, as plain values; for the warehouse."""
        source = table.metadata.tables[name]
        with self._reading() as connection:
            stream = connection.execution_options(yield_per=5_000).execute(select(source).order_by(*source.primary_key))
            for row in stream.mappings():
                yield dict(row)

    def _rows(self, query: Select) -> list:  # type: ignore[type-arg]
        with self._reading() as connection:
            return list(connection.execute(query).mappings())


def needs_work(progress: SnapshotProgress) -> bool:
    """Whether anything of a snapshot is still to be done, merging included."""
    if progress.snapshot.state is SnapshotState.LOADED:
        return False  # only materializing it again, as a person or a schedule does, plans it
    merged_at = progress.snapshot.merged_at
    if progress.snapshot.state is not SnapshotState.MERGED or merged_at is None:
        return True
    if progress.pending or progress.due or progress.waits_on or progress.waited_on:
        return True
    return progress.last_collected_at is not None and progress.last_collected_at > merged_at


def _progress(
    snapshot: SnapshotRow, counts: list[_Count], due: int, waits: list[SnapshotId], settled: set[str]
) -> SnapshotProgress:
    return SnapshotProgress(
        snapshot=snapshot,
        chunks={count.state: count.chunks for count in counts},
        requests={count.state: count.requests for count in counts},
        due=due,
        waits_on=tuple(w for w in waits if w not in settled),
        waited_on=tuple(w for w in waits if w in settled),
        last_collected_at=max((count.last for count in counts if count.last is not None), default=None),
        cost_units=sum(count.cost_units for count in counts),
    )
