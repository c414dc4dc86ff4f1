"""A token bucket: full at first, refilled all the time, never more than it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pipeline.lane.bucket import Bucket


def test_it_refills_all_the_time_up_to_what_it_holds() -> None:
    bucket = Bucket(rate=2.0, capacity=10.0, now=0.0)
    bucket.take(10.0, 0.0)
    assert [bucket.level(now) for now in (0.0, 2.5, 5.0, 99.0)] == [0.0, 5.0, 10.0, 10.0]


def test_a_clock_that_stands_gives_nothing() -> None:
    bucket = Bucket(rate=2.0, capacity=10.0, now=5.0)
    bucket.take(4.0, 5.0)
    assert bucket.level(5.0) == bucket.level(4.0) == 6.0


@pytest.mark.parametrize(
    ("taken", "amount", "wait"),
    [
        pytest.param(0.0, 10.0, 0.0, id="full"),
        pytest.param(4.0, 6.0, 0.0, id="just-enough"),
        pytest.param(8.0, 6.0, 2.0, id="short"),
        pytest.param(0.0, 1000.0, 0.0, id="larger-than-it-and-full"),
        pytest.param(2.0, 1000.0, 1.0, id="larger-than-it-waits-for-full"),
        pytest.param(30.0, 1.0, 10.5, id="in-debt"),
    ],
)
def test_it_tells_how_long_to_wait(taken: float, amount: float, wait: float) -> None:
    bucket = Bucket(rate=2.0, capacity=10.0, now=0.0)
    bucket.take(taken, 0.0)
    assert bucket.wait_seconds(amount, 0.0) == wait


def test_what_is_given_back_is_kept_as_far_as_it_fits() -> None:
    bucket = Bucket(rate=1.0, capacity=10.0, now=0.0)
    bucket.take(3.0, 0.0)
    bucket.take(-8.0, 0.0)
    assert bucket.level(0.0) == 10.0


def test_it_is_clamped_downwards_only() -> None:
    bucket = Bucket(rate=1.0, capacity=10.0, now=0.0)
    bucket.take(5.0, 0.0)
    bucket.clamp(8.0, 0.0)
    assert bucket.level(0.0) == 5.0
    bucket.clamp(2.0, 0.0)
    assert bucket.level(0.0) == 2.0


def test_a_change_keeps_a_debt_and_loses_what_no_longer_fits() -> None:
    bucket = Bucket(rate=1.0, capacity=10.0, now=0.0)
    bucket.change(1.0, 4.0, 0.0)
    assert bucket.level(0.0) == 4.0
    bucket.take(10.0, 0.0)
    bucket.change(3.0, 20.0, 0.0)
    assert bucket.level(1.0) == -3.0


@given(
    st.floats(0.1, 100),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0.01, 300), st.floats(0, 5)), min_size=1, max_size=40),
)
def test_no_window_gives_more_than_its_rate_a_full_bucket_and_one_request(
    rate: float, capacity: float, requests: list[tuple[float, float]]
) -> None:
    bucket, now, sent = Bucket(rate, capacity, 0.0), 0.0, []
    for amount, idle in requests:
        now += idle
        now += bucket.wait_seconds(amount, now)
        assert bucket.wait_seconds(amount, now) <= 1e-6
        bucket.take(amount, now)
        sent.append((now, amount))
    for first in range(len(sent)):
        total = 0.0
        for at, amount in sent[first:]:
            total += amount
            window = rate * (at - sent[first][0])
            assert total <= (window + capacity + amount) * (1 + 1e-6) + 1e-6
