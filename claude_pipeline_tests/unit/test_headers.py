"""Headers of an answer: how long to wait, and the limits as they stand."""

from __future__ import annotations

import pytest

from claude_pipeline.lane.headers import rates_told, retry_after_seconds
from claude_pipeline.lane.reply import RateTold
from claude_pipeline_tests.conftest import NOW


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="not-told"),
        pytest.param({"retry-after": "7.5"}, 7.5, id="seconds"),
        pytest.param({"retry-after": "-5"}, 0, id="past"),
        pytest.param({"retry-after": "1e12"}, 86_400, id="beyond-a-day"),
        pytest.param({"retry-after": "nan"}, None, id="nan"),
        pytest.param({"retry-after": "inf"}, None, id="inf"),
        pytest.param({"retry-after": "soon"}, None, id="a-word"),
        pytest.param({"retry-after": ""}, None, id="empty"),
        pytest.param({"retry-after-ms": "250", "retry-after": "7"}, 0.25, id="milliseconds-first"),
        pytest.param({"retry-after-ms": "soon", "retry-after": "7"}, 7, id="milliseconds-unreadable"),
        pytest.param({"retry-after": "Sun, 22 Nov 2026 14:31:00 GMT"}, 60, id="date-by-our-clock"),
        pytest.param(
            {"retry-after": "Sun, 22 Nov 2026 14:31:00 GMT", "date": "Sun, 22 Nov 2026 14:30:45 GMT"},
            15,
            id="date-by-the-servers-clock",
        ),
        pytest.param({"retry-after": "Sun, 22 Nov 2026 14:31:00", "date": "yesterday"}, 60, id="date-unreadable"),
        pytest.param({"retry-after": "Sun, 99 Nov 2026 14:31:00 GMT"}, None, id="no-such-day"),
    ],
)
def test_a_wait_is_from_nothing_to_a_day(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


def test_a_date_without_any_clock_tells_nothing() -> None:
    assert retry_after_seconds({"retry-after": "Sun, 22 Nov 2026 14:31:00 GMT"}) is None


def test_limits_are_those_that_are_told() -> None:
    told = rates_told(
        {
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2026-11-22T14:31:00Z",
            "anthropic-ratelimit-input-tokens-limit": "2000000",
            "anthropic-ratelimit-output-tokens-remaining": "many",
            "anthropic-ratelimit-tokens-limit": "9",
            "anthropic-priority-input-tokens-limit": "9",
        }
    )
    assert told == {"requests": RateTold(1000, 999), "input-tokens": RateTold(2_000_000, None)}
