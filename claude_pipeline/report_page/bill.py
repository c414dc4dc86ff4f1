"""What the ledger knows of a snapshot without opening a file: the bill, the plan, the pace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.ledger import BatchRow, ChunkRow, Spend
from claude_pipeline.picture import CostDay, Flow
from claude_pipeline.report_page.fact import Bill, Pace, Planned
from claude_pipeline.report_page.flow import Span, spread
from claude_pipeline.stage.forecast_file import Forecast

REALTIME = "realtime"


def bill_of(spent: Sequence[Spend], planned: Planned | None, batch_price_factor: float) -> Bill:
    """Money and tokens of what was collected. `batch_price_factor`: a batch's price over the real-time one."""
    units = sum(s.cost_units for s in spent)
    realtime = sum(s.cost_units / (1.0 if s.lane == REALTIME else batch_price_factor) for s in spent)
    return Bill(
        usd=units / UNITS_PER_USD,
        realtime_usd=realtime / UNITS_PER_USD,
        planned=planned,
        input_tokens=sum(s.input_tokens + s.cache_write_tokens + s.cache_read_tokens for s in spent),
        output_tokens=sum(s.output_tokens for s in spent),
        cache_read_tokens=sum(s.cache_read_tokens for s in spent),
        days=days_of(spent),
    )


def days_of(spent: Iterable[Spend]) -> tuple[CostDay, ...]:
    total: dict[tuple[date, str], int] = defaultdict(int)
    for s in spent:
        total[s.billed_at.date(), s.model] += s.cost_units
    return tuple(CostDay(day, model, units / UNITS_PER_USD) for (day, model), units in sorted(total.items()))


def planned_of(forecasts: Sequence[Forecast], chunks: Sequence[ChunkRow]) -> Planned | None:
    """The plans that were kept, by the lanes that their chunks went, and what those chunks cost; None without a plan."""
    if not forecasts:
        return None
    requests = asked = paid = 0
    usd = low = high = 0.0
    for plan in forecasts:
        own = [chunk for chunk in chunks if chunk.plan_number == plan.plan_number]
        first = [chunk for chunk in own if chunk.round == 1]
        whole = sum(chunk.requests for chunk in first)
        share = sum(chunk.requests for chunk in first if chunk.lane == REALTIME) / whole if whole else 0.0
        requests += plan.requests
        usd += plan.usd * (1 - share) + plan.realtime_usd * share
        low += plan.usd_low * (1 - share) + plan.realtime_usd_low * share
        high += plan.usd_high * (1 - share) + plan.realtime_usd_high * share
        asked += sum(chunk.requests for chunk in first if chunk.collected_at is not None)
        paid += sum(chunk.cost_units or 0 for chunk in own)
    hours = max((plan.hours for plan in forecasts if plan.hours is not None), default=None)
    return Planned(requests, usd, low, high, asked, paid / UNITS_PER_USD, hours)


def pace_of(chunks: Sequence[ChunkRow], batches: Mapping[str, BatchRow], spent: Sequence[Spend]) -> Pace:
    """Times of batches, and of answers in real time."""
    live = [chunk for chunk in chunks if chunk.collected_at is not None]
    ended = [b for b in batches.values() if b.ended_at is not None]
    at_once = [s.billed_at for s in spent if s.lane == REALTIME]
    starts = [b.created_at for b in batches.values()] + at_once
    ends = [b.ended_at for b in ended if b.ended_at is not None] + at_once
    return Pace(
        started_at=min(starts, default=None),
        ended_at=max(ends, default=None),
        requests=sum(chunk.requests for chunk in live),
        batches=len(batches),
        rounds=max((chunk.round for chunk in live), default=0),
        hours=hours_of(batches.values()),
        expired=sum(chunk.expired or 0 for chunk in live),
        flows=flows_of(live, batches, spent),
    )


def hours_of(batches: Iterable[BatchRow]) -> tuple[float, ...]:
    """From created to ended, of each batch that ended."""
    return tuple((b.ended_at - b.created_at).total_seconds() / 3600 for b in batches if b.ended_at is not None)


def flows_of(chunks: Iterable[ChunkRow], batches: Mapping[str, BatchRow], spent: Iterable[Spend]) -> tuple[Flow, ...]:
    """Batches spread over their time, answers in real time by their minute."""
    spans = []
    for chunk in chunks:
        batch = batches.get(chunk.batch_id) if chunk.batch_id and chunk.lane != REALTIME else None
        if batch is not None and batch.ended_at is not None and chunk.succeeded:
            tokens = (chunk.input_tokens or 0) + (chunk.output_tokens or 0)
            spans.append(Span(batch.created_at, batch.ended_at, chunk.succeeded, tokens))
    at_once = [
        Span(
            s.billed_at,
            s.billed_at,
            s.requests,
            s.input_tokens + s.cache_write_tokens + s.cache_read_tokens + s.output_tokens,
        )
        for s in spent
        if s.lane == REALTIME
    ]
    return (*spread(spans, "batch", estimated=True), *spread(at_once, REALTIME, estimated=False))
