"""Moves of a ledger without files, named by the state they reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from claude_pipeline.ledger import (
    BatchId,
    BatchSeen,
    ChunkRow,
    Collected,
    IntentRow,
    Ledger,
    Spend,
    Tag,
    Walls,
)
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import NO_WALLS

SPEND = Spend("claude-haiku-5-5", "batch", NOW, 10, 100, 50, 0, 0, 7)
COLLECTED = Collected(
    succeeded=10, errored=0, canceled=0, expired=0, retryable=0, invalid=0, spend=(SPEND,)
)  # fmt: skip


def seen(number: int, *, status: str = "in_progress", requests: int = 10) -> BatchSeen:
    ended = NOW + timedelta(hours=1) if status == "ended" else None
    counts = {"succeeded": requests} if ended else {"processing": requests}
    return BatchSeen(
        BatchId(f"msgbatch_{number}"), status, requests, counts, NOW, NOW + timedelta(hours=24), ended, None
    )


def opened(ledger: Ledger, chunk: ChunkRow, number: int = 1, walls: Walls = NO_WALLS) -> IntentRow:
    return ledger.intent_opened(chunk, tag=Tag(f"tag-{number}"), watermark=None, walls=walls, at=NOW)


def live(ledger: Ledger, chunk: ChunkRow, number: int = 1) -> IntentRow:
    intent = opened(ledger, chunk, number)
    ledger.intent_live(intent, seen(number, requests=chunk.requests), at=NOW)
    return intent


def collected(ledger: Ledger, chunk: ChunkRow, number: int = 1, what: Collected = COLLECTED) -> ChunkRow:
    live(ledger, chunk, number)
    ledger.batch_seen(seen(number, status="ended", requests=chunk.requests), at=NOW)
    ledger.chunk_collected(ledger.chunk(chunk.id), what, [], at=NOW)
    return ledger.chunk(chunk.id)


def events(ledger: Ledger) -> list[dict[str, Any]]:
    return list(ledger.dump("event"))


def moves(ledger: Ledger) -> list[str]:
    return [str(event["move"]) for event in events(ledger)]


def walls(**changes: Any) -> Walls:
    return replace(NO_WALLS, **changes)
