"""Moves of a snapshot: loaded, planned, merged; and the registration of workloads and chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, select, update
from sqlalchemy import delete as delete_rows

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.ledger import table
from claude_pipeline.ledger.account_moves import AccountMoves
from claude_pipeline.ledger.record import NewChunk, Part, PlanCounts, SnapshotId, SnapshotRow, Watermark
from claude_pipeline.ledger.state import ChunkState, SnapshotState
from claude_pipeline.ledger.statement import insert_row, rows_where, update_rows
from claude_pipeline.ledger.store import require


class SnapshotMoves(AccountMoves):
    """What may happen to a snapshot."""

    def register_workload(self, name: str, *, source: Path | None, cadence: str, at: datetime) -> None:
        """Note a workload's name, file and cadence; safe to call each time.

        Raises:
            WorkloadInvalid: another living file has that name, or its cadence changed under snapshots.
        """
        with self._writing() as connection:
            known = rows_where(connection, table.workload, name=name).first()
            text = str(source) if source else None
            if known is None:
                insert_row(connection, table.workload, name=name, source=text, cadence=cadence, created_at=at)
                self._event(connection, "workload registered", at, workload=name, detail=text)
                return
            if text and known["source"] and known["source"] != text and Path(known["source"]).exists():
                raise WorkloadInvalid(
                    f"the name {name!r} is taken by {known['source']}; rename one of the two, or use another "
                    "home (--home or CLAUDE_PIPELINE_HOME)",
                    place=text,
                )
            if known["cadence"] != cadence and self._has_snapshots(connection, name):
                raise WorkloadInvalid(
                    f"its snapshots are {known['cadence']}, now it asks for {cadence}, which would orphan them; "
                    f"write partition: {known['cadence']}, or give the workload another name",
                    place=text or name,
                )
            update_rows(connection, table.workload, {"name": name}, source=text or known["source"], cadence=cadence)

    def _has_snapshots(self, connection: Connection, workload: str) -> bool:
        one = select(table.snapshot.c.id).where(table.snapshot.c.workload == workload).limit(1)
        return connection.execute(one).first() is not None

    def snapshot_loaded(
        self,
        workload: str,
        partition: str,
        *,
        path: str,
        digest: str,
        records: int,
        at: datetime,
        watermark: Watermark | None = None,
        full_snapshot: SnapshotId | None = None,
    ) -> SnapshotRow:
        """Register the records of a partition; the same digest as its last snapshot is that snapshot.

        `path` must contain `{id}`, which is replaced by the snapshot's id. The file holds what differs from that of
        `full_snapshot`, where there is one.
        """
        mark = watermark.columns if watermark is not None else {}
        with self._writing() as connection:
            newest = connection.execute(
                select(table.snapshot)
                .where(table.snapshot.c.workload == workload, table.snapshot.c.partition == partition)
                .order_by(table.snapshot.c.number.desc())
                .limit(1)
            ).mappings()
            last = newest.first()
            if last is not None and last["digest"] == digest:
                return self._watermark_noted(connection, SnapshotRow.of(last), mark, at)
            number = last["number"] + 1 if last is not None else 1
            snapshot_id = SnapshotId(f"{partition}.{number}")
            insert_row(
                connection,
                table.snapshot,
                workload=workload,
                id=snapshot_id,
                partition=partition,
                number=number,
                state=SnapshotState.LOADED,
                path=path.format(id=snapshot_id),
                digest=digest,
                full_snapshot=full_snapshot,
                records=records,
                created_at=at,
                **mark,
            )
            self._event(
                connection,
                "snapshot loaded",
                at,
                workload=workload,
                snapshot=snapshot_id,
                after=SnapshotState.LOADED,
                detail=f"{records} records",
            )
            return _snapshot(connection, workload, snapshot_id)

    def _watermark_noted(
        self, connection: Connection, snapshot: SnapshotRow, mark: Mapping[str, str | None], at: datetime
    ) -> SnapshotRow:
        """The same records again: on another base now, or with a watermark that is new to the workload."""
        if all(getattr(snapshot, column) == value for column, value in mark.items()):
            return snapshot
        update_rows(connection, table.snapshot, {"workload": snapshot.workload, "id": snapshot.id}, **mark)
        self._snapshot_event(connection, "watermark noted", snapshot, at, f"it rests on {mark['watermark_base']}")
        return _snapshot(connection, snapshot.workload, snapshot.id)

    def snapshot_planned(
        self,
        snapshot: SnapshotRow,
        *,
        plan_path: str,
        plan_sha256: str,
        counts: PlanCounts,
        chunks: Sequence[NewChunk],
        waits_on: Iterable[SnapshotId],
        superseded: Sequence[int] = (),
        pilot: int | None = None,
        at: datetime,
    ) -> None:
        """Register a plan with its chunks, in one transaction.

        A `pilot` plan asks so many of its questions only: it is not merged. `superseded` are chunks of older plans that were not sent yet: they are withdrawn, and what older
        plans left unanswered gets no further round. Raises LedgerError where one was sent meanwhile.
        """
        with self._writing() as connection:
            self._move_snapshot(
                connection,
                snapshot,
                state=SnapshotState.PLANNED,
                plan_number=snapshot.plan_number + 1,
                canceled_at=None,
                pilot=pilot,
                plan_path=plan_path,
                plan_sha256=plan_sha256,
                planned_at=at,
                wanted_from=at,
                asked=counts.asked,
                reused=counts.reused,
                duplicates=counts.duplicates,
                awaited=counts.awaited,
                rejected=counts.rejected,
            )
            self._withdraw(connection, snapshot, superseded, at)
            self._wait(connection, snapshot, waits_on)
            self._add_chunks(connection, snapshot, chunks, at)
            self._snapshot_event(
                connection,
                "snapshot planned",
                snapshot,
                at,
                f"{counts.asked} requests in {len(chunks)} chunks, {counts.reused} reused, "
                f"{counts.duplicates} duplicates, {counts.awaited} awaited, {counts.rejected} rejected",
                before=snapshot.state,
                after=SnapshotState.PLANNED,
            )

    def _withdraw(self, connection: Connection, snapshot: SnapshotRow, superseded: Sequence[int], at: datetime) -> None:
        for chunk_id in superseded:
            moved = connection.execute(
                update(table.chunk)
                .where(table.chunk.c.id == chunk_id, table.chunk.c.state.in_([ChunkState.READY, ChunkState.HELD]))
                .values(state=ChunkState.CANCELED, moved_at=at, error="a newer plan of its snapshot took its place")
            )
            require(
                moved.rowcount, f"chunk {chunk_id} of {snapshot.workload}/{snapshot.id} was sent while it was planned"
            )
            self._snapshot_event(
                connection, "chunk withdrawn", snapshot, at, "by a newer plan", chunk_id=chunk_id,
                after=ChunkState.CANCELED,
            )  # fmt: skip
        if snapshot.pilot is not None:
            return  # what its pilot asked, the whole asks as well
        connection.execute(
            update(table.chunk)
            .where(table.chunk.c.workload == snapshot.workload, table.chunk.c.snapshot == snapshot.id)
            .values(next_round_cut=1)
        )
        # The plan looked at what is collected; what is still at the API may have to move on under it.
        connection.execute(
            update(table.chunk)
            .where(
                table.chunk.c.workload == snapshot.workload,
                table.chunk.c.snapshot == snapshot.id,
                table.chunk.c.state == ChunkState.DONE,
            )
            .values(next_level_cut=1)
        )

    def next_level_cut(
        self,
        snapshot: SnapshotRow,
        *,
        of_chunks: Sequence[int],
        chunks: Sequence[NewChunk],
        waits_on: Iterable[SnapshotId],
        at: datetime,
    ) -> None:
        """Register the chunks that ask a cascade's next model about what `of_chunks` pass on; `waits_on` are
        snapshots in which some of it is on its way."""
        with self._writing() as connection:
            for chunk_id in of_chunks:
                moved = connection.execute(
                    update(table.chunk)
                    .where(table.chunk.c.id == chunk_id, table.chunk.c.next_level_cut == 0)
                    .values(next_level_cut=1)
                )
                require(moved.rowcount, f"chunk {chunk_id} was passed on already")
            self._wait(connection, snapshot, waits_on)
            self._add_chunks(connection, snapshot, chunks, at)
            detail = f"{sum(c.requests for c in chunks)} requests in {len(chunks)} chunks"
            self._snapshot_event(connection, "next level cut", snapshot, at, detail)

    def workload_measured(self, name: str, measure: str | None) -> None:
        """Note how the warehouse measures the answers of a workload; safe to call each time."""
        with self._writing() as connection:
            known = table.workload.c.name == name
            connection.execute(update(table.workload).where(known).values(measure=measure))

    def next_round_cut(
        self, snapshot: SnapshotRow, *, of_chunks: Sequence[int], chunks: Sequence[NewChunk], at: datetime
    ) -> None:
        """Register the chunks that ask again what `of_chunks` left unanswered."""
        with self._writing() as connection:
            for chunk_id in of_chunks:
                moved = connection.execute(
                    update(table.chunk)
                    .where(table.chunk.c.id == chunk_id, table.chunk.c.next_round_cut == 0)
                    .values(next_round_cut=1)
                )
                require(moved.rowcount, f"chunk {chunk_id} has its next round already")
            self._add_chunks(connection, snapshot, chunks, at)
            self._snapshot_event(
                connection,
                "next round cut",
                snapshot,
                at,
                f"{sum(c.requests for c in chunks)} requests in {len(chunks)} chunks",
            )

    def wait_over(
        self, snapshot: SnapshotRow, *, chunks: Sequence[NewChunk], waits_on: Iterable[SnapshotId], at: datetime
    ) -> None:
        """The snapshots it waited on are settled; `chunks` ask what they left unanswered, and what another
        one that waited as well asks by now is waited for in turn (`waits_on`)."""
        with self._writing() as connection:
            connection.execute(
                delete_rows(table.snapshot_wait).where(
                    table.snapshot_wait.c.workload == snapshot.workload,
                    table.snapshot_wait.c.snapshot == snapshot.id,
                )
            )
            self._wait(connection, snapshot, waits_on)
            self._add_chunks(connection, snapshot, chunks, at)
            self._snapshot_event(
                connection, "wait over", snapshot, at, f"{sum(c.requests for c in chunks)} requests still to ask"
            )

    def snapshot_merged(
        self,
        snapshot: SnapshotRow,
        *,
        succeeded: int,
        dead: int,
        answered: Sequence[Part],
        rest: Part | None,
        chunks_done: int,
        at: datetime,
    ) -> None:
        """Each record has its final outcome on disk: in the `answered` parts of its chunks, and in `rest`.

        `chunks_done` is how many of its chunks were collected when these were read: with one more, it
        merges again.
        """
        parts = [part.path for part in [*answered, *([rest] if rest is not None else [])]]
        with self._writing() as connection:
            self._move_snapshot(
                connection,
                snapshot,
                state=SnapshotState.MERGED,
                merged_at=at,
                merged_plan=snapshot.plan_number,
                merge_number=snapshot.merge_number + 1,
                merged_chunks=chunks_done,
                succeeded=succeeded,
                dead=dead,
            )
            of_snapshot = (table.part.c.workload == snapshot.workload) & (table.part.c.snapshot == snapshot.id)
            of_rest = of_snapshot & (table.part.c.kind == "rest")
            connection.execute(update(table.part).where(of_rest).values(current=0))
            connection.execute(update(table.part).where(of_snapshot).values(merged=0))
            if rest is not None:
                self._add_part(connection, rest, at)
            connection.execute(update(table.part).where(table.part.c.path.in_(parts)).values(merged=1))
            self._snapshot_event(
                connection,
                "snapshot merged",
                snapshot,
                at,
                f"{succeeded} succeeded, {dead} dead letters, {snapshot.rejected or 0} rejected",
                before=snapshot.state,
                after=SnapshotState.MERGED,
            )

    def published(self, version: int, *, path: str, snapshots: Iterable[SnapshotRow], at: datetime) -> None:
        """A version of the warehouse is out, with these snapshots as they were merged then."""
        with self._writing() as connection:
            insert_row(connection, table.publication, version=version, path=path, published_at=at)
            for snapshot in snapshots:
                if snapshot.published_merge != snapshot.merge_number:
                    connection.execute(
                        update(table.snapshot)
                        .where(table.snapshot.c.workload == snapshot.workload, table.snapshot.c.id == snapshot.id)
                        .values(published_merge=snapshot.merge_number)
                    )
            self._event(connection, "warehouse published", at, detail=f"v{version}")

    def _move_snapshot(self, connection: Connection, snapshot: SnapshotRow, **columns: object) -> None:
        """Compare-and-set on the plan the caller saw."""
        moved = connection.execute(
            update(table.snapshot)
            .where(
                table.snapshot.c.workload == snapshot.workload,
                table.snapshot.c.id == snapshot.id,
                table.snapshot.c.plan_number == snapshot.plan_number,
            )
            .values(**columns)
        )
        require(
            moved.rowcount, f"snapshot {snapshot.workload}/{snapshot.id} is no longer at plan {snapshot.plan_number}"
        )

    def _snapshot_event(
        self, connection: Connection, move: str, snapshot: SnapshotRow, at: datetime, detail: str, **columns: object
    ) -> None:
        self._event(connection, move, at, workload=snapshot.workload, snapshot=snapshot.id, detail=detail, **columns)

    def _wait(self, connection: Connection, snapshot: SnapshotRow, waits_on: Iterable[SnapshotId]) -> None:
        known = set(
            connection.execute(
                select(table.snapshot_wait.c.waits_on).where(
                    table.snapshot_wait.c.workload == snapshot.workload,
                    table.snapshot_wait.c.snapshot == snapshot.id,
                )
            ).scalars()
        )
        for other in sorted(set(waits_on) - known):
            insert_row(
                connection, table.snapshot_wait, workload=snapshot.workload, snapshot=snapshot.id, waits_on=other
            )

    def _add_chunks(
        self, connection: Connection, snapshot: SnapshotRow, chunks: Sequence[NewChunk], at: datetime
    ) -> None:
        for new in chunks:
            insert_row(
                connection,
                table.chunk,
                workload=snapshot.workload,
                snapshot=snapshot.id,
                state=ChunkState.READY,
                created_at=at,
                moved_at=at,
                **new.__dict__,
            )
        if chunks:
            count = func.count()
            total = select(count).where(
                table.chunk.c.workload == snapshot.workload, table.chunk.c.snapshot == snapshot.id
            )
            detail = f"{len(chunks)} new, {connection.execute(total).scalar()} in all"
            self._snapshot_event(connection, "chunks ready", snapshot, at, detail, after=ChunkState.READY)

    def _add_part(self, connection: Connection, new: Part, at: datetime) -> None:
        connection.execute(delete_rows(table.part).where(table.part.c.path == new.path))
        insert_row(connection, table.part, created_at=at, current=1, **new.__dict__)


def _snapshot(connection: Connection, workload: str, snapshot_id: str) -> SnapshotRow:
    return SnapshotRow.of(rows_where(connection, table.snapshot, workload=workload, id=snapshot_id).one())
