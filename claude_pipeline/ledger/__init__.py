"""What was sent and what became of it: the ledger of snapshots, chunks, intents, batches, events."""

from claude_pipeline.ledger.ledger import Ledger, SnapshotProgress
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
    "Tag",
    "Walls",
]
