"""Figures of workloads, counted in the database: for alerts, the live status, metrics, the lane. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, func, select

from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import AlertRow, ChunkRow, SnapshotId, SnapshotRow, WatchedBatch
from claude_pipeline.ledger.state import ChunkState
from claude_pipeline.ledger.store import Store


class Billed(NamedTuple):
    """All that was ever billed to a workload's model in a lane."""

    workload: str
    model: str
    lane: str
    requests: int
    input_tokens: int  # that no cache touched
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_units: int


class Ended(NamedTuple):
    """A batch that ended and is collected, with what it answered; all input tokens."""

    workload: str
    model: str
    created_at: datetime
    ended_at: datetime
    requests: int
    input_tokens: int
    output_tokens: int


class Chunks(NamedTuple):
    """The chunks of a workload in one state."""

    workload: str
    state: ChunkState
    chunks: int
    requests: int


class ChunkGroup(NamedTuple):
    """Chunks of a snapshot that ask one model for answers of one length, added up."""

    snapshot: SnapshotId
    model: str
    max_tokens: int | None
    requests: int
    most_requests: int  # in one chunk
    size_bytes: int
    moved_at: datetime  # of the first that came into its state
    expires_at: datetime | None  # of the first batch that does; None: they have none, or the API said of none

    @classmethod
    def of(cls, chunk: ChunkRow) -> ChunkGroup:
        """Of one that waits to be sent."""
        size = chunk.requests, chunk.requests, chunk.size_bytes
        return cls(chunk.snapshot, chunk.model, chunk.max_tokens, *size, chunk.moved_at, None)


