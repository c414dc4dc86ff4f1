"""Cancel a snapshot: nothing more of it is sent, and what is at the API is asked to stop."""

from __future__ import annotations

from dataclasses import dataclass

from claude_pipeline.errors import ApiRefused, ApiUnclear
from claude_pipeline.lane.cancel import cancel_live
from claude_pipeline.ledger import ChunkState, SnapshotRow
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.retry import newest_snapshot
from claude_pipeline.workload import Workload


@dataclass(frozen=True)
class Canceled:
    """What became of a canceled snapshot's chunks; units are 1e-10 USD."""

    snapshot: SnapshotRow
    withdrawn: int  # chunks never sent
    asked: int  # batches that the API was asked to cancel
    unasked: int  # batches that the API could not be asked about now, or creates in doubt: asked at the next look
    spent_units: int  # billed for what is collected
    reserved_units: int  # at most billed for what is still at the API


def cancel(desk: Desk, workload: Workload, snapshot_id: str) -> Canceled:
    """Withdraw what was not sent, and ask the API to cancel the rest; repeatable.

    What the API has answered by then is billed, kept and collected as ever.

    Raises:
        UsageError: there is no such snapshot.
    """
    with desk.ledger.lock(f"plan-{workload.name}", wait=True):  # or a round cut meanwhile would be sent
        snapshot = newest_snapshot(desk, workload, snapshot_id)
        before = desk.ledger.chunks(workload.name, snapshot=snapshot.id, states=[ChunkState.READY, ChunkState.HELD])
        away = desk.ledger.snapshot_canceled(snapshot, at=desk.clock())
    try:
        asked = [c for c in cancel_live(desk.ledger, desk.client, clock=desk.clock) if c.id in {a.id for a in away}]
    except (ApiUnclear, ApiRefused):
        asked = []
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    return Canceled(
        snapshot=snapshot,
        withdrawn=len(before),
        asked=len(asked),
        unasked=sum(c.cancel_asked_at is None for c in chunks if c.state in (ChunkState.LIVE, ChunkState.SENDING)),
        spent_units=sum(c.cost_units or 0 for c in chunks),
        reserved_units=sum(c.reserve_units for c in away),
    )
