"""Which refused chunks go again in halves, until each fits or the request that is meant stands alone.

A chunk that is too large is halved as often as it takes. One that was refused as invalid (400) may be so for one of
its requests, which halves find: 14 more refusals of 10,000, and all others are answered. But it may as well be so for
every request of the workload, and then halves would only ask more often. So halving goes on while it lets requests
through: a plan has SPLITS_FREE splits, one more for each chunk that the API accepted, and SPLITS_MAX at most; each
costs two POSTs. Nothing of a refused chunk was accepted, so nothing is paid for finding out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from claude_pipeline.ledger import table
from claude_pipeline.ledger.record import ChunkRow
from claude_pipeline.ledger.state import ChunkState

SPLIT = "split"  # the error type of a chunk whose halves took its place
TOO_LARGE = "request_too_large"
INVALID = "invalid_request_error"
SPLITS_FREE = 16
SPLITS_MAX = 256


class Tally(NamedTuple):
    """What halving came to so far, in one plan of a snapshot."""

    splits: int = 0
    accepted: int = 0

    @property
    def left(self) -> int:
        """How many more of its invalid chunks may be halved."""
        return max(0, min(SPLITS_MAX, SPLITS_FREE + self.accepted) - self.splits)


def to_halve(connection: Connection, workload: str) -> list[ChunkRow]:
    """Refused chunks of more than one request that are still wanted and go again in halves, in the order of their cut."""
    refused = _refused(connection, workload)
    tallies = _tallies(connection, workload) if any(c.error_type == INVALID for c in refused) else {}
    chosen = [chunk for chunk in refused if chunk.error_type == TOO_LARGE]
    for snapshot, tally in tallies.items():
        invalid = [chunk for chunk in refused if chunk.snapshot == snapshot and chunk.error_type == INVALID]
        chosen += largest(invalid, tally.left)
    return sorted(chosen, key=lambda chunk: chunk.id)


def largest(chunks: Iterable[ChunkRow], count: int) -> list[ChunkRow]:
    """The `count` chunks whose halves let most requests through."""
    return sorted(chunks, key=lambda chunk: (-chunk.requests, chunk.id))[:count]


def _refused(connection: Connection, workload: str) -> list[ChunkRow]:
    chunk, snapshot = table.chunk, table.snapshot
    # Once a merge has told of its dead letters, a person decides (`retry`): an upgrade sends nothing of the past.
    open_to_us = snapshot.c.merged_at.is_(None) | (chunk.c.moved_at >= snapshot.c.merged_at)
    query = (
        select(chunk)
        .join(snapshot, (snapshot.c.workload == chunk.c.workload) & (snapshot.c.id == chunk.c.snapshot))
        .where(
            chunk.c.workload == workload,
            chunk.c.state == ChunkState.FAILED,
            (chunk.c.error_type == TOO_LARGE) | ((chunk.c.error_type == INVALID) & open_to_us),
            chunk.c.requests > 1,
            chunk.c.plan_number == snapshot.c.plan_number,
            snapshot.c.canceled_at.is_(None),
        )
    )
    return [ChunkRow.of(row) for row in connection.execute(query).mappings()]


def _tallies(connection: Connection, workload: str) -> dict[str, Tally]:
    """By snapshot, of its current plan."""
    chunk, snapshot = table.chunk, table.snapshot
    counted = (
        select(
            chunk.c.snapshot,
            func.count().filter(chunk.c.error_type == SPLIT),
            func.count().filter(chunk.c.batch_id.is_not(None)),
        )
        .join(snapshot, (snapshot.c.workload == chunk.c.workload) & (snapshot.c.id == chunk.c.snapshot))
        .where(chunk.c.workload == workload, chunk.c.plan_number == snapshot.c.plan_number)
        .group_by(chunk.c.snapshot)
    )
    return {name: Tally(splits, accepted) for name, splits, accepted in connection.execute(counted)}
