"""Dead letters -> asked again, on a person's word: all of a snapshot, or those of one reason.

What was never accepted goes again as the chunk it was; the rest is cut anew, as a further round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from claude_pipeline.duckdb_pool import leased
from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import ChunkRow, ChunkState, SnapshotRow
from claude_pipeline.ledger.halving import SPLIT
from claude_pipeline.ledger.state import ON_ITS_WAY
from claude_pipeline.result import answered_where
from claude_pipeline.sql import file_literal, literal
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.mix import cut_each
from claude_pipeline.stage.question import create_current
from claude_pipeline.workload import Workload

# What may have been answered and billed, though nobody can read the answer: only when it is named.
PERHAPS_PAID = ("results_gone", "unreadable_result", "unknown_result_type", "missing_result", "lost_answer")
CANCELED = "canceled"


@dataclass(frozen=True)
class Retried:
    """What is asked again of a snapshot, and what is not."""

    snapshot: SnapshotRow
    requests: int
    left: Counter[str]  # reason -> records that stay dead letters


def newest_snapshot(desk: Desk, workload: Workload, snapshot_id: str | None) -> SnapshotRow:
    """The named snapshot of a workload, or (None) its newest.

    Raises:
        UsageError: there is no such snapshot; says which there are.
    """
    snapshots = desk.ledger.snapshots(workload.name)
    named = [s for s in snapshots if snapshot_id is None or s.id == snapshot_id]
    if not named:
        known = ", ".join(s.id for s in snapshots[-5:]) or "none yet"
        raise UsageError(
            f"{workload.name} has no snapshot {snapshot_id or ''} (the newest: {known})".replace("  ", " ")
        )
    return named[-1]


def retry(desk: Desk, workload: Workload, snapshot_id: str | None = None, *, reason: str | None = None) -> Retried:
    """Make the dead letters of a snapshot ready to be sent again; nothing is sent here.

    `reason` is an error type, as `<workload>.dead_letters` shows it, or `canceled`. What may have been
    paid (`PERHAPS_PAID`) is asked again only when it is the reason named.

    Raises:
        UsageError: no such snapshot, it is still on its way, or nothing of it died of that reason.
    """
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):
        snapshot = newest_snapshot(desk, workload, snapshot_id)
        _check_settled(desk, workload, snapshot)
        own = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
        again = [c for c in own if c.plan_number == snapshot.plan_number and _never_accepted(c) and _of(c, reason)]
        dead = _dead(desk, workload, snapshot, own, again)
        chosen = [d for d in dead if (d[2] == reason if reason else d[2] not in PERHAPS_PAID)]
        if not again and not chosen:
            raise UsageError(_nothing(workload, snapshot, reason, Counter(d[2] for d in dead)))
        used = max((chunk.round for chunk in own), default=0)
        chunks = cut_each(
            desk, workload, snapshot, _rows_of(chosen), round_number=used + 1, plan_number=snapshot.plan_number,
            wanted={d[1] for d in chosen},
        )  # fmt: skip
        asked = sum(c.requests for c in chunks)
        if chosen and asked != len(chosen):
            raise UsageError(
                f"the prompt or the parameters of {workload.name} are not those of {snapshot.id} any more; materialize "
                "its requests instead: what changed is asked anew"
            )
        desk.ledger.snapshot_retried(snapshot, again=again, chunks=chunks, rounds_used=used, at=desk.clock())
        left = Counter(d[2] for d in dead if d not in chosen)
        return Retried(snapshot, asked + sum(c.requests for c in again), left)


def _check_settled(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> None:
    progress = desk.ledger.progress(workload.name, max_rounds=workload.max_rounds, all_merged=True)
    found = next(p for p in progress if p.snapshot.id == snapshot.id)
    if not found.settled or found.waited_on:
        raise UsageError(
            f"snapshot {workload.name}/{snapshot.id} is still on its way ({found.pending} chunks; errors that may pass "
            "are asked again by themselves); retry what is dead once it has merged"
        )


def _never_accepted(chunk: ChunkRow) -> bool:
    """Refused, or withdrawn before it was sent; a split one lives on in its halves."""
    return (
        chunk.state in (ChunkState.FAILED, ChunkState.CANCELED) and chunk.batch_id is None and chunk.error_type != SPLIT
    )


def _of(chunk: ChunkRow, reason: str | None) -> bool:
    return reason is None or reason == _reason(chunk)


def _reason(chunk: ChunkRow) -> str:
    return chunk.error_type or (CANCELED if chunk.state is ChunkState.CANCELED else chunk.state.value)


def _dead(
    desk: Desk, workload: Workload, snapshot: SnapshotRow, own: Sequence[ChunkRow], again: Sequence[ChunkRow]
) -> list[tuple[int, bytes, str, str]]:
    """(row, fingerprint, reason, model) of each question of the plan without an answer, ascending."""
    attempts = desk.ledger.parts(workload.name, kinds=["attempts"], snapshot=None if workload.reuse else snapshot.id)
    mine = [p for p in attempts if p.snapshot == snapshot.id]
    others = desk.ledger.chunks(workload.name, states=ON_ITS_WAY) if workload.reuse else []
    away = [*(c for c in own if c.state in ON_ITS_WAY), *(c for c in others if c.snapshot != snapshot.id), *again]
    unsent = [c for c in own if c not in again and c.state in (ChunkState.FAILED, ChunkState.CANCELED)]
    refused = " UNION ALL ".join(
        f"SELECT {c.id}, fingerprint, {literal(_reason(c))} FROM read_parquet({file_literal(desk.path(c.index_path))})"
        for c in unsent
        if c.error_type != SPLIT
    )
    assert snapshot.plan_path is not None
    answered = f"JOIN current USING (fingerprint) WHERE {answered_where('wanted_tokens')}"
    with leased(desk.home.scratch()) as duck:
        create_current(duck, desk, workload, desk.path(snapshot.plan_path), snapshot.id)
        found = duck.sql(
            f"""WITH failed AS (
                    SELECT fingerprint, error_type AS reason
                    FROM {_files([desk.path(p.path) for p in mine], "fingerprint, outcome, error_type, attempt, position")}
                    WHERE outcome <> 'succeeded'
                    QUALIFY row_number() OVER (PARTITION BY fingerprint ORDER BY attempt DESC, position) = 1),
                refused AS (SELECT fingerprint, arg_max(reason, id) AS reason FROM (
                    SELECT 0 AS id, NULL::BLOB AS fingerprint, '' AS reason WHERE false {"UNION ALL " + refused if refused else ""})
                    GROUP BY fingerprint)
                SELECT min(p.row), p.fingerprint, any_value(coalesce(f.reason, r.reason, 'unknown')), any_value(p.model)
                FROM current p
                LEFT JOIN failed f ON f.fingerprint = p.fingerprint
                LEFT JOIN refused r ON r.fingerprint = p.fingerprint
                WHERE NOT p.fallback
                  AND p.fingerprint NOT IN (SELECT fingerprint FROM
                      {_files([desk.path(p.path) for p in attempts], "fingerprint, outcome, stop_reason, max_tokens")}
                      {answered})
                  AND p.fingerprint NOT IN (SELECT fingerprint FROM
                      {_files([desk.path(c.index_path) for c in away], "fingerprint")})
                GROUP BY p.fingerprint ORDER BY 1"""
        ).fetchall()
    return [(row, bytes(fingerprint), reason, model) for row, fingerprint, reason, model in found]


def _rows_of(dead: Sequence[tuple[int, bytes, str, str]]) -> Callable[[str], Iterator[pa.Array]]:
    """A model -> the rows to ask it again; the same question has the same fingerprint."""

    def rows(model: str) -> Iterator[pa.Array]:
        found = [row for row, _, _, asked in dead if asked == model]
        if found:
            yield pa.array(found, pa.int64())

    return rows


def _files(files: Sequence[Path], columns: str) -> str:
    """A table of those columns of Parquet files; an empty one where there is no file."""
    if not files:
        kinds = {"fingerprint": "BLOB", "max_tokens": "BIGINT"}
        empty = ", ".join(f"NULL::{kinds.get(c, 'VARCHAR')} AS {c}" for c in columns.split(", "))
        return f"(SELECT {empty} WHERE false)"
    listed = ", ".join(file_literal(file) for file in files)
    return f"(SELECT {columns} FROM read_parquet([{listed}], union_by_name = true))"


def _nothing(workload: Workload, snapshot: SnapshotRow, reason: str | None, dead: Counter[str]) -> str:
    listed = ", ".join(f"{name} {count:,}" for name, count in dead.most_common()) or "none"
    of = f" of the reason {reason!r}" if reason else ""
    hint = ""
    if not reason and dead:
        hint = "; these may have been paid: name the reason to ask them again all the same"
    return f"{workload.name}/{snapshot.id} has no dead letter{of} (by reason: {listed}){hint}"
