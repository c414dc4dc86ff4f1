"""The pictures of a summary: throughput of a snapshot; cost and turnaround of its workload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import orjson

from claude_pipeline.picture.cost import CostDay, draw_cost
from claude_pipeline.picture.frame import Look
from claude_pipeline.picture.throughput import Flow, draw_throughput
from claude_pipeline.picture.turnaround import draw_turnarounds


@dataclass(frozen=True)
class SummaryRows:
    """What is drawn: minutes of the snapshot, days of the workload, and hours that batches took; `width` in px."""

    flows: list[Flow]
    costs: list[CostDay]
    hours: list[float]
    width: int

    def to_json(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        found = orjson.loads(text)
        flows = [Flow(**{**flow, "at": datetime.fromisoformat(flow["at"])}) for flow in found["flows"]]
        costs = [CostDay(**{**cost, "day": date.fromisoformat(cost["day"])}) for cost in found["costs"]]
        return cls(flows, costs, found["hours"], found["width"])


def draw_summary(rows: SummaryRows) -> dict[str, str]:
    """The SVG text of each, by its name."""
    return {
        "throughput": draw_throughput(rows.flows, Look("throughput", rows.width)),
        "cost_by_day": draw_cost(rows.costs, Look("cost", rows.width)),
        "batch_turnaround": draw_turnarounds(rows.hours, Look("turnaround", rows.width)),
    }
