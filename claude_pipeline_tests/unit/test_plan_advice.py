"""A plan as people and machines read it: the advice in one sentence, the lane that is used, stable names."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pipeline.catalog import Catalog, load
from claude_pipeline.plan import (
    Candidate,
    NextTier,
    Terms,
    document,
    markdown,
    money,
    numbers,
    rows,
    spelled,
    weigh,
)
from claude_pipeline_tests.unit.plan_case import HOUR, make_plan, sized


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        pytest.param({}, "Send it in the batch lane: about $0.4500 ($0.4500 to $0.4500) with claude-sonnet-5-5, in about 1 h, "
                     "and the deadline of 24 h is met; claude-haiku-5-5 would do it for $0.0225, if its answers are good enough.",
                     id="met-and-cheaper"),
        pytest.param({"requests": 1_000_000, "deadline": 6}, "usually in about 5 h, but 10 h are possible: what is not answered "
                     "near the deadline of 6 h moves to real time, at twice the price; claude-haiku", id="likely"),
        pytest.param({"requests": 1_000_000, "deadline": 6, "wanted_lane": "batch"}, "5 h, but 10 h are possible and would pass "
                     "the deadline of 6 h; tier scale would need 2 h", id="likely-in-the-batch-lane-alone"),
        pytest.param({"requests": 1_000_000, "deadline": 4.5}, "miss the deadline of 4 h 30 min, for about $450.00", id="missed"),
        pytest.param({"deadline": 0.5, "wanted_lane": "batch"}, "miss the deadline of 30 min, for about $0.4500 ($0.4500 to "
                     "$0.4500) with claude-sonnet-5-5; real time would need 1 min for $0.9000 (lane: auto or lane: realtime)",
                     id="real-time-would"),
        pytest.param({"deadline": 0.5, "lane_why": "a batch (1 h) misses the deadline (30 min left), but real time would pass a wall"},
                     "real time would need 1 min for $0.9000 (a batch (1 h) misses the deadline (30 min left), but real time would "
                     "pass a wall)", id="real-time-would-but-for-the-budget"),
        pytest.param({"deadline": 0.5, "lane": "realtime"}, "Ask it in real time: about $0.9000 ($0.9000 to $0.9000) with "
                     "claude-sonnet-5-5, in about 1 min, and the deadline of 30 min is met; as batches it would cost $0.4500 and "
                     "take about 1 h; claude-haiku-5-5 would do it for $0.0450, if its answers are good enough.", id="real-time"),
        pytest.param({"requests": 1_000_000, "deadline": 6, "lane": "realtime", "wanted_lane": "realtime"}, "Real time would take "
                     "about 16 h 40 min (1,000 requests per minute) and miss the deadline of 6 h, for about $900.00",
                     id="real-time-misses-it"),
        pytest.param({"budget_usd": 0.2}, "budget_usd $0.2000 would stop it on the way", id="over-the-wall"),
        pytest.param({"budget_usd": 0.5, "lane": "realtime"}, "budget_usd $0.5000 would stop it on the way",
                     id="over-the-wall-in-real-time"),
    ],
)  # fmt: skip
def test_the_advice_is_one_sentence(catalog: Catalog, asks: dict[str, Any], says: str) -> None:
    advice = make_plan(catalog, **asks).recommendation
    assert says in advice
    assert advice.endswith(".")
    assert ". " not in advice


def test_nothing_to_send_is_said_plainly(catalog: Catalog) -> None:
    empty = make_plan(catalog, requests=0, tokens_in=None, tokens_out=None, options=(), next_tier=None)
    assert empty.recommendation.startswith("Nothing to send")
    assert numbers(empty)["planned_cost_usd"] == 0
    assert "Nothing to send" in markdown(empty)


def test_the_next_tier_says_what_it_changes_and_what_it_asks_for(catalog: Catalog) -> None:
    found = make_plan(catalog, requests=1_000_000).next_tier
    assert isinstance(found, NextTier)
    assert (found.name, found.batch_hours, found.batch_hours_saved) == ("build", 4.0, 1.0)
    assert "100,000 requests queued" in found.qualify


def test_the_document_has_stable_names(catalog: Catalog) -> None:
    found = document(make_plan(catalog))
    assert list(found) == [
        "workload", "partition", "snapshot", "model", "lane", "lane_wanted", "lane_why", "tier", "records", "requests",
        "sent_before", "reused", "duplicates", "awaited", "rejected", "size_bytes", "chunks", "input_tokens", "output_tokens",
        "cost_usd", "batch_cost_usd", "realtime_cost_usd", "cache", "reserve_usd", "budget_usd", "turnaround", "deadline_hours", "deadline", "next_tier",
        "recommendation", "warnings", "count_tokens_calls", "alternatives", "notes",
    ]  # fmt: skip
    assert len(found["alternatives"]) == 2 * 2 * 3
    assert {a["available"] for a in found["alternatives"]} == {True}


DEADLINES: list[Any] = [
    pytest.param({}, "24 h: met", id="batch"),
    pytest.param({"deadline": 1.5}, "1 h 30 min: met: what a slow batch has not answered by then moves to real time, if the "
                 "budget allows", id="rescued"),
    pytest.param({"deadline": 1.5, "wanted_lane": "batch"}, "1 h 30 min: usually met, not when a batch is slow", id="batch-alone"),
    pytest.param({"deadline": 0.5, "lane": "realtime"}, "30 min: met", id="real-time"),
    pytest.param({"requests": 10**6, "lane": "realtime", "deadline": 6}, "6 h: missed in real time", id="missed-in-real-time"),
    pytest.param({"deadline": 0.5, "wanted_lane": "batch"}, "30 min: missed in the batch lane", id="missed-as-a-batch"),
]  # fmt: skip


@pytest.mark.parametrize(("asks", "says"), DEADLINES)
def test_the_deadline_is_looked_at_in_the_lane_that_is_used(catalog: Catalog, asks: dict[str, Any], says: str) -> None:
    assert dict(rows(make_plan(catalog, **asks)))["deadline"] == says


def test_figures_that_plot_are_those_of_the_lane_that_is_used(catalog: Catalog) -> None:
    batch, realtime = (make_plan(catalog, lane=lane) for lane in ("batch", "realtime"))
    assert (numbers(batch)["planned_cost_usd"], numbers(realtime)["planned_cost_usd"]) == pytest.approx((0.45, 0.9))
    assert document(realtime)["cost_usd"] == document(batch)["realtime_cost_usd"]
    assert numbers(realtime)["planned_hours"] == pytest.approx(1 / 60)


def test_answers_too_long_for_real_time_are_no_alternative_there(catalog: Catalog) -> None:
    s, tier = sized(catalog), catalog.tier("start")
    options = weigh([Candidate(s.model.id, True, (s,), HOUR)], [tier], Terms(0.5, 10_000, 100, realtime=False))
    plan = make_plan(catalog, deadline=0.5, options=options, wanted_lane="batch")
    assert {o.lane: o.available for o in options} == {"batch": True, "realtime": False}
    assert dict(rows(plan))["time, real time"].startswith("not possible")
    assert "real time would" not in plan.recommendation


@pytest.mark.parametrize(
    ("hours", "text"), [(0.004, "14 s"), (0.5, "30 min"), (1, "1 h"), (2.5, "2 h 30 min"), (72, "3.0 days")]
)
def test_hours_are_spelled_as_people_say_them(hours: float, text: str) -> None:
    assert spelled(hours) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(0, "$0.00"), (1234.5, "$1,234.50"), (0.0312, "$0.0312"), (0.00031, "$0.00031")]
)
def test_money_shows_the_digits_that_count(usd: float, text: str) -> None:
    assert money(usd) == text
