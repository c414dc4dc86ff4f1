"""What tokens cost, in whole units of 1e-10 USD: exact integers from the price list to the sum of a year.

    cost = ceil(sum over token classes (tokens x price in USD per MTok x 10,000 x lane factor x geo factor))

Real-time prices are whole units per token by rule (four decimals of USD per MTok). The batch half and
the geo factor can break a unit (Haiku 5.5, batch, us: a 5-minute cache write is 687.5 units), so a
`Rates` counts in parts of a unit and one request's cost is rounded up to the next unit, once: at
most 1e-10 USD too much for a request, never too little.

A price list without a price for cache reads bills them as ordinary input, which is an upper bound,
and says so in `Price.assumed`; they are never free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

from claude_pipeline.catalog.document import Block, Problem
from claude_pipeline.catalog.limit import Limits
from claude_pipeline.errors import CatalogMissing, quoted_value

UNITS_PER_USD = 10_000_000_000
TOKENS_PER_MTOK = 1_000_000
NO_BAND = 2**63 - 1  # tokens; no request is that long

Lane = Literal["batch", "realtime"]
TOKEN_CLASSES = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
ROW_KEYS = ("from", "usd_per_mtok", "above")


class Usage(NamedTuple):
    """Tokens of one request as the API reports them; `input_tokens` is what no cache touched."""

    input_tokens: int
    output_tokens: int
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0


class TokenRates(NamedTuple):
    """The price of one token of each class, in parts of a unit (see `Rates.parts_per_unit`)."""

    input_parts: int
    output_parts: int
    cache_write_5m_parts: int
    cache_write_1h_parts: int
    cache_read_parts: int


class Rates(NamedTuple):
    """All a tight loop needs: `below` for requests whose whole input (with cache writes and reads) is
    at most `threshold_tokens`, `above` for longer ones; `parts_per_unit` parts make one unit."""

    below: TokenRates
    above: TokenRates
    threshold_tokens: int
    parts_per_unit: int

    def cost_units(self, usage: Usage) -> int:
        """Cost of one request in 1e-10 USD."""
        fresh, out, write_5m, write_1h, read = usage
        below, above, threshold, parts_per_unit = self
        rate = below if fresh + write_5m + write_1h + read <= threshold else above
        parts = fresh * rate[0] + out * rate[1]
        if write_5m or write_1h or read:
            parts += write_5m * rate[2] + write_1h * rate[3] + read * rate[4]
        return parts if parts_per_unit == 1 else -(-parts // parts_per_unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A model's prices in force from `since` (00:00 UTC); made by `Catalog.price`."""

    model_id: str
    #: None: as far back as we know.
    since: date | None
    #: Real-time, by token class.
    usd_per_mtok: Mapping[str, Decimal]
    #: For requests with more input than `threshold_tokens`; None where there is one band.
    usd_per_mtok_above: Mapping[str, Decimal] | None
    threshold_tokens: int
    source: str
    read: date | None
    #: Token classes (or `from`) that no official page states.
    assumed: frozenset[str]
    _rates: Mapping[tuple[Lane, str | None], Rates]
    _overhead_plain_tokens: int
    _overhead_tokens: int

    def rates(self, *, lane: Lane, geo: str | None = None) -> Rates:
        """Precomputed rates; `geo` is the request's or the usage's `inference_geo`.

        Raises:
            CatalogMissing: no factor is known for this geo, or the model refuses it.
        """
        try:
            return self._rates[lane, geo]
        except KeyError:
            known = ", ".join(sorted({str(g) for _, g in self._rates if g is not None}))
            raise CatalogMissing(
                f"{self.model_id}: no price for lane {lane!r} with inference_geo {quoted_value(geo)} (known here: {known}); "
                f"add the factor to limits.geo_price_factors in a catalogue file of your own, it is never guessed"
            ) from None

    def cost_units(self, usage: Usage, *, lane: Lane, geo: str | None = None) -> int:
        """Cost of one request in 1e-10 USD, as `price.cost_units(Usage(1200, 85), lane="batch")`."""
        return self.rates(lane=lane, geo=geo).cost_units(usage)

    def upper_bound_units(
        self,
        *,
        size_bytes: int,
        max_tokens: int,
        lane: Lane,
        geo: str | None = None,
        cached: bool = False,
        plain: bool = False,
    ) -> int:
        """What a request of `size_bytes` of params can cost at most, in 1e-10 USD.

            (size_bytes + overhead) x the dearest input class that applies + max_tokens x output price

        in the dearest band that so many tokens can reach: no token is less than a byte. `cached`: the
        params hold a cache_control. `plain`: they hold neither tools nor an output format, for which
        the API adds a prompt of its own, so that a smaller overhead does.
        Not a bound for what bytes do not show: images and documents by URL or file id, server tools.
        """
        rates = self.rates(lane=lane, geo=geo)
        tokens = size_bytes + (self._overhead_plain_tokens if plain else self._overhead_tokens)
        reached = (rates.below,) if tokens <= rates.threshold_tokens else (rates.below, rates.above)
        parts = max(
            tokens * (max(rate.input_parts, *rate[2:]) if cached else rate.input_parts) + max_tokens * rate.output_parts
            for rate in reached
        )
        return -(-parts // rates.parts_per_unit)


def usd(units: int) -> Decimal:
    """Units as USD, exact: `usd(12_500_000_000)` is Decimal('1.25')."""
    sign, digits, _ = Decimal(units).as_tuple()
    return Decimal((sign, digits, -10))


def read_price(model_id: str, block: Block, limits: Limits, *, takes_geo: bool | None) -> Price:
    """One row of a model's price list. `takes_geo` False: the model knows no inference_geo."""
    block.only(*ROW_KEYS)
    below, guessed = _read_classes(block.block("usd_per_mtok"))
    above, threshold = None, NO_BAND
    if block.content.get("above") is not None:
        band = block.block("above")
        band.only("input_tokens", "usd_per_mtok")
        band.required("input_tokens")
        threshold = band.whole("input_tokens") or 0
        above, also_guessed = _read_classes(band.block("usd_per_mtok"))
        guessed |= also_guessed
    geos: dict[str | None, Fraction] = {None: Fraction(1)}
    geos.update({geo: Fraction(f) for geo, f in limits.geo_price_factors.items() if f == 1 or takes_geo is not False})
    lanes: dict[Lane, Fraction] = {"batch": Fraction(limits.batch_price_factor), "realtime": Fraction(1)}
    assert set(lanes) == set(get_args(Lane))
    return Price(
        model_id=model_id,
        since=block.day("from"),
        usd_per_mtok=below,
        usd_per_mtok_above=above,
        threshold_tokens=threshold,
        source=str(block.required("source")),
        read=block.day("read"),
        assumed=block.assumed() | guessed,
        _rates={
            (lane, geo): _rates(below, above or below, threshold, by_lane * by_geo)
            for lane, by_lane in lanes.items()
            for geo, by_geo in geos.items()
        },
        _overhead_plain_tokens=limits.reserve_overhead_tokens,
        _overhead_tokens=max(limits.reserve_overhead_tokens, limits.reserve_overhead_with_features_tokens),
    )


def _read_classes(block: Block) -> tuple[dict[str, Decimal], frozenset[str]]:
    """Prices by class, and the classes that had to be assumed."""
    block.only(*TOKEN_CLASSES)
    prices: dict[str, Decimal] = {}
    for name in TOKEN_CLASSES:
        if name != "cache_read":
            block.required(name)
        price = block.decimal(name)
        prices[name] = prices["input"] if price is None else price
        if (prices[name] * UNITS_PER_USD) % TOKENS_PER_MTOK:
            raise Problem(
                (*block.path, name),
                f"{price} USD per MTok is no whole number of 1e-10 USD per token; give at most four decimals",
            )
    return prices, frozenset() if block.content.get("cache_read") is not None else frozenset({"cache_read"})


def _rates(below: Mapping[str, Decimal], above: Mapping[str, Decimal], threshold: int, factor: Fraction) -> Rates:
    per_token = [
        Fraction(band[name]) * UNITS_PER_USD / TOKENS_PER_MTOK * factor
        for band in (below, above)
        for name in TOKEN_CLASSES
    ]
    parts_per_unit = math.lcm(*(price.denominator for price in per_token))
    parts = [int(price * parts_per_unit) for price in per_token]
    return Rates(TokenRates(*parts[:5]), TokenRates(*parts[5:]), threshold, parts_per_unit)
