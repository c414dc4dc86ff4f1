"""The alternatives: model x lane x tier, each with its cost, its hours and whether it meets the deadline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from claude_pipeline.catalog import Catalog, Lane, Model, Price, Tier
from claude_pipeline.plan.cost import NO_CACHE, NO_DOUBT, CacheMix, Load, cost_usd, total
from claude_pipeline.plan.hours import NOTHING, UNKNOWN, Hours, Turnaround, batch_hours, realtime_hours
from claude_pipeline.plan.interval import Interval
from claude_pipeline.plan.tokens import Estimate

LANES: tuple[Lane, ...] = ("batch", "realtime")


@dataclass(frozen=True)
class Sized:
    """A load with its tokens and the price of its model."""

    load: Load
    model: Model
    price: Price
    tokens_in: Estimate
    tokens_out: Estimate
    cache: CacheMix = NO_CACHE
    billed_share: float = 1.0
    doubt: Interval = NO_DOUBT  # about cache and billed_share, relative to the cost


@dataclass(frozen=True)
class Candidate:
    """One way to choose models: the workload's own, or all requests to another model."""

    name: str
    own: bool
    sized: tuple[Sized, ...]
    turnaround: Turnaround
    note: str = ""


@dataclass(frozen=True)
class Option:
    """One row of the table of alternatives."""

    model: str
    lane: Lane
    tier: str
    usd: Interval
    hours: Hours
    verdict: str  # met, likely, missed, unknown
    own: bool  # the workload's model
    available: bool  # the lane takes such requests
    note: str


@dataclass(frozen=True)
class Terms:
    """What holds for every option."""

    deadline_hours: float
    requests_per_batch: int
    batches_in_flight: int
    geo: str | None = None
    realtime: bool = True  # answers are short enough to wait for in real time


def weigh(candidates: Sequence[Candidate], tiers: Sequence[Tier], terms: Terms) -> tuple[Option, ...]:
    """Every candidate in every lane on every tier, in that order."""
    return tuple(_weighed(candidates, tiers, terms))


def _weighed(candidates: Sequence[Candidate], tiers: Sequence[Tier], terms: Terms) -> Iterator[Option]:
    for candidate in candidates:
        for lane in LANES:
            usd = total([
                cost_usd(s.load, s.tokens_in, s.tokens_out, s.price, lane=lane, geo=terms.geo, cache=s.cache,
                         billed_share=s.billed_share, doubt=s.doubt)
                for s in candidate.sized
            ])  # fmt: skip
            for tier in tiers:
                hours = _hours(candidate, lane, tier, terms)
                available = lane == "batch" or terms.realtime
                verdict = hours.verdict(terms.deadline_hours)
                yield Option(
                    candidate.name, lane, tier.name, usd, hours, verdict, candidate.own, available, candidate.note
                )


def _hours(candidate: Candidate, lane: Lane, tier: Tier, terms: Terms) -> Hours:
    if lane == "batch":
        return batch_hours(
            sum(s.load.requests for s in candidate.sized),
            requests_per_batch=terms.requests_per_batch,
            tier=tier,
            batches_in_flight=terms.batches_in_flight,
            turnaround=candidate.turnaround,
        )
    pools: dict[str, list[Sized]] = defaultdict(list)
    for s in candidate.sized:
        pools[s.model.rate_pool or s.model.id].append(s)
    found = [
        realtime_hours(
            sum(s.load.requests for s in pool),
            sum(s.tokens_in.tokens.expected * (1 - s.cache.read) for s in pool),
            sum(s.tokens_out.tokens.expected for s in pool),
            tier.rate(pool[0].model),
            doubt=max((_doubt(s) for s in pool), default=1.0),
        )
        for pool in pools.values()
    ]
    unknown = next((hours for hours in found if hours.expected is None), None)
    return unknown or max(found, key=lambda hours: hours.expected or 0.0, default=NOTHING)


def _doubt(s: Sized) -> float:
    pairs = [(e.tokens.high, e.tokens.expected) for e in (s.tokens_in, s.tokens_out) if e.tokens.expected]
    return max((high / expected for high, expected in pairs), default=1.0)


def able(catalog: Catalog, model: Model, at: date, *, max_tokens: int, most_input_tokens: float, structured: bool,
         params: dict[str, Any]) -> bool:  # fmt: skip
    """Whether a model could do a workload's requests, as far as the catalogue knows."""
    can = model.capabilities
    thinking = (params.get("thinking") or {}).get("type")
    return (
        model.lifecycle(at) == "active"
        and not model.by_invitation
        and can.batch is not False
        and not (structured and can.structured_outputs is False)
        and not ("inference_geo" in params and not can.inference_geo)
        and not (thinking and thinking in can.thinking_refused)
        and max_tokens <= (model.max_output_tokens or 0)
        and most_input_tokens + max_tokens <= (model.context_tokens or 0)
        and any(row.since is None or row.since <= at for row in catalog.prices(model.id))
    )


__all__ = ["LANES", "UNKNOWN", "Candidate", "Option", "Sized", "Terms", "able", "weigh"]
