"""What was sent and what became of it: the ledger of snapshots, chunks, intents, batches, events."""

from claude_pipeline.ledger.ledger import Ledger
from claude_pipeline.ledger.lock import Hold
from claude_pipeline.ledger.progress import SnapshotProgress
from claude_pipeline.ledger.record import (
    BatchId,
    BatchRow,
    BatchSeen,
    ChunkRow,
    Collected,
    IntentRow,
    NewChunk,
    Part,
    PlanCounts,
    SnapshotId,
    SnapshotRow,
    Spend,
    Stop,
    Tag,
    Walls,
)
from claude_pipeline.ledger.state import ChunkState, IntentState, SnapshotState
from claude_pipeline.ledger.submit_moves import QueueFull

__all__ = [
    "BatchId",
    "BatchRow",
    "BatchSeen",
    "ChunkRow",
    "ChunkState",
    "Collected",
    "Hold",
    "IntentRow",
    "IntentState",
    "Ledger",
    "NewChunk",
    "Part",
    "PlanCounts",
    "QueueFull",
    "SnapshotId",
    "SnapshotProgress",
    "SnapshotRow",
    "SnapshotState",
    "Spend",
    "Stop",
    "Tag",
    "Walls",
]
