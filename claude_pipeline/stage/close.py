"""A finished journal -> result rows and merged rows on disk: the real-time lane's collecting."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from claude_pipeline.crash import crash_point
from claude_pipeline.lane.journal import Journal, results
from claude_pipeline.ledger import ChunkRow, Collected
from claude_pipeline.result import AskedFacts
from claude_pipeline.stage.answers import index_of, keep, read_answers
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.raw import pack
from claude_pipeline.stage.reserve import Reserves
from claude_pipeline.workload import Workload


def close(desk: Desk, workload: Workload, chunk: ChunkRow, journal: Journal, reserves: Reserves) -> Collected:
    """Read a chunk's journal, write its rows, then one transaction moves the chunk to `done`. Safe to repeat.

    `reserves` are the units that each request may cost; what was lost stays reserved.

    Raises:
        ResultsIncomplete: a request has no end yet.
        LedgerDamaged: the chunk's index is not what was cut.
    """
    facts = AskedFacts(
        snapshot=chunk.snapshot,
        chunk=chunk.key,
        attempt=chunk.round,
        tag=chunk.key,
        batch_id=None,
        model=chunk.model,
        max_tokens=chunk.max_tokens,
        lane="realtime",
    )
    parsed = read_answers(desk, workload, results(journal.path), index_of(desk, chunk), facts)
    kept = keep(desk, workload, chunk, parsed)
    # Answered without its usage; what could not be read is one of the journal's open POSTs.
    without = pc.and_(
        pc.is_null(parsed.table.column("cost_usd")), pc.equal(parsed.table.column("outcome"), "succeeded")
    )
    unknown = int(reserves[without.to_numpy()].sum())
    collected = kept.collected(parsed, kept_units=lost_units(journal, reserves) + unknown, lost=journal.unrecorded)
    crash_point("close.before_record")
    desk.ledger.chunk_collected(chunk, collected, kept.parts, at=desk.clock())
    crash_point("close.after_record")
    pack(journal.path)
    return collected


def journal_of(desk: Desk, chunk: ChunkRow) -> Path:
    """Where a chunk's journal is. It names what is asked, not only the chunk: under a restored ledger another one
    may get the same key, and the same one finds its answers again."""
    return desk.home.journal(chunk.workload, chunk.snapshot, f"{chunk.key}-{chunk.params_sha256[:16]}.jsonl")


def lost_units(journal: Journal, reserves: Reserves) -> int:
    """What the requests may have cost whose answers nobody recorded: once for each of their POSTs."""
    if not journal.unrecorded:
        return 0
    return sum(int(reserves[position]) * journal.unrecorded_of(position) for position in range(len(reserves)))
