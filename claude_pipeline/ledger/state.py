"""States of a chunk, an intent and a snapshot, and which moves are allowed.

chunk     held ⇄ ready → sending → live → ended → done
                  ↑________|        |_______|→ canceled   (its results are gone for ever)
          held, ready → asking → done                (in the real-time lane)
          held, ready → canceled → ready             (withdrawn; a person sends it again)
          ready, sending → failed → ready            (a person sends it again)
          failed → canceled                          (its halves take its place)
intent    open → doubt → live → closed
          open → live | rejected;  doubt → absent
          rejected, absent → live                    (it shows up after all, and was not sent again)
snapshot  loaded → planned → merged → planned | merged   (a repaired chunk merges again)
"""

from __future__ import annotations

from enum import StrEnum

from claude_pipeline.errors import IllegalMove


class ChunkState(StrEnum):
    HELD = "held"  # the budget's wall stands before it
    READY = "ready"  # may be sent
    SENDING = "sending"  # an intent is open or in doubt: never sent again until that is settled
    ASKING = "asking"  # its requests are asked in real time; what is answered stands in its journal
    LIVE = "live"  # a batch at the API holds it
    ENDED = "ended"  # its batch ended; results not yet collected
    DONE = "done"  # collected
    FAILED = "failed"  # the API refused it; a person may send it again
    CANCELED = "canceled"  # withdrawn before it was sent, or its batch is gone


class IntentState(StrEnum):
    OPEN = "open"  # about to be sent, or the process died then
    DOUBT = "doubt"  # sent, no clear answer: the API's list will tell
    LIVE = "live"  # a batch id is recorded
    REJECTED = "rejected"  # the API refused it, or it never left
    ABSENT = "absent"  # looked for, not there: it was not accepted
    CLOSED = "closed"  # its batch is collected


class SnapshotState(StrEnum):
    LOADED = "loaded"  # the records are on disk
    PLANNED = "planned"  # its chunks are registered
    MERGED = "merged"  # each record has its final outcome on disk


CHUNK_MOVES: dict[ChunkState, frozenset[ChunkState]] = {
    ChunkState.HELD: frozenset({ChunkState.READY, ChunkState.ASKING, ChunkState.CANCELED, ChunkState.LIVE}),
    ChunkState.READY: frozenset(
        {
            ChunkState.HELD,
            ChunkState.SENDING,
            ChunkState.ASKING,
            ChunkState.FAILED,
            ChunkState.CANCELED,
            ChunkState.LIVE,
        }
    ),
    ChunkState.ASKING: frozenset({ChunkState.DONE}),
    ChunkState.SENDING: frozenset({ChunkState.READY, ChunkState.LIVE, ChunkState.FAILED}),
    ChunkState.LIVE: frozenset({ChunkState.ENDED, ChunkState.CANCELED}),
    ChunkState.ENDED: frozenset({ChunkState.DONE, ChunkState.CANCELED}),
    ChunkState.DONE: frozenset(),
    ChunkState.FAILED: frozenset({ChunkState.READY, ChunkState.CANCELED, ChunkState.LIVE}),
    ChunkState.CANCELED: frozenset({ChunkState.READY, ChunkState.LIVE}),
}
INTENT_MOVES: dict[IntentState, frozenset[IntentState]] = {
    IntentState.OPEN: frozenset({IntentState.DOUBT, IntentState.LIVE, IntentState.REJECTED}),
    IntentState.DOUBT: frozenset({IntentState.LIVE, IntentState.ABSENT}),
    IntentState.LIVE: frozenset({IntentState.CLOSED}),
    IntentState.REJECTED: frozenset({IntentState.LIVE}),
    IntentState.ABSENT: frozenset({IntentState.LIVE}),
    IntentState.CLOSED: frozenset(),
}
TERMINAL = frozenset({ChunkState.DONE, ChunkState.FAILED, ChunkState.CANCELED})
ON_ITS_WAY = frozenset(set(ChunkState) - TERMINAL)
IN_FLIGHT = frozenset({ChunkState.SENDING, ChunkState.ASKING, ChunkState.LIVE, ChunkState.ENDED})
UNSETTLED_INTENTS = frozenset({IntentState.OPEN, IntentState.DOUBT})
OWNING_INTENTS = frozenset({IntentState.OPEN, IntentState.DOUBT, IntentState.LIVE})


def check_chunk_move(before: ChunkState, after: ChunkState) -> None:
    """Raises IllegalMove where the table above has no such move."""
    if after not in CHUNK_MOVES[before]:
        raise IllegalMove(f"a chunk that is {before} cannot become {after}")


def check_intent_move(before: IntentState, after: IntentState) -> None:
    """Raises IllegalMove where the table above has no such move."""
    if after not in INTENT_MOVES[before]:
        raise IllegalMove(f"an intent that is {before} cannot become {after}")
