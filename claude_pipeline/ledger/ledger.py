"""Ledger: what was sent and what became of it; the only writer of its database.

The moves stand in `snapshot_moves` and `submit_moves`, the database in `store`; here is what can be
asked of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, Select, Table, func, select

from claude_pipeline.ledger import table
from claude_pipeline.ledger.alert_moves import AlertMoves
from claude_pipeline.ledger.ask_moves import AskMoves
from claude_pipeline.ledger.progress import Count, SnapshotProgress, needs_work, progress_of
from claude_pipeline.ledger.record import (
    BatchId,
    BatchRow,
    BatchSeen,
    ChunkRow,
    IntentRow,
    OldPart,
    Part,
    SnapshotId,
    SnapshotRow,
    Spend,
    Tag,
)
from claude_pipeline.ledger.state import (
    TERMINAL,
    UNSETTLED_INTENTS,
    ChunkState,
)
from claude_pipeline.ledger.statement import rows_where


class Ledger(AskMoves, AlertMoves):
    """An open ledger; see `Store.open`."""

    def snapshot(self, workload: str, snapshot_id: str) -> SnapshotRow | None:
        rows = self._where(table.snapshot, workload=workload, id=snapshot_id)
        return SnapshotRow.of(rows[0]) if rows else None

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
        return ChunkRow.of(self._where(table.chunk, id=chunk_id)[0])

    def to_be_canceled(self) -> list[ChunkRow]:
        """Chunks at the API whose batch is to be canceled and was not asked yet: a person canceled their snapshot, or
        the rest of them is to be asked in real time."""
        chunk, snapshot = table.chunk, table.snapshot
        query = (
            select(chunk)
            .join(snapshot, (snapshot.c.workload == chunk.c.workload) & (snapshot.c.id == chunk.c.snapshot))
            .where(
                snapshot.c.canceled_at.is_not(None) | chunk.c.rescued_at.is_not(None),
                chunk.c.state == ChunkState.LIVE,
                chunk.c.cancel_asked_at.is_(None),
            )
            .order_by(chunk.c.id)
        )
        return [ChunkRow.of(row) for row in self._rows(query)]

    def chunk_by_key(self, workload: str, snapshot: str, key: str) -> ChunkRow | None:
        rows = self._where(table.chunk, workload=workload, snapshot=snapshot, key=key)
        return ChunkRow.of(rows[0]) if rows else None

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
        rows = self._where(table.intent, tag=tag)
        return IntentRow.of(rows[0]) if rows else None

    def batches_in_progress(self) -> set[BatchId]:
        """Batches of ours that have not ended: by the chunk's state, which may move on after its batch is known as ended."""
        query = select(table.chunk.c.batch_id).where(table.chunk.c.state == ChunkState.LIVE)
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

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

    def chunk_to_remember(self, share: str, *, requests: int) -> ChunkRow | None:
        """The chunk not known to be sent whose params' checksum begins with `share`, of that size."""
        free = [ChunkState.READY, ChunkState.HELD, ChunkState.FAILED, ChunkState.CANCELED]
        query = select(table.chunk).where(
            table.chunk.c.params_sha256.startswith(share, autoescape=True),
            table.chunk.c.requests == requests,
            table.chunk.c.state.in_(free),
            table.chunk.c.batch_id.is_(None),
        )
        return next((ChunkRow.of(row) for row in self._rows(query.order_by(table.chunk.c.id))), None)

    def orphan_with(self, prefix: str, *, requests: int) -> tuple[Tag, BatchSeen] | None:
        """A batch of ours that no chunk has, whose tag begins with `prefix`, of that size."""
        batch = table.batch
        query = select(batch).where(
            batch.c.chunk_id.is_(None),
            batch.c.paid_twice == 0,
            batch.c.tag.startswith(prefix, autoescape=True),
            batch.c.requests == requests,
        )
        row = next(iter(self._rows(query)), None)
        if row is None:
            return None
        counts = json.loads(row["counts"] or "{}")
        times = {name: row[name] for name in ("created_at", "expires_at", "ended_at", "archived_at")}
        return Tag(row["tag"]), BatchSeen(row["id"], row["status"], row["requests"], counts, **times)

    def paid_twice(self) -> list[BatchRow]:
        """Batches accepted after their chunk was sent again: the residual risk, when it happens."""
        return [BatchRow.of(row) for row in self._rows(select(table.batch).where(table.batch.c.paid_twice == 1))]

    def batch(self, batch_id: str) -> BatchRow | None:
        rows = self._where(table.batch, id=batch_id)
        return BatchRow.of(rows[0]) if rows else None

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
                part.c.merged == 1,
            )
            .order_by(snapshot.c.partition, snapshot.c.number, part.c.kind, part.c.chunk_id, part.c.path)
        )
        return [Part.of(row) for row in self._rows(query)]

    def superseded_parts(self, workload: str) -> list[OldPart]:
        """Merged rows that the last merge of their snapshot does not count in."""
        part, snapshot = table.part, table.snapshot
        query = (
            select(part)
            .join(snapshot, (snapshot.c.workload == part.c.workload) & (snapshot.c.id == part.c.snapshot))
            .where(
                part.c.workload == workload,
                part.c.kind.in_(["answered", "rest"]),
                part.c.merged == 0,
                (part.c.current == 0) | (part.c.plan_number < snapshot.c.merged_plan),
            )
        )
        return [OldPart.of(row) for row in self._rows(query)]

    def sent_batches(self) -> dict[BatchId, int]:
        """Batches of ours, each with the id of its intent: the order in which they were sent."""
        batch_id, watermark = table.intent.c.batch_id, table.intent.c.watermark
        # A batch that a rebuild remembered has itself as watermark: its place in our order is not known.
        known = batch_id.is_not(None) & (watermark.is_(None) | (watermark != batch_id))
        query = select(batch_id, table.intent.c.id).where(known)
        return {BatchId(row["batch_id"]): row["id"] for row in self._rows(query.order_by(table.intent.c.id))}

    def measures(self) -> dict[str, str]:
        """How the warehouse measures the answers of each workload that says so."""
        query = select(table.workload.c.name, table.workload.c.measure).where(table.workload.c.measure.is_not(None))
        return {row["name"]: row["measure"] for row in self._rows(query)}

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
                func.sum(chunk.c.cost_units).label("cost"),
            )
            .where(chunk.c.workload == workload)
            .group_by(chunk.c.snapshot, chunk.c.state)
        )
        waits = select(table.snapshot_wait).where(table.snapshot_wait.c.workload == workload)
        by_snapshot: dict[str, list[Count]] = {}
        for row in self._rows(counted):
            state, cost = ChunkState(row["state"]), int(row["cost"] or 0)
            by_snapshot.setdefault(row["snapshot"], []).append(Count(state, row["chunks"], int(row["requests"]), cost))
        due_of = self._due(workload, max_rounds)
        waits_of: dict[str, list[SnapshotId]] = {}
        for row in self._rows(waits):
            waits_of.setdefault(row["snapshot"], []).append(row["waits_on"])
        snapshots = self.snapshots(workload)
        settled = self._settled(snapshots, by_snapshot, due_of)
        result = [
            progress_of(s, by_snapshot.get(s.id, []), due_of.get(s.id, 0), waits_of.get(s.id, []), settled)
            for s in snapshots
        ]
        return [p for p in result if all_merged or needs_work(p)]

    def _due(self, workload: str, max_rounds: int) -> Counter[str]:
        """By snapshot: collected chunks with requests for another round or level, and refused ones to be halved."""
        chunk = table.chunk
        snapshot = table.snapshot
        due = (
            select(chunk.c.snapshot, func.count().label("due"))
            .join(snapshot, (snapshot.c.workload == chunk.c.workload) & (snapshot.c.id == chunk.c.snapshot))
            .where(
                chunk.c.workload == workload,
                chunk.c.retryable > 0,
                chunk.c.next_round_cut == 0,
                # What met the account's stop was never tried: it costs no round.
                (chunk.c.round < snapshot.c.rounds_used + max_rounds)
                | (chunk.c.round < chunk.c.rounds_before + max_rounds)
                | (chunk.c.stopped > 0)
                | ((chunk.c.canceled > 0) & chunk.c.rescued_at.is_not(None)),
                snapshot.c.canceled_at.is_(None),
            )
            .group_by(chunk.c.snapshot)
        )
        passed_on = (
            select(chunk.c.snapshot, func.count().label("due"))
            .join(snapshot, (snapshot.c.workload == chunk.c.workload) & (snapshot.c.id == chunk.c.snapshot))
            .where(
                chunk.c.workload == workload,
                chunk.c.moves_on > 0,
                chunk.c.next_level_cut == 0,
                snapshot.c.canceled_at.is_(None),
            )
            .group_by(chunk.c.snapshot)
        )
        due_of = Counter({row["snapshot"]: row["due"] for row in self._rows(due)})
        due_of.update({row["snapshot"]: row["due"] for row in self._rows(passed_on)})
        due_of.update(refused.snapshot for refused in self.to_halve(workload))
        return due_of

    def _settled(
        self,
        snapshots: list[SnapshotRow],
        counts: dict[str, list[Count]],
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

    def answered(self, workload: str, model: str) -> tuple[int, int]:
        """Answers of a model in a workload so far, and their output tokens."""
        spend, chunk = table.spend, table.chunk
        sums = (func.coalesce(func.sum(column), 0) for column in (spend.c.requests, spend.c.output_tokens))
        of = (chunk.c.workload == workload) & (spend.c.model == model)
        query = select(*sums).select_from(spend).join(chunk, chunk.c.id == spend.c.chunk_id).where(of)
        with self._reading() as connection:
            requests, tokens = connection.execute(query).one()
        return int(requests), int(tokens)

    def turnarounds(self, models: Collection[str], *, limit: int) -> list[tuple[int, float]]:
        """Requests, and hours from creation to end, of the batches of a model's names that were let run; of the newest chunks."""
        batch, chunk = table.batch, table.chunk
        query = (
            select(batch.c.requests, batch.c.created_at, batch.c.ended_at)
            .join(chunk, chunk.c.id == batch.c.chunk_id)
            .where(chunk.c.model.in_(models), batch.c.ended_at.is_not(None), chunk.c.cancel_asked_at.is_(None))
            # By its index from the end, so that the limit ends it however many batches there ever were.
            .where(batch.c.chunk_id > 0)
            .order_by(batch.c.chunk_id.desc())
            .limit(limit)
        )
        hours = timedelta(hours=1)
        return [(row["requests"], (row["ended_at"] - row["created_at"]) / hours) for row in self._rows(query)]

    def spent(self, workload: str, *, snapshot: str) -> list[Spend]:
        """What the collected chunks of a snapshot cost, by chunk and model."""
        spend, chunk = table.spend, table.chunk
        of = (chunk.c.workload == workload) & (chunk.c.snapshot == snapshot)
        query = select(spend).join(chunk, chunk.c.id == spend.c.chunk_id).where(of).order_by(chunk.c.id)
        return [Spend.of(row) for row in self._rows(query)]

    def last_publication(self) -> tuple[int, datetime] | None:
        """Version and moment of the newest published warehouse."""
        query = select(table.publication).order_by(table.publication.c.version.desc()).limit(1)
        return next(((row["version"], row["published_at"]) for row in self._rows(query)), None)

    def unpublished(self, workload: str) -> tuple[str, ...]:
        """Partitions with a merge that no publication has shown yet."""
        shown = func.coalesce(table.snapshot.c.published_merge, 0)
        query = select(table.snapshot.c.partition).where(
            table.snapshot.c.workload == workload, table.snapshot.c.merge_number > shown
        )
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

    def _where(self, of: Table, **where: object) -> list[RowMapping]:
        with self._reading() as connection:
            return list(rows_where(connection, of, **where))
