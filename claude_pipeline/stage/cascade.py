"""The next level of a cascade: what a settled level passes on is asked of the next model, in the next round.

Level-triggered, as rounds are. A collected chunk whose requests are to move on is due until it was looked at; who
asks what follows from the plan and the attempts alone (`stage.question`), and the new chunks and the note that
it was looked at are one transaction: a crash before it changes nothing, after it nothing is left to do.
"""

from __future__ import annotations

from claude_pipeline.crash import crash_point
from claude_pipeline.ledger import ChunkRow, ChunkState, SnapshotRow
from claude_pipeline.ledger.halving import SPLIT
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.mix import cut_each
from claude_pipeline.stage.unasked import Unasked
from claude_pipeline.workload import Workload


def cut_next_level(desk: Desk, workload: Workload, snapshot: SnapshotRow) -> None:
    """Ask the next model about every record of a snapshot whose level has passed it on.

    What another snapshot asks already is waited for, and what it has answered is reused.
    """
    chunks = desk.ledger.chunks(workload.name, snapshot=snapshot.id)
    due = [chunk for chunk in chunks if chunk.state is ChunkState.DONE and chunk.moves_on and not chunk.next_level_cut]
    if not due:
        return  # due was a chunk refused as too large, in halves by now
    used = max(chunk.round for chunk in chunks)
    unasked = Unasked(desk, workload, snapshot, [chunk for chunk in chunks if not _withdrawn(chunk)])
    new = cut_each(
        desk, workload, snapshot, unasked.rows, round_number=used + 1, plan_number=snapshot.plan_number,
        rounds_before=used, wanted=unasked.fingerprints,
    )  # fmt: skip
    crash_point("cascade.after_chunks")
    desk.ledger.next_level_cut(
        snapshot, of_chunks=[chunk.id for chunk in due], chunks=new, waits_on=unasked.waits_on, at=desk.clock()
    )
    crash_point("cascade.after_record")


def _withdrawn(chunk: ChunkRow) -> bool:
    """Never sent, and by an older plan: what it would have asked was not asked."""
    return chunk.state is ChunkState.CANCELED and chunk.batch_id is None and chunk.error_type != SPLIT
