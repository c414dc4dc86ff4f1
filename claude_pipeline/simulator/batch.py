"""One Message Batch and its life: pure decisions over its row and a moment.

    in_progress -> ended                  all requests were answered, or 24 h passed
    in_progress -> canceling -> ended     somebody canceled; what was finished stays finished

Requests finish one after another in a shuffled order, evenly between creation and end. So at any
moment the finished ones are the first n of that order, and a cancel or an expiry cuts it there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_pipeline.simulator.clock import SECOND_US, rfc3339, rfc3339_or_none
from claude_pipeline.simulator.pace import batch_seconds

EXPIRY_US = 24 * 3600 * SECOND_US  # after creation (API documentation, batch-processing)
ARCHIVE_US = 29 * 24 * 3600 * SECOND_US  # after creation: results are gone
CANCEL_US = 30 * SECOND_US  # from the cancel to the end, at most half the batch's whole time (assumed)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the store keeps it. Moments are microseconds since 1970, simulator's clock."""

    seq: int  # rises with each batch; the list's order
    id: str
    workspace: str
    version: str  # anthropic-version of the call that made it
    betas: str  # anthropic-beta of that call
    created_us: int
    due_us: int  # when it ends if nobody cancels it
    cap: int  # requests that are finished by then; the rest expires
    size: int
    size_bytes: int
    rules: str  # JSON list of the faults that hold for this batch
    visible_us: int  # from when on `list` shows it
    answered: int  # 1 once the answers are written
    cancel_us: int | None
    ended_us: int | None
    deleted: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    billed: int
    cost_pico: int


@dataclass(frozen=True, slots=True)
class End:
    """How a batch ends: when, how many requests were finished, and what became of the others."""

    at_us: int
    finished: int
    rest: str  # canceled or expired


def end_of(batch: Batch) -> End:
    """The end that is now in sight; a cancel brings it forward."""
    if batch.cancel_us is None:
        return End(batch.due_us, batch.cap, "expired")
    lasting_us = min(CANCEL_US, (batch.due_us - batch.created_us) // 2)
    at_us = min(batch.cancel_us + lasting_us, batch.due_us)
    return End(at_us, finished_by(batch, at_us), "canceled")


def finished_by(batch: Batch, now_us: int) -> int:
    """How many requests are finished at a moment."""
    if now_us >= batch.due_us:
        return batch.cap
    passed = max(now_us - batch.created_us, 0)
    return batch.cap * passed // max(batch.due_us - batch.created_us, 1)


def finish_moment(batch: Batch, position: int) -> int:
    """When the request at a position of the finishing order is finished."""
    span = batch.due_us - batch.created_us
    return batch.created_us + span * (position + 1) // max(batch.cap, 1)


def finishing_order(seed: int, seq: int, size: int) -> list[int]:
    """The shuffled order in which requests finish and in which their results stand."""
    order = list(range(size))
    random.Random(f"{seed}:order:{seq}").shuffle(order)
    return order


def natural_end(created_us: int, lasting_us: int, size: int) -> tuple[int, int]:
    """When a batch ends that would take `lasting_us`, and how many requests are finished by then."""
    if lasting_us <= EXPIRY_US:
        return created_us + lasting_us, size
    return created_us + EXPIRY_US, size * EXPIRY_US // lasting_us


def duration_us(seed: int, seq: int, lines: Mapping[str, int], bounds: tuple[float, float] | None) -> int:
    """How long a batch takes, from the seed, its number and its requests by model line."""
    chance = random.Random(f"{seed}:duration:{seq}")
    if bounds is not None:
        return round(chance.uniform(*bounds) * SECOND_US)
    return round(batch_seconds(lines, chance) * SECOND_US)


def state_of(batch: Batch) -> str:
    """in_progress, canceling or ended."""
    if batch.ended_us is not None:
        return "ended"
    return "in_progress" if batch.cancel_us is None else "canceling"


def batch_json(batch: Batch, now_us: int, base_url: str) -> dict[str, Any]:
    """The API's MessageBatch object. Counts other than `processing` stay 0 until the end."""
    ended = batch.ended_us is not None
    archived_us = batch.created_us + ARCHIVE_US
    archived = ended and now_us >= archived_us
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": state_of(batch),
        "request_counts": {
            "processing": 0 if ended else batch.size,
            "succeeded": batch.succeeded if ended else 0,
            "errored": batch.errored if ended else 0,
            "canceled": batch.canceled if ended else 0,
            "expired": batch.expired if ended else 0,
        },
        "created_at": rfc3339(batch.created_us),
        "expires_at": rfc3339(batch.created_us + EXPIRY_US),
        "ended_at": rfc3339_or_none(batch.ended_us),
        "archived_at": rfc3339(archived_us) if archived else None,
        "cancel_initiated_at": rfc3339_or_none(batch.cancel_us),
        "results_url": f"{base_url}/v1/messages/batches/{batch.id}/results" if ended and not archived else None,
    }
