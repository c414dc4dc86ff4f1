"""What a load costs on a model: a total from tokens, price classes and long-prompt bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claude_pipeline.catalog import UNITS_PER_USD, Lane, Price
from claude_pipeline.plan.interval import Interval
from claude_pipeline.plan.tokens import Estimate


@dataclass(frozen=True)
class Bin:
    """Requests of about one size."""

    requests: int
    size_bytes: int  # of all of them


@dataclass(frozen=True)
class Load:
    """Requests to be sent to one model, told by their sizes."""

    model: str
    bins: tuple[Bin, ...]
    largest_bytes: int = 0  # of one request

    @property
    def requests(self) -> int:
        return sum(b.requests for b in self.bins)

    @property
    def size_bytes(self) -> int:
        return sum(b.size_bytes for b in self.bins)


@dataclass(frozen=True)
class CacheMix:
    """Shares of the input that past results wrote to the prompt cache and read from it."""

    written: float = 0.0
    read: float = 0.0
    one_hour: bool = True  # writes live an hour; else five minutes


NO_CACHE = CacheMix()
NO_DOUBT = Interval.exact(0.0)


def cost_usd(
    load: Load,
    tokens_in: Estimate,
    tokens_out: Estimate,
    price: Price,
    *,
    lane: Lane,
    geo: str | None = None,
    cache: CacheMix = NO_CACHE,
    billed_share: float = 1.0,
    doubt: Interval = NO_DOUBT,
) -> Interval:
    """USD of the whole load. Each size is priced by the band its requests fall into; doubt about input and
    output is independent. `billed_share` is the part of requests that end with an answer: errors cost nothing; `doubt` is how far that
    part and the cache may be off, relative to the cost.
    """
    rates = price.rates(lane=lane, geo=geo)
    by_line = sum(max(tokens_in.line.total(b.requests, b.size_bytes), 0.0) for b in load.bins)
    scale = tokens_in.tokens.expected / by_line if by_line else 0.0
    each_out = tokens_out.tokens.expected / load.requests if load.requests else 0.0
    fresh = 1.0 - cache.written - cache.read
    parts_in = parts_out = 0.0
    for b in load.bins:
        count_in = scale * max(tokens_in.line.total(b.requests, b.size_bytes), 0.0)
        band = rates.below if count_in <= rates.threshold_tokens * b.requests else rates.above
        write = band.cache_write_1h_parts if cache.one_hour else band.cache_write_5m_parts
        parts_in += count_in * (fresh * band.input_parts + cache.written * write + cache.read * band.cache_read_parts)
        parts_out += each_out * b.requests * band.output_parts
    per_usd = rates.parts_per_unit * UNITS_PER_USD / billed_share
    usd = _like(parts_in / per_usd, tokens_in.tokens).plus(_like(parts_out / per_usd, tokens_out.tokens))
    return usd.plus(doubt.times(usd.expected))


def _like(usd: float, tokens: Interval) -> Interval:
    """A cost that is as uncertain as the tokens it comes from."""
    if not tokens.expected:
        return Interval.exact(usd)
    return Interval(usd, usd * tokens.low / tokens.expected, usd * tokens.high / tokens.expected)


def total(costs: Sequence[Interval]) -> Interval:
    found = Interval.exact(0.0)
    for cost in costs:
        found = found.plus(cost)
    return found
