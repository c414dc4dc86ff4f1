"""Chunks that wait for the one that fills the prompt cache for them.

A primer is a chunk of one request, sent first. The others of its snapshot name it in `waits_for` and wait
until its batch has ended: however it ended, for what they ask does not depend on it. Read from the ledger
at each look, so that nothing needs to be woken.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from claude_pipeline.ledger import ChunkRow, ChunkState, Ledger

# Most batches end within an hour; one that takes longer must not cost the others their deadline.
PATIENCE = timedelta(hours=1)
BEFORE_ITS_END = frozenset({ChunkState.HELD, ChunkState.READY, ChunkState.SENDING, ChunkState.ASKING, ChunkState.LIVE})


def why_wait(chunk: ChunkRow, primer: ChunkRow | None, now: datetime) -> str | None:
    """The sentence of a chunk that waits for its primer; None where it need not (any more)."""
    if chunk.waits_for is None or primer is None or primer.state not in BEFORE_ITS_END:
        return None
    if primer.state is ChunkState.LIVE and now - primer.moved_at >= PATIENCE:
        return None
    return f"it waits for {primer.partition_key}, the one request that fills the prompt cache first"


class Primers:
    """The primers that chunks wait for, each read once."""

    def __init__(self, ledger: Ledger, now: datetime) -> None:
        self._ledger, self._now = ledger, now
        self._known: dict[tuple[str, str, str], ChunkRow | None] = {}

    def why_wait(self, chunk: ChunkRow) -> str | None:
        """As `why_wait`, of a chunk and what the ledger says of its primer."""
        if chunk.waits_for is None:
            return None
        place = (chunk.workload, chunk.snapshot, chunk.waits_for)
        if place not in self._known:
            self._known[place] = self._ledger.chunk_by_key(*place)
        return why_wait(chunk, self._known[place], self._now)
