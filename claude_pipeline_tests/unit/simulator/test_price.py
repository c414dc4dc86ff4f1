"""What the simulated API charges, to the last picodollar."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from claude_pipeline.simulator.clock import microseconds
from claude_pipeline.simulator.model import all_models
from claude_pipeline.simulator.price import Tokens, price_of, usd

NOW = microseconds(datetime(2026, 11, 22, tzinfo=UTC))
MTOK = 1_000_000
CASES = {
    "haiku-input": ("claude-haiku-5-5", Tokens(input=100_000, output=0), "0.01"),
    "haiku-output": ("claude-haiku-5-5", Tokens(input=0, output=MTOK), "0.5"),
    "haiku-long-prompt": ("claude-haiku-5-5", Tokens(input=100_001, output=10), "0.0500255"),
    "haiku-long-by-cache": ("claude-haiku-5-5", Tokens(input=1, output=0, read=100_000), "0.0050005"),
    "sonnet-read": ("claude-sonnet-5-5", Tokens(input=0, output=0, read=MTOK), "0.1"),
    "opus-write-5m": ("claude-opus-5-5", Tokens(input=0, output=0, write_5m=MTOK), "5"),
    "opus-write-1h": ("claude-opus-5-5", Tokens(input=0, output=0, write_1h=MTOK), "8"),
    "all-classes": ("claude-sonnet-4-6", Tokens(1, 1, 1, 1, 1), "0.00002805"),
}


@pytest.mark.parametrize(("model", "tokens", "expected"), CASES.values(), ids=CASES.keys())
def test_a_message_costs_the_price_of_its_tokens(model: str, tokens: Tokens, expected: str) -> None:
    assert usd(price_of(model, NOW, batch=False).cost_pico(tokens)) == expected


@pytest.mark.parametrize(("model", "tokens", "expected"), CASES.values(), ids=CASES.keys())
def test_a_batch_costs_half_of_everything(model: str, tokens: Tokens, expected: str) -> None:
    assert Decimal(usd(price_of(model, NOW, batch=True).cost_pico(tokens))) == Decimal(expected) / 2


def test_answers_from_the_us_cost_a_tenth_more() -> None:
    tokens = Tokens(input=0, output=0, write_5m=100_000)
    assert usd(price_of("claude-haiku-5-5", NOW, batch=True, geo_us=True).cost_pico(tokens)) == "0.006875"


@pytest.mark.parametrize(("day", "expected"), [(6, "0.2"), (7, "0.1")], ids=["before", "after"])
def test_a_price_holds_from_its_date(day: int, expected: str) -> None:
    at = microseconds(datetime(2026, 10, day, tzinfo=UTC))
    cost = price_of("claude-sonnet-5-5", at, batch=False).cost_pico(Tokens(input=0, output=0, read=MTOK))
    assert usd(cost) == expected


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "message"])
@pytest.mark.parametrize("geo_us", [True, False], ids=["us", "global"])
def test_every_model_has_a_price_in_whole_picodollars(batch: bool, geo_us: bool) -> None:
    for model in all_models():
        assert price_of(model.id, NOW, batch=batch, geo_us=geo_us).rates.input > 0


@pytest.mark.parametrize(
    ("pico", "expected"), [(0, "0"), (1, "0.000000000001"), (10**13, "10"), (1_500_000_000_000, "1.5")]
)
def test_amounts_are_exact_decimals(pico: int, expected: str) -> None:
    assert usd(pico) == expected
