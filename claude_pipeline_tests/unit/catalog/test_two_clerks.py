"""The catalogue's prices against those of the simulator, which were written down by somebody else."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from claude_pipeline.catalog import UNITS_PER_USD, Lane, Price, Usage, load
from claude_pipeline.simulator.clock import microseconds
from claude_pipeline.simulator.price import PICO_PER_USD, Tokens, price_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PICO_PER_UNIT = PICO_PER_USD // UNITS_PER_USD
USAGES = {
    "input": Usage(1_000, 0),
    "output": Usage(0, 1_000),
    "cache_write_5m": Usage(0, 0, 999),
    "cache_write_1h": Usage(0, 0, 0, 1_000),
    "cache_read": Usage(0, 0, 0, 0, 1_000),
    "at the band's edge": Usage(60_000, 7, 10_000, 10_000, 20_000),
    "over the band's edge": Usage(60_001, 7, 10_000, 10_000, 20_000),
}


def known_to_both() -> list[str]:
    found = []
    for model in load().models:
        try:
            price_of(model.id, microseconds(NOW), batch=True)
        except KeyError:
            continue
        if load().prices(model.id):
            found.append(model.id)
    return found


def geo_refused(name: str) -> bool:
    return load().model(name).capabilities.inference_geo is False


def moments(price: Price) -> list[datetime]:
    """Now, and a week after the row began: the first day of some rows is assumed on either side."""
    return [NOW] if price.since is None else [NOW, datetime.combine(price.since, time(), UTC) + timedelta(days=7)]


def test_most_priced_models_are_known_to_both() -> None:
    assert len(known_to_both()) >= 10


@pytest.mark.parametrize("lane", ["batch", "realtime"])
@pytest.mark.parametrize(
    ("model_id", "geo"),
    [(name, geo) for name in known_to_both() for geo in (None, "us") if not (geo and geo_refused(name))],
)
def test_both_clerks_ask_the_same(model_id: str, geo: str | None, lane: Lane) -> None:
    catalog = load()
    differing = []
    for at in {at for row in catalog.prices(model_id) for at in moments(row)}:
        ours = catalog.price(model_id, at)
        theirs = price_of(model_id, microseconds(at), batch=lane == "batch", geo_us=geo == "us")
        for name, usage in USAGES.items():
            fresh, out, write_5m, write_1h, read = usage
            pico = theirs.cost_pico(Tokens(input=fresh, output=out, write_5m=write_5m, write_1h=write_1h, read=read))
            asked, expected = ours.cost_units(usage, lane=lane, geo=geo), -(-pico // PICO_PER_UNIT)
            # Where the price of a read was not found, ours is a bound and theirs a guess below it.
            agree = asked >= expected if read and "cache_read" in ours.assumed else asked == expected
            if not agree:
                differing.append((name, at.isoformat(), asked, expected))
    assert differing == []


def test_the_edge_of_the_day_is_the_same_for_both() -> None:
    read = Usage(0, 0, 0, 0, 1)
    for at in (datetime(2026, 10, 6, 23, 59, 59, tzinfo=UTC), datetime(2026, 10, 7, tzinfo=UTC)):
        ours = load().price("claude-sonnet-5-5", at).cost_units(read, lane="batch")
        theirs = price_of("claude-sonnet-5-5", microseconds(at), batch=True).cost_pico(Tokens(0, 0, read=1))
        assert ours * PICO_PER_UNIT == theirs
