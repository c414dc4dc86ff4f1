"""Plans for tests: loads, and a plan of two models over three tiers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from claude_pipeline.catalog import Catalog
from claude_pipeline.plan import (
    Bin,
    Candidate,
    Counts,
    Estimate,
    Interval,
    Line,
    Load,
    Method,
    Plan,
    Sized,
    Terms,
    Turnaround,
    next_rung,
    weigh,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = Turnaround(1.0, 2.0, False, "learned from 40 past batches")


def estimate(tokens: float, requests: int, *, low: float = 1.0, high: float = 1.0) -> Estimate:
    per = tokens / max(requests, 1)
    return Estimate(Interval(tokens, tokens * low, tokens * high), Line(per, 0.0, 0.0), Method.PAST_RESULTS, "a fit")


def sized(catalog: Catalog, *, requests: int = 1_000, model: str = "claude-sonnet-5-5") -> Sized:
    load = Load(model, (Bin(requests, requests * 400),), 400)
    found = catalog.model(model)
    return Sized(
        load,
        found,
        catalog.price(found.id, NOW),
        estimate(200.0 * requests, requests),
        estimate(50.0 * requests, requests),
    )


def make_plan(catalog: Catalog, *, requests: int = 1_000, deadline: float = 24, **changes: Any) -> Plan:
    tiers = [catalog.tier(name) for name in ("start", "build", "scale")]
    s, cheap = sized(catalog, requests=requests), sized(catalog, requests=requests, model="claude-haiku-5-5")
    candidates = [Candidate(s.model.id, True, (s,), HOUR), Candidate(cheap.model.id, False, (cheap,), HOUR)]
    options = weigh(candidates, tiers, Terms(deadline, 10_000, 100))
    plan = Plan(
        workload="notes", partition="2026-11-22", snapshot=None, model=s.model.id, tier="start",
        counts=Counts(requests, requests, 0, 0, 0, 0, 0, 400 * requests, max(requests // 10_000, 1)),
        tokens_in=s.tokens_in, tokens_out=s.tokens_out, turnaround=HOUR, options=options,
        next_tier=next_rung(options, tiers[0], catalog.tiers), deadline_hours=deadline, budget_usd=None, reserve_usd=9.0,
        warnings=(), count_tokens_calls=0,
    )  # fmt: skip
    return replace(plan, **changes)
