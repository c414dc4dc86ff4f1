"""The request queue, reply by reply; an API of a few lines answers it, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from claude_pipeline.catalog.tier import Rate
from claude_pipeline.lane.concurrency import Concurrency
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.queue import READ_AHEAD, SETTLING_MAX, Ended, RequestQueue
from claude_pipeline.lane.reply import Fate, Question, Reply, TokenUse
from claude_pipeline_tests.simulation.virtual_time import in_virtual_time

AT = datetime(2026, 11, 22, tzinfo=UTC)
ANSWER = Reply(Fate.ANSWERED, AT, 200, usage=TokenUse(100, 10))
OVERLOADED = Reply(Fate.REFUSED, AT, 529, error_type="overloaded_error")
BROKEN = Reply(Fate.REFUSED, AT, 500, error_type="api_error")
BAD = Reply(Fate.REFUSED, AT, 400, error_type="invalid_request_error")
LOST, UNSENT = Reply(Fate.LOST, AT), Reply(Fate.UNSENT, AT)
KEY_REFUSED = Reply(Fate.REFUSED, AT, 401, error_type="authentication_error")
SPENT = Reply(Fate.REFUSED, AT, 429, error_type="rate_limit_error", error_code="enforced_spend_limit_reached")
FAST = Rate(requests_per_minute=60_000, input_tokens_per_minute=10**9, output_tokens_per_minute=10**9)


def too_early(retry_after: float | None) -> Reply:
    return Reply(Fate.REFUSED, AT, 429, error_type="rate_limit_error", retry_after_seconds=retry_after)


@dataclass
class Desk:
    """Asks (each POST takes `seconds`), and keeps what became of questions; `script` is what POSTs of one come to."""

    script: Callable[[int, int], Reply] = lambda key, post: ANSWER  # by question and number of its POST
    seconds: float = 1.0
    count: int = 20
    settle_seconds: float = 0.0
    ask_again: bool = True
    attempts: int = 8
    patience: float = 60.0
    most: int = 1000
    rate: Rate | None = FAST
    on_settled: Callable[[int], None] | None = None
    posts: list[tuple[float, int, float]] = field(default_factory=list)  # when, whose, its timeout
    unbilled_posts: Counter[int] = field(default_factory=Counter)
    replies: dict[int, Reply] = field(default_factory=dict)
    read: int = 0
    flying: int = 0
    most_flying: int = 0
    most_held: int = 0
    settling: int = 0
    most_settling: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.queue = RequestQueue(
            self.ask,
            Limiter(self.rate, output_tokens=10.0),
            Concurrency(self.most),
            attempts=self.attempts,
            patience_seconds=self.patience,
            chance=lambda: 0.5,
        )

    async def ask(self, question: Question, timeout_seconds: float) -> Reply:
        key = key_of(question)
        self.posts.append((now(), key, timeout_seconds))
        post = sum(whose == key for _, whose, _ in self.posts)
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.flying -= 1
        return self.script(key, post)

    async def questions(self) -> AsyncIterator[Question]:
        try:
            for key in range(self.count):
                self.read += 1
                self.most_held = max(self.most_held, self.read - len(self.replies))
                yield Question(key, b"x" * 300, 1024)
        finally:
            self.closed = True

    def sending(self, question: Question) -> None: ...

    def unbilled(self, question: Question) -> None:
        self.unbilled_posts[key_of(question)] += 1

    def may_ask_again(self, question: Question) -> bool:
        return self.ask_again

    async def settled(self, question: Question, reply: Reply) -> None:
        self.settling += 1
        self.most_settling = max(self.most_settling, self.settling)
        await asyncio.sleep(self.settle_seconds)
        self.settling -= 1
        self.replies[key_of(question)] = reply
        if self.on_settled is not None:
            self.on_settled(key_of(question))

    def run(self) -> Ended:
        return in_virtual_time(self.queue.run(self.questions(), self))

    def posts_of(self, key: int) -> list[float]:
        return [at for at, whose, _ in self.posts if whose == key]


def key_of(question: Question) -> int:
    assert isinstance(question.key, int)
    return question.key


def now() -> float:
    return asyncio.get_running_loop().time()


def test_every_question_is_asked_once_in_order_and_settled() -> None:
    desk = Desk(count=200)
    assert desk.run() == Ended("done")
    assert [key for _, key, _ in desk.posts] == list(range(200))
    assert desk.replies == dict.fromkeys(range(200), ANSWER)
    tally = desk.queue.tally
    assert (tally.sent, tally.answered, tally.in_flight, tally.waiting) == (200, 200, 0, 0)
    assert (tally.input_tokens, tally.output_tokens) == (20_000, 2000)


def test_no_question_is_no_work() -> None:
    assert Desk(count=0).run() == Ended("done")


@pytest.mark.parametrize("failure", [OVERLOADED, BROKEN, UNSENT, LOST], ids=["529", "500", "unsent", "lost"])
def test_what_failed_is_asked_again_after_a_while(failure: Reply) -> None:
    desk = Desk(lambda key, post: failure if key == 5 and post < 4 else ANSWER, seconds=0.01, count=2000)
    assert desk.run() == Ended("done")
    assert desk.replies[5] is ANSWER
    gaps = [round(b - a, 1) for a, b in pairwise(desk.posts_of(5))]
    assert gaps == pytest.approx([0.5, 1.0, 2.0], abs=0.2)
    assert desk.queue.tally.retries == 3
    assert desk.unbilled_posts[5] == (0 if failure is LOST else 3)


@pytest.mark.parametrize("failure", [BROKEN, UNSENT, LOST], ids=["500", "unsent", "lost"])
def test_what_always_fails_is_settled_as_it_is_once_its_tries_are_over(failure: Reply) -> None:
    desk = Desk(lambda key, post: failure if key == 5 else ANSWER, seconds=0.01, count=2000, attempts=4)
    assert desk.run() == Ended("done")
    assert len(desk.posts_of(5)) == 4
    assert desk.replies[5] is failure
    assert (desk.queue.tally.answered, desk.queue.tally.errored) == (1999, 1)


def test_a_request_that_is_wrong_is_asked_once() -> None:
    desk = Desk(lambda key, post: BAD if key == 5 else ANSWER)
    assert desk.run() == Ended("done")
    assert (len(desk.posts_of(5)), desk.replies[5], desk.unbilled_posts[5]) == (1, BAD, 1)


def test_a_lost_answer_is_asked_again_only_where_its_owner_allows() -> None:
    desk = Desk(lambda key, post: LOST if key == 5 else ANSWER, ask_again=False)
    assert desk.run() == Ended("done")
    assert (len(desk.posts_of(5)), desk.replies[5], desk.unbilled_posts[5]) == (1, LOST, 0)


def test_a_429_costs_no_try() -> None:
    desk = Desk(lambda key, post: too_early(2.0) if key == 5 and post <= 20 else ANSWER, attempts=2)
    assert desk.run() == Ended("done")
    assert desk.replies[5] is ANSWER
    assert desk.queue.tally.refused_429 == 20


def test_after_a_429_everybody_waits_and_it_goes_first() -> None:
    desk = Desk(lambda key, post: too_early(20.0) if key == 5 and post == 1 else ANSWER, count=200, most=10)
    desk.run()
    known = desk.posts_of(5)[0] + 1.0
    after = [(at, key) for at, key, _ in desk.posts if at >= known]
    assert after[0][0] >= known + 20.0
    assert after[0][1] == 5


def test_a_retry_after_of_an_overload_is_honoured() -> None:
    told = Reply(Fate.REFUSED, AT, 529, error_type="overloaded_error", retry_after_seconds=30.0)
    desk = Desk(lambda key, post: told if key == 5 and post == 1 else ANSWER, seconds=0.01, count=100)
    desk.run()
    first, second = desk.posts_of(5)
    assert 30.0 <= second - first < 31.0


@pytest.mark.parametrize("status", [429, 529])
def test_a_pause_beyond_patience_ends_the_run_once_what_is_in_flight_is_settled(status: int) -> None:
    kind = {429: "rate_limit_error", 529: "overloaded_error"}[status]
    told = Reply(Fate.REFUSED, AT, status, error_type=kind, retry_after_seconds=3600.0)
    desk = Desk(lambda key, post: told if key == 5 else ANSWER, count=500)
    ended = desk.run()
    assert ended.reason == "paused"
    assert ended.resume_in_seconds == pytest.approx(3600, abs=3)
    assert set(desk.replies) == {key for _, key, _ in desk.posts} - {5}
    assert desk.closed


def test_a_pause_that_is_known_before_is_told_without_asking() -> None:
    desk = Desk()

    async def run() -> Ended:
        desk.queue.limiter.pause(now() + 600)
        return await desk.queue.run(desk.questions(), desk)

    assert in_virtual_time(run()) == Ended("paused", resume_in_seconds=600.0)
    assert desk.posts == []


@pytest.mark.parametrize("stop", [KEY_REFUSED, SPENT], ids=["key", "spend-cap"])
def test_a_stopped_account_ends_the_run_and_keeps_what_is_in_flight(stop: Reply) -> None:
    desk = Desk(lambda key, post: stop if key == 5 else ANSWER, count=500)
    ended = desk.run()
    assert ended == Ended("account", stop)
    assert set(desk.replies) == {key for _, key, _ in desk.posts} - {5}
    assert len(desk.posts) < 60
    assert desk.unbilled_posts[5] == 1


def test_stop_sends_nothing_more_and_settles_what_is_in_flight() -> None:
    desk = Desk(count=500)
    desk.on_settled = lambda key: desk.queue.stop() if key == 10 else None
    assert desk.run() == Ended("stopped")
    assert set(desk.replies) == {key for _, key, _ in desk.posts}
    assert 10 < len(desk.replies) < 100


def test_stop_before_the_run_holds_for_it_and_not_for_the_next() -> None:
    desk = Desk()
    desk.queue.stop()
    assert desk.run() == Ended("stopped")
    assert desk.posts == []
    assert desk.run() == Ended("done")


def test_stop_while_the_source_is_silent_ends_the_run() -> None:
    desk = Desk()

    async def silent() -> AsyncIterator[Question]:
        await asyncio.sleep(1e6)
        yield Question(0, b"", 1)

    async def run() -> Ended:
        asyncio.get_running_loop().call_later(5.0, desk.queue.stop)
        return await desk.queue.run(silent(), desk)

    assert in_virtual_time(run()) == Ended("stopped")


def test_cancelled_it_leaves_no_task() -> None:
    desk = Desk(count=10_000)

    async def run() -> None:
        running = asyncio.create_task(desk.queue.run(desk.questions(), desk))
        await asyncio.sleep(10.5)
        assert desk.flying > 0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert desk.flying == 0
        assert desk.closed

    in_virtual_time(run())  # which looks for tasks that are left


@pytest.mark.parametrize("where", ["settled", "sending", "unbilled", "ask", "source"])
def test_a_fault_of_ours_is_raised_once_what_is_in_flight_is_settled(where: str) -> None:
    class Disk(Desk):
        def fail(self, at: str, question: Question) -> None:
            if at == where and question.key == 5:
                raise OSError("no space left")

        async def ask(self, question: Question, timeout_seconds: float) -> Reply:
            self.fail("ask", question)
            return await super().ask(question, timeout_seconds)

        async def questions(self) -> AsyncIterator[Question]:
            async for question in super().questions():
                self.fail("source", question)
                yield question

        def sending(self, question: Question) -> None:
            self.fail("sending", question)

        def unbilled(self, question: Question) -> None:
            self.fail("unbilled", question)

        async def settled(self, question: Question, reply: Reply) -> None:
            self.fail("settled", question)
            await super().settled(question, reply)

    desk = Disk(lambda key, post: OVERLOADED if key == 5 else ANSWER, count=500, attempts=1)
    with pytest.raises(OSError, match="no space left"):
        desk.run()
    assert set(desk.replies) == {key for _, key, _ in desk.posts} - {5}
    assert len(desk.posts) < 100


def test_a_place_is_free_before_the_note_of_the_last_is_durable() -> None:
    desk = Desk(count=50, most=1, settle_seconds=0.5)
    desk.run()
    gaps = [b[0] - a[0] for a, b in pairwise(desk.posts)]
    assert max(gaps[5:]) < 1.2
    assert desk.most_flying == 1


def test_a_disk_that_is_slow_is_waited_for_in_the_end() -> None:
    desk = Desk(count=2000, seconds=0.01, settle_seconds=5.0)
    assert desk.run() == Ended("done")
    assert desk.most_settling <= SETTLING_MAX + desk.most_flying
    assert len(desk.replies) == 2000


@pytest.mark.parametrize("most", [1, 5, 60])
def test_what_is_read_ahead_is_bounded(most: int) -> None:
    desk = Desk(count=1000, most=most)
    desk.run()
    assert desk.most_flying == most
    assert desk.most_held <= most + READ_AHEAD + 1


def test_while_many_wait_for_a_retry_nothing_new_is_read() -> None:
    desk = Desk(lambda key, post: BROKEN if post <= 5 else ANSWER, count=600, most=10)
    assert desk.run() == Ended("done")
    assert len(desk.replies) == 600
    assert desk.most_held <= 10 + READ_AHEAD + 1 + desk.most_settling


def test_the_first_timeouts_are_long_and_then_follow_what_was_seen() -> None:
    desk = Desk(count=200, most=10)
    desk.run()
    timeouts = [timeout for _, _, timeout in desk.posts]
    assert timeouts[0] == 600.0
    assert timeouts[-1] == 60.0


def test_a_share_that_grows_is_used_at_once() -> None:
    slow = Rate(requests_per_minute=60, input_tokens_per_minute=10**9, output_tokens_per_minute=10**9)
    desk = Desk(count=40, rate=slow)
    desk.queue.limiter.share_changed(0.01)

    async def run() -> None:
        asyncio.get_running_loop().call_later(120.0, lambda: desk.queue.limiter.share_changed(1.0))
        await desk.queue.run(desk.questions(), desk)

    in_virtual_time(run())
    assert sum(at < 1120 for at, _, _ in desk.posts) <= 3
    assert desk.posts[-1][0] < 1120 + 60
