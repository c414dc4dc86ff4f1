"""What `catalog` shows of a fact, and what of the API's answer differs from the catalogue."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.catalog import Catalog, load
from claude_pipeline.cli.catalog import Sources, day, document, is_old, models, prices, tiers
from claude_pipeline.lane.account import limits_of
from claude_pipeline.stage.told import Difference, limits_differ, models_differ, overlay

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def row_of(catalog: Catalog, model: str, today: date = TODAY) -> list[object]:
    return next(row for row in models(catalog, today, Sources()) if row[0] == model)


@pytest.mark.parametrize(
    ("read", "old"),
    [
        pytest.param(date(2026, 8, 24), False, id="90-days"),
        pytest.param(date(2026, 8, 23), True, id="91-days"),
        pytest.param(None, False, id="a-value-of-the-user"),
    ],
)
def test_what_was_read_more_than_ninety_days_ago_is_marked(read: date | None, old: bool) -> None:
    assert is_old(read, TODAY) is old
    assert day(read, TODAY).endswith("OLD") is old


def test_everything_is_marked_when_nobody_has_looked_for_a_season(catalog: Catalog) -> None:
    facts = document(catalog, date(2027, 3, 1), None)["facts"]
    assert all(fact["old"] for fact in facts)
    assert not any(fact["old"] for fact in document(catalog, TODAY, None)["facts"])


@pytest.mark.parametrize(
    ("model", "today", "says"),
    [
        pytest.param("claude-haiku-5-5", TODAY, "active", id="active"),
        pytest.param(
            "claude-sonnet-4-5-20250929", TODAY, "deprecated, until 2026-11-30, use claude-sonnet-5-5", id="deprecated"
        ),
        pytest.param(
            "claude-sonnet-4-5-20250929", date(2026, 12, 1), "retired 2026-11-30, use claude-sonnet-5-5", id="retired"
        ),
        pytest.param(
            "claude-opus-4-20250514", TODAY, "retired 2026-06-15, use claude-opus-5-5?", id="a-successor-is-assumed"
        ),
        pytest.param("claude-mythos-5", TODAY, "active, by invitation", id="by-invitation"),
    ],
)
def test_a_models_stage_names_its_day_and_successor(catalog: Catalog, model: str, today: date, says: str) -> None:
    assert row_of(catalog, model, today)[1] == says


def test_what_is_assumed_carries_a_question_mark(catalog: Catalog) -> None:
    assert row_of(catalog, "claude-haiku-5-5")[6] == "3.5?"
    fable = next(row for row in prices(catalog, TODAY, Sources()) if row[0] == "claude-fable-5-2")
    assert fable[4:7] == ["10?", "16?", "8?"]
    (tier1,) = tiers(catalog.tier("tier1"), TODAY, Sources())
    assert tier1[1:5] == ["50?", "100,000", "100,000", "50?"]


def told(**fields: Any) -> dict[str, Any]:
    """A model as the API's list has it."""
    return {"id": "claude-haiku-5-5", "lifecycle": "active", "line": "haiku", "max_input_tokens": 1_000_000, "max_tokens": 128_000,
            "deprecated_at": None, "retires_at": None, "capabilities": {"batch": {"supported": True}}} | fields  # fmt: skip


@pytest.mark.parametrize(
    ("model", "differs"),
    [
        pytest.param(told(), {}, id="the-same"),
        pytest.param(told(max_tokens=64_000), {"models.claude-haiku-5-5.max_output_tokens": (128_000, 64_000)}, id="a-value"),
        pytest.param(told(max_tokens=None, capabilities=None), {}, id="what-is-left-out-decides-nothing"),
        pytest.param(
            told(lifecycle="deprecated", retires_at="2027-05-01T00:00:00Z"),
            {"models.claude-haiku-5-5.retires_at": (None, date(2027, 5, 1)), "models.claude-haiku-5-5.lifecycle": ("active", "deprecated")},
            id="deprecated-meanwhile",
        ),
        pytest.param(
            told(id="claude-haiku-4-5", max_input_tokens=300_000, max_tokens=64_000),
            {"models.claude-haiku-4-5-20251001.context_tokens": (200_000, 300_000)},
            id="by-its-alias",
        ),
    ],
)  # fmt: skip
def test_only_what_the_api_says_otherwise_differs(
    catalog: Catalog, model: dict[str, Any], differs: dict[str, tuple[object, object]]
) -> None:
    assert {d.key: (d.ours, d.told) for d in models_differ(catalog, [model], TODAY)} == differs


def test_a_new_model_is_written_without_a_price_and_can_be_loaded(catalog: Catalog, tmp_path: Path) -> None:
    new = models_differ(catalog, [told(id="claude-haiku-6")], TODAY)
    file = tmp_path / "catalog.yaml"
    file.write_text(overlay(new, NOW))
    found = load(file)
    assert (found.model("claude-haiku-6").context_tokens, found.prices("claude-haiku-6")) == (1_000_000, ())
    assert found.model("claude-haiku-6").read == TODAY


def test_limits_in_headers_are_compared_with_the_tier(catalog: Catalog, tmp_path: Path) -> None:
    headers = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-input-tokens-limit": "2000000",
               "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:00Z", "retry-after": "3"}  # fmt: skip
    limits = limits_of(headers)
    assert limits == {"requests": 50, "input-tokens": 2_000_000}
    found = limits_differ(catalog.tier("start"), "haiku", limits)
    assert found == [Difference("tiers.start.rates.haiku.requests_per_minute", 1_000, 50)]
    file = tmp_path / "catalog.yaml"
    file.write_text(overlay(found, NOW))
    rate = load(file).tier("start").rate(catalog.model("claude-haiku-5-5"))
    assert rate is not None
    assert (rate.requests_per_minute, rate.input_tokens_per_minute) == (50, 2_000_000)
