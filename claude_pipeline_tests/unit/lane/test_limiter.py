"""When the next request may be sent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.catalog.tier import Rate
from claude_pipeline.lane.limiter import CAREFUL, KINDS, Cost, Limiter
from claude_pipeline.lane.reply import RateTold, TokenUse

SMALL = Cost(300, 100.0, 10.0)
WHOLE = 60.0  # seconds, after which the slow start is over


def limiter_of(requests: int = 6000, tokens_in: int = 6_000_000, tokens_out: int = 6_000_000, **more: float) -> Limiter:
    rate = Rate(requests_per_minute=requests, input_tokens_per_minute=tokens_in, output_tokens_per_minute=tokens_out)
    return Limiter(rate, tokens_per_byte=1 / 3, output_tokens=10.0, **more)


def sent_until(limiter: Limiter, since: float, until: float, cost: Cost = SMALL) -> list[float]:
    """When requests are sent, each as soon as it may be; each is settled at once as expected."""
    now, sent = since, []
    while now < until:
        wait = limiter.wait_seconds(cost, now)
        if wait == 0.0:
            limiter.take(cost, now)
            limiter.settle(cost, TokenUse(round(cost.input_tokens), round(cost.output_tokens)), now)
            sent.append(now)
        now += wait
    return sent


def warm(limiter: Limiter) -> Limiter:
    sent_until(limiter, 0.0, WHOLE)
    return limiter


def rate_after(limiter: Limiter, since: float, cost: Cost = SMALL) -> float:
    """Requests per second over a quarter of a minute."""
    return len(sent_until(limiter, since, since + 15.0, cost)) / 15.0


def all_told(limit: int, remaining: int | None = None) -> dict[str, RateTold]:
    return {kind: RateTold(limit, remaining) for kind in KINDS}


@pytest.mark.parametrize(
    ("limits", "cost", "per_second"),
    [
        pytest.param((6000, 10**9, 10**9), SMALL, 99.0, id="requests-bind"),
        pytest.param((60_000, 600_000, 10**9), SMALL, 99.0, id="input-binds"),
        pytest.param((60_000, 10**9, 60_000), SMALL, 99.0, id="output-binds"),
        pytest.param((60_000, 600_000, 10**9), Cost(300_000, 100_000.0, 10.0), 0.099, id="larger-than-the-bucket"),
    ],
)
def test_the_binding_limit_sets_the_pace(limits: tuple[int, int, int], cost: Cost, per_second: float) -> None:
    sent = sent_until(limiter_of(*limits), 0.0, 360.0, cost)
    assert sum(at >= WHOLE for at in sent) / 300.0 == pytest.approx(per_second, rel=0.05)


def test_it_begins_with_a_tenth_and_has_grown_to_the_whole_after_half_a_minute() -> None:
    sent = sent_until(limiter_of(), 0.0, 40.0)
    per_second = [sum(second <= at < second + 1 for at in sent) for second in range(40)]
    assert per_second[0] <= 21  # a tenth, and the full bucket of that
    assert all(later >= earlier - 2 for earlier, later in pairwise(per_second[1:31]))
    assert min(per_second[25:]) >= 98


def test_after_a_rest_it_begins_slowly_again() -> None:
    limiter = warm(limiter_of())
    assert len(sent_until(limiter, WHOLE + 3600, WHOLE + 3601)) <= 21


def test_waiting_long_for_a_large_request_is_no_rest() -> None:
    limiter = limiter_of(50, 10**9, 8_000)
    long = Cost(300, 100.0, 16_000.0)  # two minutes of output each
    assert len(sent_until(limiter, 0.0, 1260.0, long)) >= 10


def test_output_is_reserved_by_the_mean_of_answers_and_not_by_max_tokens() -> None:
    limiter = limiter_of()
    for _ in range(500):
        limiter.settle(SMALL, TokenUse(100, 200), 0.0)
    assert limiter.cost_of(300, 64_000).output_tokens == pytest.approx(200, rel=0.05)


def test_what_an_answer_used_replaces_what_was_expected() -> None:
    limiter = warm(limiter_of(60_000, 600_000))
    limiter.take(SMALL, WHOLE)
    limiter.settle(SMALL, TokenUse(30_100, 10), WHOLE)  # three seconds' worth more
    assert limiter.wait_seconds(SMALL, WHOLE) == pytest.approx(3.0, abs=0.2)


def test_what_a_cache_gave_is_free() -> None:
    limiter = warm(limiter_of(60_000, 600_000))
    large = Cost(90_000, 30_000.0, 10.0)
    limiter.take(large, WHOLE)
    assert limiter.wait_seconds(SMALL, WHOLE) > 2.0
    limiter.settle(large, TokenUse(100, 10, cache_read_tokens=29_900), WHOLE)
    assert limiter.wait_seconds(SMALL, WHOLE) < 0.2


@pytest.mark.parametrize(("sent", "free"), [(True, False), (False, True)], ids=["refused", "never-sent"])
def test_a_refused_request_gives_back_its_tokens(sent: bool, free: bool) -> None:
    limiter = warm(limiter_of(60, 600_000))
    large = Cost(90_000, 30_000.0, 10.0)
    at = WHOLE + limiter.wait_seconds(large, WHOLE)
    limiter.take(large, at)
    limiter.give_back(large, at, sent=sent)
    assert (limiter.wait_seconds(SMALL, at) == 0.0) is free
    assert limiter.wait_seconds(SMALL, at) < 1.2


@pytest.mark.parametrize("kind", range(3))
def test_a_lower_limit_holds_at_once(kind: int) -> None:
    limiter = warm(limiter_of(6000, 600_000, 60_000))
    told = {KINDS[kind]: RateTold((3000, 300_000, 30_000)[kind], None)}
    limiter.told(told, WHOLE - 1, WHOLE)
    assert rate_after(limiter, WHOLE) == pytest.approx(50, abs=3)


def test_a_higher_limit_is_grown_into() -> None:
    limiter = warm(limiter_of())
    limiter.told({"requests": RateTold(12_000, None)}, WHOLE - 1, WHOLE)
    assert rate_after(limiter, WHOLE) < 170
    assert rate_after(limiter, WHOLE + 15) == pytest.approx(198, abs=5)


def test_a_reply_to_an_older_request_does_not_bring_an_old_limit_back() -> None:
    limiter = limiter_of()
    limiter.told({"requests": RateTold(3000, None)}, sent_at=10.0, now=11.0)
    limiter.told({"requests": RateTold(6000, None)}, sent_at=9.0, now=12.0)
    assert limiter.limits["requests"] == 3000
    limiter.told({"requests": RateTold(6000, None)}, sent_at=11.5, now=13.0)
    assert limiter.limits["requests"] == 6000


def test_limits_that_are_told_as_nothing_are_not_believed() -> None:
    limiter = limiter_of()
    limiter.told({"requests": RateTold(0, None), "input-tokens": RateTold(None, None)}, 0.0, 1.0)
    assert limiter.limits["requests"] == 6000


@pytest.mark.parametrize("kind", KINDS)
def test_what_remains_clamps_the_bucket(kind: str) -> None:
    limiter = warm(limiter_of(6000, 600_000, 600_000))
    limiter.wait_seconds(SMALL, WHOLE + 10)
    assert limiter.wait_seconds(Cost(300, 9_000.0, 9_000.0), WHOLE + 10) == 0.0
    limiter.told({kind: RateTold(None, 0)}, WHOLE + 10, WHOLE + 10)
    cost = SMALL if kind != "input-tokens" else Cost(300, 9_000.0, 10.0)
    wait = limiter.wait_seconds(cost, WHOLE + 10)
    assert wait > 0.0 or kind == "requests"
    if kind == "requests":  # one may be there: what is told is rounded down
        limiter.take(SMALL, WHOLE + 10)
        assert limiter.wait_seconds(SMALL, WHOLE + 10) > 0.0


def test_what_remained_for_an_older_request_is_no_news() -> None:
    limiter = warm(limiter_of(6000))
    limiter.wait_seconds(SMALL, WHOLE + 10)
    limiter.told({"requests": RateTold(None, 5000)}, WHOLE + 9, WHOLE + 10)
    limiter.told({"requests": RateTold(None, 0)}, WHOLE + 8, WHOLE + 10)
    limiter.take(SMALL, WHOLE + 10)
    assert limiter.wait_seconds(SMALL, WHOLE + 10) == 0.0


def test_many_slow_answers_that_end_at_once_are_waited_for() -> None:
    limiter = warm(limiter_of(60_000, 10**9, 60_000))
    limiter.told({"output-tokens": RateTold(60_000, 60_000)}, WHOLE, WHOLE)
    for _ in range(70):  # reserved long ago, ended now: more than the API's bucket holds
        limiter.settle(Cost(300, 0.0, 1000.0), TokenUse(0, 1000), WHOLE)
    assert limiter.wait_seconds(SMALL, WHOLE) == pytest.approx(10, abs=2)


@pytest.mark.parametrize(
    "unknown",
    [
        None,
        Rate(requests_per_minute=None, input_tokens_per_minute=None, output_tokens_per_minute=None),
    ],
)
def test_unknown_limits_are_guessed_carefully_until_they_are_told(unknown: Rate | None) -> None:
    limiter = Limiter(unknown)
    assert tuple(limiter.limits.values()) == CAREFUL
    limiter.told(all_told(9000), 0.0, 1.0)
    assert set(limiter.limits.values()) == {9000.0}


def test_a_share_is_a_share_of_every_limit() -> None:
    limiter = warm(limiter_of(share=0.25))
    assert rate_after(limiter, WHOLE) == pytest.approx(24.75, abs=2)
    rung: list[bool] = []
    limiter.changed = lambda: rung.append(True)
    limiter.share_changed(0.5)
    assert rung == [True]
    assert rate_after(limiter, WHOLE + 15) == pytest.approx(49.5, abs=2)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        limiter_of(share=share)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        limiter_of().share_changed(share)


def refuse(
    limiter: Limiter, now: float, after: float | None, *, ramp: bool = False, sent_at: float | None = None
) -> None:
    limiter.refused(now - 0.05 if sent_at is None else sent_at, after, now, ramp=ramp, chance=0.5)


@pytest.mark.parametrize("seconds", [1.0, 17.0, 3600.0])
def test_retry_after_is_honoured_to_the_letter_and_followed_by_a_slow_start(seconds: float) -> None:
    limiter = warm(limiter_of())
    refuse(limiter, WHOLE, seconds)
    sent = sent_until(limiter, WHOLE, WHOLE + seconds + 1)
    assert sent[0] >= WHOLE + seconds
    assert len(sent) <= (13 if seconds > 5 else 75)


def test_a_429_without_retry_after_backs_off_ever_longer() -> None:
    limiter, now, pauses = warm(limiter_of()), WHOLE, []
    for _ in range(9):
        refuse(limiter, now, None)
        pauses.append(limiter.paused_seconds(now))
        now += pauses[-1] + 0.1
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_429s_of_one_episode_slow_down_once() -> None:
    once, often = warm(limiter_of()), warm(limiter_of())
    refuse(once, WHOLE, 1.0)
    for _ in range(50):
        refuse(often, WHOLE, 1.0)
    assert sent_until(once, WHOLE, WHOLE + 10) == sent_until(often, WHOLE, WHOLE + 10)


def test_where_use_rose_too_fast_it_grows_more_slowly() -> None:
    limiter = limiter_of()
    for now in (5.0, 10.0, 15.0, 20.0, 25.0):
        sent_until(limiter, now - 5.0, now)
        refuse(limiter, now, 1.0, ramp=True)
    assert 15 < rate_after(limiter, 30.0) < 50


def test_a_pause_that_another_learned_is_kept_and_followed_by_a_slow_start() -> None:
    limiter = warm(limiter_of())
    limiter.pause(WHOLE + 30)
    limiter.pause(WHOLE + 20)
    assert limiter.paused_until == WHOLE + 30
    sent = sent_until(limiter, WHOLE, WHOLE + 31)
    assert sent[0] >= WHOLE + 30
    assert len(sent) <= 13


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "answer", "refuse", "tell", "idle", "pause"]),
        st.floats(0.0, 5.0),
        st.integers(1, 20_000),
    ),
    min_size=1,
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(ACTS)
def test_no_window_has_more_than_the_limits_allow(acts: list[tuple[str, float, int]]) -> None:
    requests, tokens_in = 600, 600_000  # 10 and 10,000 a second
    limiter = limiter_of(requests, tokens_in)
    now, sent = 100.0, []
    flying: list[tuple[Cost, float]] = []
    steps: dict[str, Callable[[int], None]] = {
        "refuse": lambda n: limiter.refused(now - 0.1, n % 7 or None, now, ramp=n % 2 == 0, chance=0.5),
        "tell": lambda n: limiter.told({"requests": RateTold(requests, n % 600)}, now - 0.1, now),
        "pause": lambda n: limiter.pause(now + n % 11),
        "idle": lambda n: None,
    }
    for act, seconds, size in acts:
        now += seconds
        if act == "send":
            cost = Cost(3 * size, float(size), 10.0)
            while (wait := limiter.wait_seconds(cost, now)) > 0:
                now += wait
            assert limiter.paused_seconds(now) == 0.0
            limiter.take(cost, now)
            sent.append((now, size))
            flying.append((cost, now))
        elif act == "answer" and flying:
            cost, _ = flying.pop(0)
            limiter.settle(cost, TokenUse(int(cost.input_tokens), 10), now)
        elif act != "answer":
            steps[act](size)
    for first in range(len(sent)):
        begin, total = sent[first][0], 0
        for count, (at, size) in enumerate(sent[first:], 1):
            total += size
            assert count <= (at - begin) * requests / 60 + 10 + 1.01
            # A bucket that is seen to be deep may hold eight usual requests.
            assert total <= (at - begin) * tokens_in / 60 + 10_000 + size + 1
