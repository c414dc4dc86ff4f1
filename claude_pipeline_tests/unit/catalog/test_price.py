"""Costs by hand against `Price`: classes, lanes, the long-prompt band, geo, dates, and the reserve's bound."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pipeline.catalog import UNITS_PER_USD, Catalog, Lane, Usage, load, usd
from claude_pipeline.errors import CatalogMissing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HAIKU, SONNET, FABLE = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-fable-5-2"
BEFORE, AFTER = datetime(2026, 10, 6, 23, 59, 59, tzinfo=UTC), datetime(2026, 10, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


# One token of Sonnet 5.5 in real time costs 2 USD / 1e6 = 20,000 units of 1e-10 USD; the others likewise.
@pytest.mark.parametrize(
    ("model", "lane", "usage", "units"),
    [
        pytest.param(SONNET, "realtime", Usage(1, 0), 20_000, id="input"),
        pytest.param(SONNET, "realtime", Usage(0, 1), 100_000, id="output"),
        pytest.param(SONNET, "realtime", Usage(0, 0, 1), 25_000, id="cache-write-5m"),
        pytest.param(SONNET, "realtime", Usage(0, 0, 0, 1), 40_000, id="cache-write-1h"),
        pytest.param(SONNET, "realtime", Usage(0, 0, 0, 0, 1), 1_000, id="cache-read"),
        pytest.param(SONNET, "batch", Usage(1, 0), 10_000, id="input-halved-in-a-batch"),
        pytest.param(SONNET, "batch", Usage(0, 1), 50_000, id="output-halved-in-a-batch"),
        pytest.param(SONNET, "batch", Usage(0, 0, 1), 12_500, id="cache-write-5m-halved-in-a-batch"),
        pytest.param(SONNET, "batch", Usage(0, 0, 0, 1), 20_000, id="cache-write-1h-halved-in-a-batch"),
        pytest.param(SONNET, "batch", Usage(0, 0, 0, 0, 1), 500, id="cache-read-halved-in-a-batch"),
        pytest.param(SONNET, "batch", Usage(0, 0), 0, id="nothing"),
        pytest.param(
            SONNET, "batch", Usage(1, 2, 3, 4, 5), 10_000 + 100_000 + 37_500 + 80_000 + 2_500, id="all-classes"
        ),
        pytest.param(HAIKU, "batch", Usage(1200, 85), 812_500, id="a-usual-ticket"),
        pytest.param(HAIKU, "batch", Usage(100_000, 10), 50_025_000, id="band-edge-still-cheap"),
        pytest.param(HAIKU, "batch", Usage(100_001, 10), 250_127_500, id="one-token-over-the-edge-all-is-dear"),
        pytest.param(HAIKU, "batch", Usage(1, 0, 0, 0, 99_999), 5_000_450, id="reads-count-towards-the-edge"),
        pytest.param(HAIKU, "batch", Usage(1, 0, 0, 0, 100_000), 25_002_500, id="reads-pass-the-edge"),
        pytest.param(
            HAIKU, "realtime", Usage(1, 0, 50_000, 50_000), 5_000 + 312_500_000 + 500_000_000, id="writes-pass-it"
        ),
        pytest.param(HAIKU, "batch", Usage(1, 200_000), 500_000_500, id="output-does-not-count-towards-the-edge"),
        pytest.param(FABLE, "realtime", Usage(0, 0, 0, 0, 1), 80_000, id="unknown-read-price-is-that-of-input"),
    ],
)
def test_a_request_costs_what_the_price_list_says(
    catalog: Catalog, model: str, lane: Lane, usage: Usage, units: int
) -> None:
    assert catalog.price(model, NOW).cost_units(usage, lane=lane) == units


@pytest.mark.parametrize(
    ("model", "usage", "geo", "units"),
    [
        pytest.param(SONNET, Usage(1000, 100), "us", 16_500_000, id="us-costs-a-tenth-more"),
        pytest.param(SONNET, Usage(1000, 100), "global", 15_000_000, id="global-does-not"),
        pytest.param("claude-haiku-4-5", Usage(1000, 100), "not_available", 7_500_000, id="old-models-name-none"),
        pytest.param(HAIKU, Usage(0, 0, 2), "us", 1_375, id="two-halves-of-a-unit"),
        pytest.param(HAIKU, Usage(0, 0, 1), "us", 688, id="half-a-unit-is-rounded-up"),
    ],
)
def test_the_place_of_inference_is_priced_in_a_batch(
    catalog: Catalog, model: str, usage: Usage, geo: str, units: int
) -> None:
    assert catalog.price(model, NOW).cost_units(usage, lane="batch", geo=geo) == units


@pytest.mark.parametrize(("model", "geo"), [(SONNET, "mars"), ("claude-haiku-4-5", "us")], ids=["unknown", "refused"])
def test_a_geo_without_a_price_is_not_guessed(catalog: Catalog, model: str, geo: str) -> None:
    with pytest.raises(CatalogMissing, match=f"{geo}.*never guessed"):
        catalog.price(model, NOW).cost_units(Usage(1, 1), lane="batch", geo=geo)


@pytest.mark.parametrize(("at", "units"), [(BEFORE, 2_000), (AFTER, 1_000)], ids=["the-second-before", "from-midnight"])
def test_a_price_holds_until_the_next_one_starts(catalog: Catalog, at: datetime, units: int) -> None:
    assert catalog.price(SONNET, at).cost_units(Usage(0, 0, 0, 0, 1), lane="realtime") == units


def test_midnight_is_that_of_utc(catalog: Catalog) -> None:
    at = datetime.fromisoformat("2026-10-07T01:00:00+02:00")
    assert catalog.price(SONNET, at) == catalog.price(SONNET, BEFORE)


def test_a_moment_without_a_zone_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        catalog.price(SONNET, NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("model", "at", "says"),
    [
        pytest.param(HAIKU, BEFORE, "first price known is of 2026-10-07", id="before-its-release"),
        pytest.param("claude-mythos-5-2", NOW, "none was published", id="never-published"),
    ],
)
def test_a_missing_price_is_not_guessed(catalog: Catalog, model: str, at: datetime, says: str) -> None:
    with pytest.raises(CatalogMissing, match=f"{says}.*never guessed"):
        catalog.price(model, at)


def test_an_assumed_class_is_marked(catalog: Catalog) -> None:
    assert "cache_read" in catalog.price(FABLE, NOW).assumed
    assert catalog.price(HAIKU, NOW).assumed == frozenset()


def test_an_alias_costs_what_its_model_costs(catalog: Catalog) -> None:
    assert catalog.price("claude-haiku-4-5", NOW) is catalog.price("claude-haiku-4-5-20251001", NOW)


def test_only_the_odd_cache_write_of_haiku_breaks_a_unit(catalog: Catalog) -> None:
    broken = {
        (price.model_id, lane, geo)
        for model in catalog.models
        for price in catalog.prices(model.id)
        for lane in ("batch", "realtime")
        for geo in (None, *catalog.limits.geo_price_factors)
        if geo != "us" or model.capabilities.inference_geo
        if price.rates(lane=lane, geo=geo).parts_per_unit != 1
    }
    assert broken == {(HAIKU, "batch", "us")}


def test_units_become_exact_dollars() -> None:
    assert usd(12_500_000_000) == Decimal("1.25")
    assert usd(1) * UNITS_PER_USD == 1
    assert usd(10**30 + 1) == Decimal("100000000000000000000.0000000001")


@pytest.mark.parametrize(
    ("size", "max_tokens", "options", "units"),
    [
        pytest.param(1_000, 256, {"plain": True}, 1_100 * 500 + 256 * 2_500, id="plain"),
        pytest.param(1_000, 256, {}, 2_000 * 500 + 256 * 2_500, id="with-tools-or-format"),
        pytest.param(1_000, 256, {"cached": True}, 2_000 * 1_000 + 256 * 2_500, id="cached-as-1h-writes"),
        pytest.param(99_900, 10, {"plain": True}, 100_000 * 500 + 10 * 2_500, id="cannot-reach-the-band"),
        pytest.param(99_901, 10, {"plain": True}, 100_001 * 2_500 + 10 * 12_500, id="can-reach-the-band"),
    ],
)
def test_the_reserve_is_the_dearest_case(
    catalog: Catalog, size: int, max_tokens: int, options: dict[str, Any], units: int
) -> None:
    price = catalog.price(HAIKU, NOW)
    assert price.upper_bound_units(size_bytes=size, max_tokens=max_tokens, lane="batch", **options) == units


PRICED = [model.id for model in load().models if load().prices(model.id)]


@given(
    model=st.sampled_from(PRICED),
    lane=st.sampled_from(["batch", "realtime"]),
    geo=st.sampled_from([None, "us", "global"]),
    size=st.integers(1, 400_000),
    max_tokens=st.integers(1, 300_000),
    plain=st.booleans(),
    data=st.data(),
)
def test_no_usage_that_fits_costs_more_than_the_reserve(
    model: str, lane: Lane, geo: str | None, size: int, max_tokens: int, plain: bool, data: st.DataObject
) -> None:
    catalog = load()
    if geo == "us" and not catalog.model(model).capabilities.inference_geo:
        geo = None
    limits, cached = catalog.limits, data.draw(st.booleans())
    left = size + (limits.reserve_overhead_tokens if plain else limits.reserve_overhead_with_features_tokens)
    classes = []
    for _ in range(3 if cached else 0):
        classes.append(data.draw(st.integers(0, left)))
        left -= classes[-1]
    usage = Usage(data.draw(st.integers(0, left)), data.draw(st.integers(0, max_tokens)), *classes)
    price = catalog.price(model, NOW)

    bound = price.upper_bound_units(
        size_bytes=size, max_tokens=max_tokens, lane=lane, geo=geo, cached=cached, plain=plain
    )

    assert price.cost_units(usage, lane=lane, geo=geo) <= bound
