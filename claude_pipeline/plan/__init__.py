"""Before spending: tokens, cost, hours, lane, model and tier, as pure decisions over figures that `stage` reads.

plan = plan_workload(desk, workload, partition="2026-11-22")     # claude_pipeline.stage.forecast
print(plan.recommendation)
"""

from claude_pipeline.plan.cost import NO_CACHE, NO_DOUBT, Bin, CacheMix, Load, cost_usd
from claude_pipeline.plan.decision import Counts, NextTier, Plan, money, next_rung, recommend, spelled
from claude_pipeline.plan.hours import NOTHING, UNKNOWN, Hours, Turnaround, batch_hours, realtime_hours
from claude_pipeline.plan.interval import TERMS, Interval, Line, Moments, fit, predict, quantile, total_of, with_unseen
from claude_pipeline.plan.option import Candidate, Option, Sized, Terms, able, weigh
from claude_pipeline.plan.present import document, markdown, notes, numbers, rows, table
from claude_pipeline.plan.tokens import (
    ROUGH_SHARE,
    Estimate,
    Method,
    may_think,
    output_by_max_tokens,
    output_by_schema,
    rough_tokens,
)

__all__ = [
    "NOTHING",
    "NO_CACHE",
    "NO_DOUBT",
    "ROUGH_SHARE",
    "TERMS",
    "UNKNOWN",
    "Bin",
    "CacheMix",
    "Candidate",
    "Counts",
    "Estimate",
    "Hours",
    "Interval",
    "Line",
    "Load",
    "Method",
    "Moments",
    "NextTier",
    "Option",
    "Plan",
    "Sized",
    "Terms",
    "Turnaround",
    "able",
    "batch_hours",
    "cost_usd",
    "document",
    "fit",
    "markdown",
    "may_think",
    "money",
    "next_rung",
    "notes",
    "numbers",
    "output_by_max_tokens",
    "output_by_schema",
    "predict",
    "quantile",
    "realtime_hours",
    "recommend",
    "rough_tokens",
    "rows",
    "spelled",
    "table",
    "total_of",
    "weigh",
    "with_unseen",
]
