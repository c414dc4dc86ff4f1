"""Throughput of what lasted: requests and tokens of each minute, from spans with a start and an end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from claude_pipeline.picture import Flow


@dataclass(frozen=True)
class Span:
    """Requests answered between two moments, nobody knows when within."""

    start: datetime
    end: datetime
    requests: int
    tokens: int


def spread(spans: Iterable[Span], lane: str, *, estimated: bool) -> list[Flow]:
    """Each span evenly over the minutes that it touches, all spans added up; one row per minute with anything in it."""
    steps: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for span in spans:
        first, last = int(span.start.timestamp() // 60), int(span.end.timestamp() // 60)
        minutes = last - first + 1
        for at, sign in ((first, 1), (last + 1, -1)):
            steps[at][0] += sign * span.requests / minutes
            steps[at][1] += sign * span.tokens / minutes
            steps[at][2] += sign
    flows: list[Flow] = []
    requests = tokens = going = 0.0
    edges = sorted(steps)
    for edge, following in pairwise(edges):
        requests, tokens, going = (now + step for now, step in zip((requests, tokens, going), steps[edge], strict=True))
        if going:
            flows += [
                Flow(datetime.fromtimestamp(minute * 60, UTC), lane, requests, tokens, estimated)
                for minute in range(edge, following)
            ]
    return flows
