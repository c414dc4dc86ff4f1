"""A snapshot in numbers, as people read them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from claude_pipeline.report import Summary, duration, rate
from claude_pipeline_tests.conftest import NOW

FULL = Summary(
    workload="notes", snapshot="2026-11-22.1", records=1_000, succeeded=980, dead=15, rejected=5, requests=905, reused=50,
    duplicates=40, batches=2, rounds=1, invalid=3, input_tokens=60_000, output_tokens=12_000, cost_usd=1.5,
    realtime_usd=3.0, started_at=NOW, ended_at=NOW + timedelta(minutes=10), hours_to_sla=23.5,
)  # fmt: skip
EMPTY = replace(
    FULL, records=0, succeeded=0, dead=0, rejected=0, requests=0, reused=0, duplicates=0, batches=0, rounds=0, invalid=0,
    input_tokens=0, output_tokens=0, cost_usd=0.0, realtime_usd=0.0, started_at=None, ended_at=None, hours_to_sla=None,
)  # fmt: skip


def test_the_summary_says_it_in_a_dozen_lines() -> None:
    assert FULL.rows() == [
        ("snapshot", "notes 2026-11-22.1"),
        ("records", "1,000"),
        ("= succeeded", "980"),
        ("+ dead letters", "15"),
        ("+ rejected (never sent)", "5"),
        ("requests sent", "905 in 2 batches, 1 round"),
        ("not asked twice", "50 reused, 40 duplicates"),
        ("tokens", "60,000 in, 12,000 out"),
        ("cost", "$1.5000 (real-time price: $3.0000, saved 50%)"),
        ("time at the API", "10 min 0 s"),
        ("throughput", "90.5 requests/min, 6,000 input and 1,200 output tokens/min"),
        ("left of the 24 h SLA", "23.5 h at the tightest batch"),
        ("outside output schema", "3 answers"),
    ]


BOTH = replace(
    FULL, requests=930, realtime_requests=25, rounds=2, cost_usd=1.6, realtime_cost_usd=0.1, realtime_usd=3.1, lost=3
)
REALTIME = replace(
    FULL, requests=25, realtime_requests=25, batches=0, cost_usd=0.1, realtime_cost_usd=0.1, realtime_usd=0.1,
    hours_to_sla=None,
)  # fmt: skip
LANES: list[Any] = [
    pytest.param(
        replace(FULL, batches=1), "905 in 1 batch, 1 round", "$1.5000 (real-time price: $3.0000, saved 50%)", id="batch"
    ),
    pytest.param(
        BOTH, "905 in 2 batches and 25 in real time, 2 rounds",
        "$1.6000 ($1.5000 in batches, saved 50% of the real-time price of $3.0000; $0.1000 in real time)", id="both",
    ),
    pytest.param(REALTIME, "25 in real time, 1 round", "$0.1000 (real-time price)", id="real-time"),
    pytest.param(
        replace(REALTIME, requests=125, batches=2, rounds=2), "100 in 2 batches and 25 in real time, 2 rounds",
        "$0.1000 (real-time price)", id="all-batches-given-up",
    ),
    pytest.param(EMPTY, "0 in 0 batches, 0 rounds", "$0.0000", id="nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("summary", "sent", "cost"), LANES)
def test_requests_and_cost_are_told_by_lane(summary: Summary, sent: str, cost: str) -> None:
    rows = dict(summary.rows())
    assert (rows["requests sent"], rows["cost"]) == (sent, cost)


def test_the_saving_is_that_of_what_went_as_batches() -> None:
    numbers = BOTH.numbers()
    lanes = {name: numbers[name] for name in ("batch_requests", "realtime_requests", "realtime_cost_usd", "lost")}
    assert lanes == {"batch_requests": 905, "realtime_requests": 25, "realtime_cost_usd": 0.1, "lost": 3}
    assert (numbers["batch_cost_usd"], numbers["saved_usd"]) == pytest.approx((1.5, 1.5))
    assert REALTIME.saved_usd == 0


@pytest.mark.parametrize(
    ("lost", "words"), [(3, "3 answers may have been paid and were lost"), (1, "1 answer may have")]
)
def test_answers_that_may_have_been_paid_and_were_lost_are_shown(lost: int, words: str) -> None:
    assert words in dict(replace(FULL, lost=lost).rows())["lost in real time"]
    assert "lost in real time" not in dict(FULL.rows())


def test_a_snapshot_that_sent_nothing_has_no_rates() -> None:
    labels = [label for label, _ in EMPTY.rows()]
    assert "throughput" not in labels
    assert "left of the 24 h SLA" not in labels
    assert dict(EMPTY.rows())["cost"] == "$0.0000"
    assert "success_rate" not in EMPTY.numbers()


def test_numbers_for_plots_leave_out_what_is_not_known() -> None:
    numbers = FULL.numbers()
    assert numbers["success_rate"] == 0.98
    assert numbers["requests_per_min"] == 90.5
    assert numbers["hours_to_sla"] == 23.5
    assert "minutes" not in replace(FULL, ended_at=None).numbers()


def test_a_batch_that_ends_at_once_divides_by_nothing() -> None:
    assert replace(FULL, ended_at=NOW).per_minute(10) == 600


def test_records_add_up() -> None:
    assert FULL.records == FULL.succeeded + FULL.dead + FULL.rejected
    assert FULL.answered == 890


def test_markdown_is_a_table_of_the_same_rows() -> None:
    lines = FULL.markdown().splitlines()
    assert lines[:3] == ["| | |", "|---|---|", "| snapshot | notes 2026-11-22.1 |"]
    assert len(lines) == 2 + len(FULL.rows())


DURATIONS = [
    (0, "0 s"),
    (59.4, "59 s"),
    (59.6, "1 min 0 s"),
    (200, "3 min 20 s"),
    (76_440, "21 h 14 min"),
    (3_600, "1 h 0 min"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_a_duration_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0"), (0.0359, "0.036"), (0.35, "0.35"), (12.54, "12.5"), (135.3, "135"), (25_885.0, "25,885")],
    ids=str,
)
def test_a_slow_rate_is_not_said_to_be_none(amount: float, text: str) -> None:
    """Three hundred requests in a batch of fourteen hours were "0 requests/min"."""
    assert rate(amount) == text
