"""The request queue against the simulator's limits, in virtual time: ten minutes in a moment.

Every 20th question is eight times as large as the others, answers have stretches in which they take five times as
long, and what questions use is known only by about a tenth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import pytest

from claude_pipeline.catalog.tier import Rate
from claude_pipeline.lane.queue import Ended
from claude_pipeline.lane.reply import Fate, Question, Reply
from claude_pipeline.simulator.limit import Pool, all_tiers, find_tier
from claude_pipeline_tests.simulation.load import Load
from claude_pipeline_tests.simulation.queue_case import Book, quantile, queue_for, rate_of
from claude_pipeline_tests.simulation.rate_server import AT, Latency, RateServer, model_of, usual_seconds
from claude_pipeline_tests.simulation.virtual_time import in_virtual_time

WARM_UP_MINUTES, MINUTES = 1, 10
OVER = 60.0 * (WARM_UP_MINUTES + MINUTES) + 5
STRETCHES = ((150.0, 200.0, 5.0), (400.0, 470.0, 5.0))
BINDING = ("requests", "input_tokens", "output_tokens")
UNKNOWN = Rate(requests_per_minute=None, input_tokens_per_minute=None, output_tokens_per_minute=None)
OVERLOADED = Reply(Fate.REFUSED, AT, 529, error_type="overloaded_error")
LINES = ("haiku", "sonnet", "opus")


def cases() -> list[Any]:
    """Each tier, model and limit; in every run of the tests each tier with each model, the limits taking turns."""
    found = []
    for turn, (tier, line) in enumerate(product(all_tiers(), LINES)):
        # Where requests bind there are many: only the tiers with up to a thousand a minute.
        limits = [limit for limit in BINDING if limit != "requests" or tier in ("tier1", "tier2", "start")]
        usual = limits[(turn + turn // len(LINES)) % len(limits)]
        for limit in limits:
            marks = () if limit == usual else (pytest.mark.long,)
            found.append(pytest.param(tier, line, limit, id=f"{tier}-{line}-{limit}", marks=marks))
    return found


def load_that_fills(pool: Pool, binding: str, *, per_minute: float = 100.0) -> Load:
    """A load of which one limit is the one in the way, the others being half used."""
    if binding == "requests":
        return Load(min(pool.input_tokens / pool.requests / 2, 3000), min(pool.output_tokens / pool.requests / 2, 600))
    per_minute = min(per_minute, 0.6 * pool.requests)
    tokens_in, tokens_out = pool.input_tokens / per_minute, pool.output_tokens / per_minute
    return Load(tokens_in, tokens_out / 2) if binding == "input_tokens" else Load(tokens_in / 2, tokens_out)


def server_for(
    tier: str = "start", line: str = "haiku", binding: str = "input_tokens", *, stretches: bool = True, per_minute: float = 100.0
) -> RateServer:  # fmt: skip
    model = model_of(line)
    load = load_that_fills(find_tier(tier).limits_of(model), binding, per_minute=per_minute)
    latency = Latency(usual_seconds(line), STRETCHES if stretches else ())
    return RateServer(find_tier(tier), model, latency, load)


def at(seconds: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


@pytest.mark.parametrize(("tier", "line", "binding"), cases())
def test_the_binding_limit_is_used_without_a_429_and_nobody_starves(tier: str, line: str, binding: str) -> None:
    server = server_for(tier, line, binding)
    book, queue = Book(server, until=OVER), queue_for(server)

    ended = in_virtual_time(queue.run(book.questions(), book))

    assert ended == Ended("done")
    assert server.used(binding, WARM_UP_MINUTES, WARM_UP_MINUTES + MINUTES) >= 0.95
    assert queue.tally.refused_429 < 0.001 * queue.tally.sent
    assert quantile(book.waits(large=True, since=60), 0.99) <= 3 * median(book.waits(large=False, since=60))
    assert book.answered == len(book.read_at) == server.billed.total()
    assert book.most_held <= server.most_in_flight + 20


@pytest.mark.parametrize("line", ["haiku", "opus"])
@pytest.mark.parametrize("binding", ["requests", "input_tokens"])
def test_limits_enforced_per_second_are_used_as_well(line: str, binding: str) -> None:
    server = server_for("start", line, binding, stretches=False, per_minute=900)
    server.enforce_per_second()
    book, queue = Book(server, until=245), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert server.used(binding, 1, 4) >= 0.95
    assert queue.tally.refused_429 < 0.001 * queue.tally.sent


def test_output_enforced_per_second_costs_some_quota_and_few_429s() -> None:
    # Its tokens count when an answer ends, seconds after it was sent: no pace can keep that even.
    server = server_for("start", "opus", "output_tokens", per_minute=600)
    server.enforce_per_second()
    book, queue = Book(server, until=OVER), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert server.used("output_tokens", 1, 11) >= 0.7
    assert queue.tally.refused_429 < 0.005 * queue.tally.sent
    assert book.answered == len(book.read_at)


@pytest.mark.parametrize("binding", BINDING)
def test_limits_halved_in_mid_run_are_met_at_once(binding: str) -> None:
    server = server_for("tier2", "sonnet", binding, stretches=False)
    book, queue = Book(server, until=485), queue_for(server)

    async def run() -> None:
        at(240, lambda: server.limits_become(0.5))
        await queue.run(book.questions(), book)

    in_virtual_time(run())

    assert 0.95 <= server.used(binding, 5, 8) <= 1.01  # of the new limits
    assert queue.tally.refused_429 < 0.001 * queue.tally.sent
    assert book.answered == len(book.read_at)


@pytest.mark.parametrize("told", [True, False], ids=["headers", "no-headers"])
def test_limits_that_grow_are_used_once_headers_tell_them(told: bool) -> None:
    server = server_for("start", "haiku", "input_tokens")
    server.headers = told
    pool = server.limits
    low = Rate(
        requests_per_minute=pool.requests,
        input_tokens_per_minute=pool.input_tokens // 2,
        output_tokens_per_minute=pool.output_tokens,
    )
    book, queue = Book(server, until=305), queue_for(server, rate=low)

    in_virtual_time(queue.run(book.questions(), book))

    low_share, high_share = (0.95, 1.0) if told else (0.47, 0.5)
    assert low_share <= server.used("input_tokens", 1, 5) <= high_share
    assert queue.tally.refused_429 == 0


def test_without_headers_the_catalogue_is_enough() -> None:
    server = server_for("start", "sonnet", "output_tokens")
    server.headers = False
    book, queue = Book(server, until=OVER), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert server.used("output_tokens", 1, 11) >= 0.95
    assert queue.tally.refused_429 < 0.001 * queue.tally.sent


def test_a_pool_of_unknown_limits_begins_carefully_and_learns_them() -> None:
    server = server_for("start", "haiku", "requests")
    book, queue = Book(server, until=245), queue_for(server, rate=UNKNOWN)

    in_virtual_time(queue.run(book.questions(), book))

    assert book.sent_until(5.0) < 20
    assert server.used("requests", 1, 4) >= 0.95
    assert queue.tally.refused_429 == 0


def test_a_pool_of_unknown_limits_without_headers_stays_careful() -> None:
    server = server_for("start", "haiku", "requests")
    server.headers = False
    book, queue = Book(server, until=120), queue_for(server, rate=UNKNOWN)

    in_virtual_time(queue.run(book.questions(), book))

    assert 60 < queue.tally.sent <= 105
    assert book.answered == len(book.read_at)


def refuse_once(at_seconds: float, retry_after: float) -> Callable[[float, Question], Reply | None]:
    told: list[float] = []

    def fault(now: float, question: Question) -> Reply | None:
        if now >= at_seconds and (not told or now < told[0] + 0.05):
            told.append(now)
            return Reply(Fate.REFUSED, AT, 429, error_type="rate_limit_error", retry_after_seconds=retry_after)
        return None

    return fault


def test_a_long_retry_after_ends_the_run_that_has_no_patience() -> None:
    server = server_for("start", "opus")
    server.fault = refuse_once(100, 3600)
    book, queue = Book(server, until=OVER), queue_for(server, patience=60)

    ended = in_virtual_time(queue.run(book.questions(), book))

    assert ended.reason == "paused"
    assert ended.resume_in_seconds is not None
    assert 3500 < ended.resume_in_seconds < 3600
    assert server.in_flight == 0
    assert book.answered == server.billed.total()  # what was in flight is kept
    assert max(server.posts) < 105


def test_a_long_retry_after_is_waited_for_to_the_letter_and_nobody_stampedes() -> None:
    server = server_for("start", "haiku")
    server.fault = refuse_once(100, 3600)
    book, queue = Book(server, count=400), queue_for(server, patience=7200)

    ended = in_virtual_time(queue.run(book.questions(), book))

    refused_at = max(posted for posted in server.posts if posted < 1000)
    after = [posted - refused_at for posted in server.posts if posted > 1000]
    assert ended == Ended("done")
    assert book.answered == 400
    assert 3600 <= after[0] <= 3602
    assert sum(late < after[0] + 5 for late in after) <= 5  # of 8 at full pace
    assert all(reply.fate is Fate.ANSWERED for reply in book.replies.values())


@pytest.mark.parametrize(("tier", "count"), [("start", 3000), ("tier1", 200), ("tier1", 1)])
def test_a_storm_of_529_for_three_minutes_costs_nobody_its_tries(tier: str, count: int) -> None:
    server = server_for(tier, "sonnet", "requests")
    begins = 60.0 if count > 1 else 0.0
    server.fault = lambda now, question: OVERLOADED if begins <= now < begins + 180 else None
    book, queue = Book(server, count=count), queue_for(server)

    ended = in_virtual_time(queue.run(book.questions(), book))

    assert ended == Ended("done")
    assert book.answered == count
    assert server.replies["529"] <= 20  # it is not hammered
    assert max(len(times) for times in book.sent.values()) <= (8 if count == 1 else 4)
    assert book.unbilled_posts.total() == server.replies["529"]
    last = max(server.posts)
    assert last < begins + 180 + 90 + 60 * count / server.limits.requests


def test_a_way_that_is_down_is_a_storm_too() -> None:
    server = server_for("start", "haiku", "requests")
    server.fault = lambda now, question: Reply(Fate.UNSENT, AT) if 30 <= now < 150 else None
    book, queue = Book(server, count=2000), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert book.answered == 2000
    assert server.replies["unsent"] <= 20


def test_a_question_that_always_fails_holds_nobody_up() -> None:
    server = server_for("start", "haiku", "requests")
    broken = Reply(Fate.REFUSED, AT, 500, error_type="api_error")
    server.fault = lambda now, question: broken if isinstance(question.key, int) and question.key % 100 == 3 else None
    book, queue = Book(server, until=245), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    failed = [key for key, reply in book.replies.items() if reply is broken]
    assert set(failed) == {key for key in book.read_at if key % 100 == 3}
    assert {len(book.sent[key]) for key in failed} == {8}
    assert sum(server.minutes[n].requests for n in range(1, 4)) > 0.85 * 3 * server.limits.requests


@pytest.mark.parametrize("asked_again", [True, False], ids=["asked-again", "settled-as-lost"])
def test_half_of_the_connections_hanging_neither_sticks_nor_stampedes(asked_again: bool) -> None:
    server = server_for("start", "haiku", "requests")
    server.fault = lambda now, question: 1e9 if 100 <= now < 300 and server.toss() < 0.5 else None
    book, queue = Book(server, until=400, lost_is_asked_again=asked_again), queue_for(server)

    ended = in_virtual_time(queue.run(book.questions(), book))

    assert ended == Ended("done")
    assert len(book.replies) == len(book.read_at)
    assert (book.answered == len(book.read_at)) is asked_again
    assert max(server.posts) < 600
    assert server.most_in_flight <= 1000
    assert sum(100 <= posted < 300 for posted in server.posts) > 0.25 * 200 * server.limits.requests / 60
    assert all(server.posts_in(second, 1.0) <= 2 * server.limits.requests / 60 + 2 for second in range(400))


def test_everything_hanging_for_a_while_ends_in_answers() -> None:
    server = server_for("tier1", "haiku", "requests")
    server.fault = lambda now, question: 1e9 if 60 <= now < 200 else None
    book, queue = Book(server, count=200), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert book.answered == 200
    assert server.most_in_flight < 120


def test_a_limit_of_acceleration_is_met_by_growing_more_slowly() -> None:
    server = server_for("start", "haiku", "requests", stretches=False)
    server.limit_acceleration(minutes=5)
    book, queue = Book(server, until=OVER), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    assert server.replies["429"] <= 15
    assert server.used("requests", 7, 11) >= 0.95
    assert book.answered == len(book.read_at)


@pytest.mark.parametrize("queues", [2, 4])
def test_queues_that_share_a_pool_use_it_whole_and_one_may_leave(queues: int) -> None:
    server = server_for("start", "sonnet", "input_tokens", per_minute=200)
    books = [Book(server, until=OVER, first=n, step=queues) for n in range(queues)]
    parts = [queue_for(server, share=1 / queues, seed=n) for n in range(queues)]

    def one_leaves() -> None:
        parts[-1].stop()
        for part in parts[:-1]:
            part.limiter.share_changed(1 / (queues - 1))

    async def run() -> list[Ended]:
        at(360, one_leaves)
        return await asyncio.gather(
            *(part.run(book.questions(), book) for part, book in zip(parts, books, strict=True))
        )

    ended = in_virtual_time(run())

    assert [end.reason for end in ended] == ["done"] * (queues - 1) + ["stopped"]
    assert server.used("input_tokens", 1, 6) >= 0.95
    assert server.used("input_tokens", 7, 11) >= 0.95
    assert server.replies["429"] == 0
    assert max(book.input_tokens for book in books[:-1]) < 1.1 * min(book.input_tokens for book in books[:-1])


def test_a_pause_that_another_process_learned_is_kept() -> None:
    server = server_for("start", "haiku")
    book, queue = Book(server, count=300), queue_for(server)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        at(30, lambda: queue.limiter.pause(loop.time() + 50))
        await queue.run(book.questions(), book)

    in_virtual_time(run())

    assert not any(30.1 <= posted < 80 for posted in server.posts)
    assert book.answered == 300


def test_a_source_that_rests_begins_slowly_again() -> None:
    server = server_for("start", "haiku", "requests")
    book, queue = Book(server, count=1000, rest=(500, 300.0)), queue_for(server)

    in_virtual_time(queue.run(book.questions(), book))

    again = next(posted for posted in server.posts if posted > 200)
    assert server.posts_in(again, 3.0) < 0.4 * 3 * server.limits.requests / 60
    assert rate_of(server).requests_per_minute == 1000
    assert book.answered == 1000
