"""Which lane `lane:` means, and when a batch is given up for real time: pure decisions over hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_pipeline.plan import Hours
from claude_pipeline.plan.lane_choice import choose_lane, must_rescue

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATE = Hours(2.0, 24.0, "time of a batch at the API")
QUICK, SLOW = Hours(0.1, 0.2, "1,000 requests per minute"), Hours(5.0, 6.0, "50 requests per minute")
NO_LIMITS = Hours(None, None, "no limits are published for this tier")
CHOICES: list[Any] = [
    pytest.param("batch", 1, LATE, QUICK, None, "batch", "lane: batch asks for it", id="batch"),
    pytest.param("realtime", 24, LATE, QUICK, None, "realtime", "lane: realtime asks for it", id="real-time"),
    pytest.param("auto", 24, LATE, QUICK, None, "batch", "half the price, and in time: about 2 h, 24 h left", id="in-time"),
    pytest.param("auto", 1, LATE, QUICK, None, "realtime",
                 "a batch (2 h) misses the deadline (1 h left); real time needs 6 min", id="late"),
    pytest.param("auto", -1, LATE, QUICK, None, "realtime",
                 "a batch (2 h) misses the deadline (it has passed); real time needs 6 min", id="over"),
    pytest.param("auto", 1, LATE, QUICK, "would pass budget_usd", "batch",
                 "a batch (2 h) misses the deadline (1 h left), but real time would pass budget_usd", id="budget"),
    pytest.param("auto", 1, LATE, SLOW, None, "batch",
                 "no lane meets the deadline (1 h left), and real time is no faster: 5 h (50 requests per minute), a batch 2 h",
                 id="real-time-is-slower"),
    pytest.param("auto", 1, LATE, NO_LIMITS, None, "batch",
                 "half the price; of real time no limits are published for this tier", id="limits-unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "left", "batch", "realtime", "wall", "lane", "why"), CHOICES)
def test_the_cheapest_lane_that_meets_the_deadline_is_chosen_with_a_reason(
    wanted: Any, left: float, batch: Hours, realtime: Hours, wall: str | None, lane: str, why: str
) -> None:
    chosen = choose_lane(wanted, left_hours=left, batch=batch, realtime=realtime, wall=wall)
    assert (chosen.lane, chosen.why) == (lane, why)


RESCUES: list[Any] = [
    pytest.param(1.0, 0.5, QUICK, False, id="time-enough"),
    pytest.param(1.59, 0.5, QUICK, False, id="not-yet"),  # 15 min to cancel, 9 min to ask
    pytest.param(1.61, 0.5, QUICK, True, id="just-in-time"),
    pytest.param(1.61, 1.8, QUICK, False, id="batches-usually-take-longer"),
    pytest.param(0.1, 1.0, SLOW, False, id="real-time-never-meets-it-and-the-batch-may"),
    pytest.param(1.1, 1.0, SLOW, True, id="and-the-batch-is-slow"),
    pytest.param(3.0, 1.0, NO_LIMITS, False, id="limits-unknown"),
]


@pytest.mark.parametrize(("hours", "usual", "realtime", "now"), RESCUES)
def test_a_batch_is_given_up_when_its_rest_can_just_be_asked_in_time(
    hours: float, usual: float, realtime: Hours, now: bool
) -> None:
    moments = [NOW + timedelta(hours=at) for at in (hours, 2.0, usual)]
    assert must_rescue(moments[0], moments[1], realtime, usual=moments[2]) is now
