"""What was sent and what became of it: the ledger of snapshots, chunks, intents, batches, events."""

from claude_pipeline.ledger.inspection import LedgerSeen, inspect_ledger
from claude_pipeline.ledger.ledger import Ledger
from claude_pipeline.ledger.lock import Hold
from claude_pipeline.ledger.progress import SnapshotProgress
from claude_pipeline.ledger.record import (
    AlertRow,
    AskingRow,
    BatchId,
    BatchRow,
    BatchSeen,
    ChunkRow,
    Collected,
    IntentRow,
    NewChunk,
    Part,
    PlanCounts,
    RateRow,
    SnapshotId,
    SnapshotRow,
    Spend,
    Stop,
    Tag,
    Walls,
    WatchedBatch,
    Watermark,
)
from claude_pipeline.ledger.state import ChunkState, IntentState, SnapshotState
from claude_pipeline.ledger.submit_moves import QueueFull
from claude_pipeline.ledger.watch import ChunkGroup

__all__ = [
    "AlertRow",
    "AskingRow",
    "BatchId",
    "BatchRow",
    "BatchSeen",
    "ChunkGroup",
    "ChunkRow",
    "ChunkState",
    "Collected",
    "Hold",
    "IntentRow",
    "IntentState",
    "Ledger",
    "LedgerSeen",
    "NewChunk",
    "Part",
    "PlanCounts",
    "QueueFull",
    "RateRow",
    "SnapshotId",
    "SnapshotProgress",
    "SnapshotRow",
    "SnapshotState",
    "Spend",
    "Stop",
    "Tag",
    "Walls",
    "WatchedBatch",
    "Watermark",
    "inspect_ledger",
]
