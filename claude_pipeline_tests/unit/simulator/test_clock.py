"""The simulator's clock: speed, pause, moves by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from claude_pipeline.simulator.clock import SECOND_US, Clock, microseconds, rfc3339

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Real:
    """A stand-in for the machine's monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def real() -> Real:
    return Real()


def seconds_since_start(clock: Clock) -> float:
    return (clock.now_us() - microseconds(START)) / SECOND_US


def test_an_hour_passes_in_a_second_at_speed_3600(real: Real) -> None:
    clock = Clock(START, 3600, real)
    real.seconds = 1
    assert seconds_since_start(clock) == 3600


def test_a_new_speed_holds_from_then_on(real: Real) -> None:
    clock = Clock(START, 10, real)
    real.seconds = 1
    clock.speed = 100
    real.seconds = 2
    assert seconds_since_start(clock) == 110


def test_a_paused_clock_stands_still_until_it_is_resumed(real: Real) -> None:
    clock = Clock(START, 1, real)
    real.seconds = 1
    clock.pause()
    real.seconds = 5
    clock.resume()
    real.seconds = 6
    assert seconds_since_start(clock) == 2


def test_a_paused_clock_is_moved_by_hand(real: Real) -> None:
    clock = Clock(START, 1, real)
    clock.pause()
    clock.advance(86_400)
    assert clock.now() == datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_the_clock_never_goes_back(real: Real) -> None:
    with pytest.raises(ValueError, match="only moves forward"):
        Clock(START, 1, real).advance(-1)


def test_rate_limits_go_on_while_the_clock_is_paused(real: Real) -> None:
    clock = Clock(START, 1, real)
    clock.pause()
    before = clock.limit_us()
    real.seconds = 3
    assert clock.limit_us() - before == 3 * SECOND_US


def test_rate_limits_follow_a_clock_that_is_moved(real: Real) -> None:
    clock = Clock(START, 1, real)
    before = clock.limit_us()
    clock.advance(60)
    assert clock.limit_us() - before == 60 * SECOND_US


def test_times_are_written_with_microseconds_and_z() -> None:
    assert rfc3339(microseconds(START) + 7) == "2026-11-22T12:00:00.000007Z"
