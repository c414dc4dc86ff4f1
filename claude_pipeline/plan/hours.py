"""How long a load takes in a lane, and which limit of the tier binds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from claude_pipeline.catalog import Rate, Tier

MINUTES = 60.0  # in an hour


@dataclass(frozen=True)
class Turnaround:
    """From a batch's creation to its end, in hours."""

    median_hours: float
    p90_hours: float
    assumed: bool
    basis: str  # a clause for people


@dataclass(frozen=True)
class Hours:
    """`expected` is the usual case, `cautious` what is passed once in ten times; None: no limits are published."""

    expected: float | None
    cautious: float | None
    binding: str  # the limit that decides
    waves: int = 1  # how often the queue fills

    def verdict(self, deadline_hours: float) -> str:
        if self.expected is None or self.cautious is None:
            return "unknown"
        if self.cautious <= deadline_hours:
            return "met"
        return "likely" if self.expected <= deadline_hours else "missed"


UNKNOWN = Hours(None, None, "no limits are published for this tier")
NOTHING = Hours(0.0, 0.0, "nothing to send", waves=0)


def batch_hours(
    requests: int, *, requests_per_batch: int, tier: Tier, batches_in_flight: int, turnaround: Turnaround
) -> Hours:
    """Batches run beside each other until the tier's queue is full; the next wave waits for room."""
    if not requests:
        return NOTHING
    queued = tier.batch.queued_requests
    if queued is None:
        return UNKNOWN
    per_batch = max(min(requests_per_batch, queued, requests), 1)
    at_once = min(max(queued // per_batch, 1), batches_in_flight)
    batches = math.ceil(requests / per_batch)
    waves = math.ceil(batches / at_once)
    binding = "time of a batch at the API"
    if waves > 1:
        in_queue = queued // per_batch <= batches_in_flight
        binding = f"{queued:,} queued requests" if in_queue else f"{batches_in_flight:,} batches in flight"
    if (pace := tier.batch.requests_per_minute) and batches / pace / MINUTES > waves * turnaround.median_hours:
        binding = f"{pace:,} batch calls per minute"
    creating = batches / tier.batch.requests_per_minute / MINUTES if tier.batch.requests_per_minute else 0.0
    return Hours(
        max(waves * turnaround.median_hours, creating), max(waves * turnaround.p90_hours, creating), binding, waves
    )


def realtime_hours(requests: int, tokens_in: float, tokens_out: float, rate: Rate | None, *, doubt: float) -> Hours:
    """Requests as fast as the model's limits let them; `doubt` is how many times as many tokens there may be."""
    if not requests:
        return NOTHING
    if rate is None:
        return UNKNOWN
    needs = {
        "requests per minute": (requests, rate.requests_per_minute, 1.0),
        "input tokens per minute": (tokens_in, rate.input_tokens_per_minute, doubt),
        "output tokens per minute": (tokens_out, rate.output_tokens_per_minute, doubt),
    }
    minutes = {
        f"{limit:,} {name}": (need / limit, need * more / limit) for name, (need, limit, more) in needs.items() if limit
    }
    if not minutes:
        return UNKNOWN
    binding = max(minutes, key=lambda name: minutes[name][0])
    return Hours(minutes[binding][0] / MINUTES, max(m[1] for m in minutes.values()) / MINUTES, binding)
