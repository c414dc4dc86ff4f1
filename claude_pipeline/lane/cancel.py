"""Ask the API to cancel batches: those of canceled snapshots, and those whose rest is to be asked in real time.

What is answered by then is billed, kept and collected.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from claude_pipeline.errors import ApiRefused, ApiUnclear
from claude_pipeline.lane.client import BatchClient
from claude_pipeline.ledger import ChunkRow, Ledger


def cancel_live(ledger: Ledger, client: BatchClient, *, clock: Callable[[], datetime]) -> list[ChunkRow]:
    """Cancel what is at the API and not asked yet; also what was adopted only after its snapshot was canceled.

    Returns the chunks asked for now. One that gets no answer is asked for again at the next look.
    """
    asked = []
    for chunk in ledger.to_be_canceled():
        assert chunk.batch_id is not None
        try:
            client.cancel(chunk.batch_id)
        except ApiUnclear:
            continue
        except ApiRefused:
            pass  # it has ended by itself
        ledger.batch_cancel_asked(chunk, at=clock())
        asked.append(chunk)
    return asked
