"""How fast each lane goes now: requests and tokens per minute by workload, model and lane.

A process that asks in real time says its own figures with each heartbeat. A batch shows no progress before it
ends, and no times of its requests after it: what ended within the last hour is spread evenly over each batch's
time, and the part that falls into the hour is counted. That is an estimate, and is marked as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_pipeline.ledger import AskingRow, Ledger
from claude_pipeline.ledger.ask_moves import REALTIME
from claude_pipeline.ledger.watch import Ended

WINDOW = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Rate:
    """Per minute."""

    workload: str
    model: str
    lane: str
    requests: float
    input_tokens: float
    output_tokens: float
    estimated: bool


def rates(ledger: Ledger, now: datetime) -> list[Rate]:
    """The rates of a moment, batches first."""
    return [*of_batches(ledger.ended_batches(since=now - WINDOW), now), *map(of_asking, ledger.asking(at=now))]


def of_batches(ended: Iterable[Ended], now: datetime) -> list[Rate]:
    """The part of what ended batches answered that falls into the last hour, per minute of it."""
    sums: dict[tuple[str, str], list[float]] = {}
    ended = list(ended)
    now = max([now, *(batch.ended_at for batch in ended)])  # the API's clock may be ahead of ours
    for batch in ended:
        took = max(batch.ended_at - batch.created_at, MINUTE)
        within = batch.ended_at - max(batch.ended_at - took, now - WINDOW)
        if within <= timedelta(0):
            continue
        share = within / took / (WINDOW / MINUTE)
        of = sums.setdefault((batch.workload, batch.model), [0.0, 0.0, 0.0])
        for place, amount in enumerate((batch.requests, batch.input_tokens, batch.output_tokens)):
            of[place] += amount * share
    return [
        Rate(workload, model, "batch", requests, input_tokens, output_tokens, estimated=True)
        for (workload, model), (requests, input_tokens, output_tokens) in sorted(sums.items())
    ]


def of_asking(row: AskingRow) -> Rate:
    """What a process that asks in real time said of itself."""
    return Rate(
        row.workload,
        " + ".join(json.loads(row.pools)),
        REALTIME,
        row.requests_per_minute,
        row.input_tokens_per_minute,
        row.output_tokens_per_minute,
        estimated=False,
    )