class Watch(Store):
    """What can be watched."""

    def watched(self, workloads: Collection[str], *, since: datetime) -> list[WatchedBatch]:
        """Batches in flight, and those collected since a moment of which requests had expired; oldest first."""
        chunk, batch = table.chunk, table.batch
        here = [batch.c.id, batch.c.created_at, batch.c.expires_at, batch.c.ended_at, batch.c.counts, batch.c.requests]
        here += [chunk.c.workload, chunk.c.snapshot, chunk.c.key, chunk.c.state]
        expired = (chunk.c.state == ChunkState.DONE) & (chunk.c.expired > 0) & (chunk.c.collected_at >= since)
        query = (
            select(*here)
            .join(chunk, chunk.c.batch_id == batch.c.id)
            .where(chunk.c.workload.in_(workloads), chunk.c.state.in_([ChunkState.LIVE, ChunkState.ENDED]) | expired)
            .order_by(batch.c.created_at, batch.c.id)
        )
        with self._reading() as connection:
            return [WatchedBatch.of(row) for row in connection.execute(query).mappings()]

    def next_expiry(self, workload: str) -> datetime | None:
        """When the first batch in progress of a workload expires; None where there is none, or the API said of none."""
        chunk, batch = table.chunk, table.batch
        live = (chunk.c.workload == workload) & (chunk.c.state == ChunkState.LIVE)
        query = select(func.min(batch.c.expires_at)).join(chunk, chunk.c.batch_id == batch.c.id).where(live)
        with self._reading() as connection:
            expiry: datetime | None = connection.execute(query).scalar_one()
            return expiry

    def chunk_groups(
        self, workload: str, *, states: Collection[ChunkState], left_alone: bool = False
    ) -> list[ChunkGroup]:
        """Chunks in some states, added up; `left_alone` leaves out those whose batch was given up, or is asked to end."""
        chunk, batch = table.chunk, table.batch
        alike = [chunk.c.snapshot, chunk.c.model, chunk.c.max_tokens]
        sums = [func.sum(chunk.c.requests), func.max(chunk.c.requests), func.sum(chunk.c.size_bytes)]
        columns = [*alike, *(cast(number, BigInteger) for number in sums)]  # PostgreSQL adds up to decimals
        columns += [func.min(chunk.c.moved_at), func.min(batch.c.expires_at)]
        query = (
            select(*columns)
            .outerjoin(batch, chunk.c.batch_id == batch.c.id)
            .where(chunk.c.workload == workload, chunk.c.state.in_(list(states)))
            .group_by(*alike)
            .order_by(*alike)
        )
        if left_alone:
            query = query.where(chunk.c.cancel_asked_at.is_(None), chunk.c.rescued_at.is_(None))
        with self._reading() as connection:
            return [ChunkGroup(*row) for row in connection.execute(query)]

    def merged_with_dead_letters(self, workloads: Collection[str], *, since: datetime) -> list[SnapshotRow]:
        """Snapshots whose current merge is younger than a moment and has dead letters."""
        snapshot = table.snapshot
        query = select(snapshot).where(
            snapshot.c.workload.in_(workloads), snapshot.c.dead > 0, snapshot.c.merged_at >= since
        )
        with self._reading() as connection:
            return [SnapshotRow.of(row) for row in connection.execute(query).mappings()]

    def billed(self) -> list[Billed]:
        """Totals since the ledger began, by workload, model and lane."""
        spend, chunk = table.spend, table.chunk
        names = [name for name in Billed._fields if name not in ("workload", "model", "lane")]
        query = (
            select(chunk.c.workload, spend.c.model, spend.c.lane, *(func.sum(spend.c[name]) for name in names))
            .join(chunk, chunk.c.id == spend.c.chunk_id)
            .group_by(chunk.c.workload, spend.c.model, spend.c.lane)
            .order_by(chunk.c.workload, spend.c.model, spend.c.lane)
        )
        with self._reading() as connection:
            return [Billed(*row[:3], *map(int, row[3:])) for row in connection.execute(query)]

    def ended_batches(self, *, since: datetime) -> list[Ended]:
        """Collected batches that ended from a moment on, oldest first."""
        spend, chunk, batch = table.spend, table.chunk, table.batch
        tokens = spend.c.input_tokens + spend.c.cache_write_tokens + spend.c.cache_read_tokens
        query = (
            select(
                chunk.c.workload, spend.c.model, batch.c.created_at, batch.c.ended_at, spend.c.requests, tokens,
                spend.c.output_tokens,
            )
            .select_from(batch)
            .join(chunk, chunk.c.batch_id == batch.c.id)
            .join(spend, spend.c.chunk_id == chunk.c.id)
            .where(batch.c.ended_at >= since, spend.c.lane == "batch")
            .order_by(batch.c.ended_at, batch.c.id)
        )  # fmt: skip
        with self._reading() as connection:
            return [Ended(*row) for row in connection.execute(query)]

    def chunk_counts(self, workload: str | None = None) -> list[Chunks]:
        """Chunks and their requests by workload and state."""
        chunk = table.chunk
        query = select(chunk.c.workload, chunk.c.state, func.count(), func.sum(chunk.c.requests))
        if workload is not None:
            query = query.where(chunk.c.workload == workload)
        query = query.group_by(chunk.c.workload, chunk.c.state).order_by(chunk.c.workload, chunk.c.state)
        with self._reading() as connection:
            return [Chunks(w, ChunkState(s), int(n), int(r)) for w, s, n, r in connection.execute(query)]

    def sources(self) -> dict[str, str | None]:
        """The YAML file that each workload was last read from."""
        with self._reading() as connection:
            query = select(table.workload.c.name, table.workload.c.source).order_by(table.workload.c.name)
            return {row.name: row.source for row in connection.execute(query)}

    def last_alerts(self, *, since: datetime, limit: int) -> list[AlertRow]:
        """The newest first."""
        alert = table.alert
        query = select(alert).where(alert.c.noted_at >= since).order_by(alert.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [AlertRow.of(row) for row in connection.execute(query).mappings()]

    def alert_counts(self) -> dict[str, int]:
        """Alerts noted since the ledger began, by kind."""
        query = select(table.alert.c.kind, func.count()).group_by(table.alert.c.kind).order_by(table.alert.c.kind)
        with self._reading() as connection:
            return {kind: int(count) for kind, count in connection.execute(query)}
