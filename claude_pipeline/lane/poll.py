"""Look at everything in flight: one list call, more pages only where a batch of ours is further back.

Before it ends a batch shows no progress (all counts but `processing` stay 0), so a look asks only
whether it has ended. A 404 right after a create, or an unknown status, is waited out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import ApiRefused
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import BatchId, BatchSeen, Ledger

PAGES_MAX = 10  # of 1,000: beyond that a batch is asked for by itself


@dataclass
class Look:
    """What a look found."""

    ended: list[BatchId] = field(default_factory=list)
    in_progress: list[BatchSeen] = field(default_factory=list)
    missing: list[BatchId] = field(default_factory=list)  # not found now; looked for again next time


def poll(ledger: Ledger, client: BatchClient, *, clock: Callable[[], datetime]) -> Look:
    """Record what the API says of each batch of ours that has not ended.

    Raises:
        ApiUnclear, KeyRefused, AccountStopped, WorkspaceMismatch: nothing is recorded then.
    """
    look = Look()
    waiting = ledger.batches_in_progress()
    if not waiting:
        return look
    listed = _listed(ledger, client, waiting, clock)
    _record(ledger, listed, look, clock)
    for batch_id in sorted(waiting - {seen.id for seen in listed}):
        try:
            _record(ledger, [client.retrieve(batch_id)], look, clock)
        except ApiRefused:
            look.missing.append(batch_id)
    crash_point("poll.after")
    return look


def _listed(
    ledger: Ledger, client: BatchClient, wanted: set[BatchId], clock: Callable[[], datetime]
) -> list[BatchSeen]:
    found: list[BatchSeen] = []
    after: BatchId | None = None
    for _ in range(PAGES_MAX):
        page = client.page(after_id=after)
        ledger.pin_workspace(page.workspace_id, at=clock())
        found += [seen for seen in page.batches if seen.id in wanted]
        if len(found) >= len(wanted) or not page.has_more or not page.batches:
            break
        after = page.batches[-1].id
    return found


def _record(ledger: Ledger, batches: Sequence[BatchSeen], look: Look, clock: Callable[[], datetime]) -> None:
    """Those that have ended, in one move: a hundred may end within a tick, and each move waits for the disk."""
    ended = [seen for seen in batches if seen.ended]
    if ended:
        ledger.batch_seen(*ended, at=clock())
    look.ended += [seen.id for seen in ended]
    look.in_progress += [seen for seen in batches if not seen.ended]
