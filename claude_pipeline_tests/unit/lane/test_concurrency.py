"""How many requests may be in flight, and how long one may take."""

from __future__ import annotations

import pytest

from claude_pipeline.lane.concurrency import FIRST, Concurrency


def used_up_for(concurrency: Concurrency, seconds: int, *, per_second: float = 1e6, since: float = 0.0) -> int:
    """It is used up all the time; returns the limit after it."""
    for now in range(seconds):
        concurrency.used_up(concurrency.limit(per_second, 1.0), since + now)
    return concurrency.limit(per_second, 1.0)


def test_it_begins_with_a_few_and_doubles_while_they_are_used_up() -> None:
    limits = []
    concurrency = Concurrency()
    for now in range(0, 12, 2):
        limits.append(concurrency.limit(1e6, 1.0))
        concurrency.used_up(limits[-1], now)
    assert limits == [4, 8, 16, 32, 64, 128]


def test_it_does_not_grow_while_it_is_not_used_up() -> None:
    concurrency = Concurrency()
    for now in range(100):
        concurrency.used_up(FIRST - 1, now)
    assert concurrency.limit(1e6, 1.0) == FIRST


def test_no_more_than_the_rate_needs_by_littles_law() -> None:
    concurrency = Concurrency()
    used_up_for(concurrency, 60)
    for _ in range(500):
        concurrency.answered(2.0, 60.0)
    assert concurrency.limit(10.0, 0.0) == 30 + FIRST  # 10 a second x 2 s x 1.5


def test_a_stretch_of_slow_answers_is_seen_by_the_age_of_the_oldest() -> None:
    concurrency = Concurrency()
    used_up_for(concurrency, 60)
    concurrency.answered(2.0, 60.0)
    assert concurrency.limit(10.0, 20.0) == 300 + FIRST


@pytest.mark.parametrize("most", [1, 7, 50])
def test_never_more_than_the_wall(most: int) -> None:
    assert used_up_for(Concurrency(most), 100) == most


def test_a_wall_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Concurrency(0)


def test_it_is_cut_once_per_episode() -> None:
    concurrency = Concurrency()
    before = used_up_for(concurrency, 20)
    for _ in range(50):  # all of them sent before the first was known to have failed
        concurrency.overloaded(sent_at=19.0, in_flight=before - 1, now=20.0)
    assert concurrency.limit(1e6, 1.0) == before // 2
    concurrency.overloaded(sent_at=20.5, in_flight=before // 2 - 1, now=21.0)
    assert concurrency.limit(1e6, 1.0) == before // 4


def test_after_a_429_it_is_cut_by_less() -> None:
    concurrency = Concurrency()
    before = used_up_for(concurrency, 14)
    concurrency.overloaded(13.0, before - 1, 14.0, limited=True)
    assert concurrency.limit(1e6, 1.0) == before * 4 // 5


def test_after_a_cut_it_rests_and_then_grows_more_slowly() -> None:
    concurrency = Concurrency()
    before = used_up_for(concurrency, 14)
    concurrency.overloaded(13.0, before - 1, 14.0)
    assert used_up_for(concurrency, 5, since=14.0) == before // 2
    assert used_up_for(concurrency, 2, since=19.0) == before // 2 * 5 // 4


def test_one_is_always_allowed() -> None:
    concurrency = Concurrency()
    for n in range(20):
        concurrency.overloaded(n + 0.5, 0, n + 1.0)
    assert concurrency.limit(0.0, 0.0) == 1


@pytest.mark.parametrize(
    ("latencies", "tries", "seconds"),
    [
        pytest.param([], 0, 600.0, id="nothing-known"),
        pytest.param([0.5, 2.0], 0, 60.0, id="fast"),
        pytest.param([3.0, 12.0, 4.0], 0, 120.0, id="ten-times-the-slowest"),
        pytest.param([100.0], 0, 600.0, id="slow"),
        pytest.param([2.0], 1, 120.0, id="lost-once"),
        pytest.param([2.0], 7, 600.0, id="lost-often"),
    ],
)
def test_a_timeout_follows_the_slowest_answer(latencies: list[float], tries: int, seconds: float) -> None:
    concurrency = Concurrency()
    for latency in latencies:
        concurrency.answered(latency, 100.0)
    assert concurrency.timeout_seconds(tries) == seconds


def test_a_slow_answer_is_forgotten_after_some_minutes() -> None:
    concurrency = Concurrency()
    concurrency.answered(30.0, 0.0)
    timeouts = []
    for now in (1.0, 299.0, 301.0, 590.0, 620.0, 930.0):
        concurrency.answered(7.0, now)
        timeouts.append(concurrency.timeout_seconds(0))
    assert timeouts == [300.0, 300.0, 300.0, 300.0, 70.0, 70.0]
