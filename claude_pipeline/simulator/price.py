"""What a request costs, exactly: whole picodollars (1e-12 USD), never a float.

    cost = sum over token classes of tokens x rate x (0.5 in a batch) x (1.1 with inference_geo us)

A batch is priced at its creation, a message at its own time (assumed).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from claude_pipeline.simulator.clock import microseconds

PICO_PER_USD = 10**12
_TOKENS_PER_MTOK = 10**6
CLASSES = ("input", "write_5m", "write_1h", "read", "output")


class Tokens(NamedTuple):
    """Tokens of one request by class of price; `input` counts neither cache class."""

    input: int
    output: int
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.write_5m + self.write_1h + self.read


class Rates(NamedTuple):
    """Picodollars per token, by class."""

    input: int
    write_5m: int
    write_1h: int
    read: int
    output: int


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model as of one moment, in one lane."""

    rates: Rates
    above_tokens: int | None
    rates_above: Rates | None

    def cost_pico(self, tokens: Tokens) -> int:
        rates = self.rates
        if self.above_tokens is not None and self.rates_above is not None and tokens.prompt > self.above_tokens:
            rates = self.rates_above
        return (
            tokens.input * rates.input
            + tokens.write_5m * rates.write_5m
            + tokens.write_1h * rates.write_1h
            + tokens.read * rates.read
            + tokens.output * rates.output
        )


def price_of(model_id: str, at_us: int, *, batch: bool, geo_us: bool = False) -> Price:
    """The price of `model_id` at a moment; before its first date, the first price it had."""
    entries = _price_list()[model_id]
    position = max((i for i, (from_us, _) in enumerate(entries) if from_us <= at_us), default=0)
    return _price(model_id, position, batch, geo_us)


def usd(pico: int) -> str:
    """Picodollars as an exact decimal string of USD: 12_500_000_000 is `0.0125`."""
    whole, rest = divmod(pico, PICO_PER_USD)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")


@cache
def _file() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("prices.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@cache
def _price_list() -> dict[str, list[tuple[int, dict[str, Any]]]]:
    return {
        model: sorted(((_day(entry["from"]), entry) for entry in entries), key=lambda pair: pair[0])
        for model, entries in _file()["models"].items()
    }


@cache
def _price(model_id: str, position: int, batch: bool, geo_us: bool) -> Price:
    entry = _price_list()[model_id][position][1]
    factor = Decimal(1)
    if batch:
        factor *= Decimal(str(_file()["batch_factor"]))
    if geo_us:
        factor *= Decimal(str(_file()["geo_us_factor"]))
    above = entry.get("above")
    return Price(
        rates=_rates(entry, factor),
        above_tokens=above["tokens"] if above else None,
        rates_above=_rates(above, factor) if above else None,
    )


def _rates(entry: dict[str, Any], factor: Decimal) -> Rates:
    return Rates(**{name: _pico_per_token(entry[name], factor) for name in CLASSES})


def _pico_per_token(usd_per_mtok: float, factor: Decimal) -> int:
    pico = Decimal(str(usd_per_mtok)) * factor * PICO_PER_USD / _TOKENS_PER_MTOK
    if pico != int(pico):
        raise ValueError(f"{usd_per_mtok} USD per MTok times {factor} is no whole number of picodollars per token")
    return int(pico)


def _day(day: date) -> int:
    return microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
