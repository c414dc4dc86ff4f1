"""The catalogue's prices against those of the simulator, which were written down by somebody else."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from claude_pipeline.catalog import UNITS_PER_USD, Lane, Price, Usage, load
from claude_pipeline.simulator.clock import microseconds
from claude_pipeline.simulator.model import all_models
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


CLASSES = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
GEOS = (None, "us", "global")


def sizes(threshold_tokens: int) -> list[Usage]:
    """One class at a time and all together, on both sides of the band."""
    alone = [Usage(*(tokens if name == only else 0 for name in CLASSES)) for only in CLASSES for tokens in (1, 7, 999)]
    together = [Usage(1, 1, 1, 1, 1), Usage(33_333, 999, 22_222, 11_111, 33_334), Usage(100_000, 1, 0, 0, 0)]
    edge = min(threshold_tokens, 1_000_000)
    return [*alone, *together, Usage(edge, 1), Usage(edge + 1, 1), Usage(1, 1, edge), Usage(1, 1, 0, edge)]


def dates(model_id: str) -> set[datetime]:
    """The first and the last second of each row's days, and now."""
    found = {NOW}
    for row in load().prices(model_id):
        if row.since is not None and "from" not in row.assumed:
            first = datetime.combine(row.since, time(), UTC)
            found |= {first, first + timedelta(hours=23, minutes=59, seconds=59), first + timedelta(days=30)}
    return found


@pytest.mark.parametrize("lane", ["batch", "realtime"])
@pytest.mark.parametrize("model_id", known_to_both())
def test_both_clerks_agree_on_every_class_date_and_geo(model_id: str, lane: Lane) -> None:
    differing = []
    for at in sorted(dates(model_id)):
        ours = load().price(model_id, at)
        for geo in GEOS:
            if geo == "us" and geo_refused(model_id):
                continue
            theirs = price_of(model_id, microseconds(at), batch=lane == "batch", geo_us=geo == "us")
            for usage in sizes(ours.threshold_tokens):
                if usage.cache_read_tokens and "cache_read" in ours.assumed:
                    continue  # a bound on our side, a guess on theirs: compared above
                fresh, out, write_5m, write_1h, read = usage
                pico = theirs.cost_pico(Tokens(fresh, out, write_5m, write_1h, read))
                asked, expected = ours.cost_units(usage, lane=lane, geo=geo), -(-pico // PICO_PER_UNIT)
                if asked != expected:
                    differing.append((at.isoformat(), geo, usage, asked, expected))
    assert differing == []


def test_every_model_that_the_simulator_offers_is_priced_by_both() -> None:
    assert {model.id for model in all_models()} <= set(known_to_both())
