"""`claude_pipeline.realtime`: from a list of questions to answers, and nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import claude_pipeline
from claude_pipeline.catalog import Catalog, load
from claude_pipeline.errors import AccountStopped, CatalogMissing, ClaudePipelineError, KeyRefused, UsageError
from claude_pipeline.lane.call import LOST_MAX, READ_AHEAD, Answer
from claude_pipeline.lane.queue import READ_AHEAD as QUEUE_AHEAD
from claude_pipeline.lane.queue import SETTLING_MAX
from claude_pipeline.lane.waits import Waits
from claude_pipeline.simulator import Options, Simulator, running
from claude_pipeline_tests.integration.simulator.case import params
from claude_pipeline_tests.raw_server import sockets_to

FAST = """
tiers:
  custom:
    rates:
      haiku: {requests_per_minute: 100000, input_tokens_per_minute: 100000000, output_tokens_per_minute: 20000000}
      sonnet: {requests_per_minute: 100000, input_tokens_per_minute: 100000000, output_tokens_per_minute: 20000000}
"""


@pytest.fixture(scope="module")
def simulator_server() -> Iterator[Simulator]:
    """With limits that do not make a test wait."""
    with running(Options(tier="custom", seed=7)) as simulator:
        yield simulator


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_text(FAST)
    return load(path)


@pytest.fixture(autouse=True)
def _access(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", simulator.api_key)


@pytest.fixture
def ask(catalog: Catalog) -> Callable[..., Any]:
    def realtime(requests: Any, **how: Any) -> Any:
        return claude_pipeline.realtime(requests, "custom", catalog=catalog, **how)

    return realtime


def questions(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [params(f"text {n}", **changes) for n in range(count)]


async def listed(answers: Any) -> list[Answer]:
    return [answer async for answer in answers]


def all_of(answers: Any) -> list[Answer]:
    """By index."""
    return sorted(asyncio.run(listed(answers)), key=lambda answer: answer.index)


def calls(simulator: Simulator) -> int:
    return sum(simulator.invoice()["calls"].get("messages", {}).values())


def test_every_question_is_answered_once_and_costs_what_is_billed(
    ask: Callable[..., Any], simulator: Simulator
) -> None:
    asked = questions(30) + questions(10, model="claude-sonnet-5-5")
    found = all_of(ask((f"k{n}", one) for n, one in enumerate(asked)))
    assert [(a.index, a.key, a.outcome, a.tries) for a in found] == [(n, f"k{n}", "succeeded", 1) for n in range(40)]
    for answer in found:
        assert answer.message is not None
        assert answer.text == answer.message["content"][-1]["text"]
        assert answer.usage is not None
        assert answer.request_id is not None
        assert answer.seconds > 0
    invoice = simulator.invoice()
    assert (invoice["billed_requests"], invoice["billed_twice"]) == (40, 0)
    assert sum((a.cost_usd or Decimal(0) for a in found), Decimal(0)) == Decimal(invoice["total_usd"])


async def _by_for(answers: Any) -> list[Answer]:
    return [answer async for answer in answers]


async def _by_await(answers: Any) -> list[Answer]:
    return [answer async for answer in await answers]


async def _by_with(answers: Any) -> list[Answer]:
    async with answers as them:
        return [answer async for answer in them]


@pytest.mark.parametrize("way", [_by_for, _by_await, _by_with])
@pytest.mark.parametrize("source", ["list", "generator", "asynchronous"])
def test_it_may_be_iterated_awaited_or_entered(ask: Callable[..., Any], way: Any, source: str) -> None:
    async def stream() -> AsyncIterator[dict[str, Any]]:
        for one in questions(5):
            await asyncio.sleep(0)
            yield one

    given: dict[str, Callable[[], Any]] = {
        "list": lambda: questions(5), "generator": lambda: iter(questions(5)), "asynchronous": stream,
    }  # fmt: skip
    found = asyncio.run(way(ask(given[source]())))
    assert sorted(answer.index for answer in found) == list(range(5))


def test_nothing_to_ask_ends_at_once(ask: Callable[..., Any]) -> None:
    assert all_of(ask([])) == []


def test_who_reads_slowly_holds_back_the_sending(ask: Callable[..., Any], simulator: Simulator) -> None:
    taken = itertools.count()

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield params(f"text {next(taken)}")

    async def scene() -> tuple[int, int]:
        async with ask(endless(), max_in_flight=5) as answers:
            async for _ in answers:
                before = -1
                while before != (before := calls(simulator)):
                    await asyncio.sleep(0.5)
                return before, next(taken)
        raise AssertionError("no answer")

    sent, read = asyncio.run(scene())
    assert sent <= SETTLING_MAX + 5 + 2
    assert read <= sent + READ_AHEAD + QUEUE_AHEAD + 5 + 2


@pytest.mark.parametrize("way", ["break", "error", "cancel", "with"])
def test_leaving_early_leaves_no_task_and_no_socket(ask: Callable[..., Any], simulator: Simulator, way: str) -> None:
    simulator.faults.add(kind="hang", endpoint="messages", after=20, seconds=5)
    closed = []

    async def endless() -> AsyncIterator[dict[str, Any]]:
        try:
            for n in itertools.count():
                yield params(f"text {n}")
        finally:
            closed.append(True)

    async def leave() -> None:
        if way == "with":
            async with ask(endless()) as answers:
                async for _ in answers:
                    return
        async for answer in ask(endless()):
            if way == "break":
                break
            if way == "error":
                raise ZeroDivisionError
            assert answer

    async def scene() -> tuple[int, int]:
        task = asyncio.create_task(leave())
        if way == "cancel":
            await asyncio.sleep(1)
            task.cancel()
        with suppress(ZeroDivisionError, asyncio.CancelledError):
            await task
        del task
        if way != "with":
            await asyncio.sleep(0.1)  # Python lets go of the loop's iterator, and the loop closes it
        return len(asyncio.all_tasks()), sockets_to(simulator.base_url)

    assert asyncio.run(scene()) == (1, 0)
    assert closed == [True]


BAD: list[Any] = [
    pytest.param("hello", "request 2 is str", id="text"),
    pytest.param({"max_tokens": 5}, "request 2 names no model", id="no-model"),
    pytest.param(params(stream=True), "request 2 asks for a stream", id="stream"),
    pytest.param(params(metadata={"user_id": object()}), "request 2 is no JSON", id="no-json"),
    pytest.param(("a", "b", "c"), "request 2 is tuple", id="three"),
]


@pytest.mark.parametrize(("item", "sentence"), BAD)
def test_what_is_no_request_is_told_when_what_was_sent_is_answered(
    ask: Callable[..., Any], item: Any, sentence: str
) -> None:
    found = []

    async def scene() -> None:
        async for answer in ask([*questions(2), item, *questions(3)]):
            found.append(answer.index)

    with pytest.raises(UsageError, match=sentence):
        asyncio.run(scene())
    assert sorted(found) == [0, 1]


def test_an_error_of_the_callers_own_iterable_is_raised_as_it_is(ask: Callable[..., Any]) -> None:
    def failing() -> Iterable[dict[str, Any]]:
        yield params("one")
        raise OSError("the file is gone")

    found = []

    async def scene() -> None:
        async for answer in ask(failing()):
            found.append(answer.index)

    with pytest.raises(OSError, match="the file is gone"):
        asyncio.run(scene())
    assert found == [0]


def test_one_refused_request_costs_no_other_its_answer(ask: Callable[..., Any], simulator: Simulator) -> None:
    simulator.faults.add(kind=400, endpoint="messages", count=1)
    found = all_of(ask(questions(10)))
    refused = [a for a in found if a.outcome == "errored"]
    assert [(a.error_type, a.cost_usd, a.message, a.text, a.tries) for a in refused] == [
        ("invalid_request_error", Decimal(0), None, None, 1)
    ]
    assert len(found) == 10


def test_a_failure_is_tried_again_as_often_as_was_asked(ask: Callable[..., Any], simulator: Simulator) -> None:
    simulator.faults.add(kind=500, endpoint="messages", count=1)
    assert {a.outcome for a in all_of(ask(questions(3)))} == {"succeeded"}
    simulator.faults.add(kind=500, endpoint="messages", count=1)
    (answer,) = all_of(ask(questions(1), attempts=1))
    assert (answer.outcome, answer.error_type, answer.tries) == ("errored", "api_error", 1)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        pytest.param({"kind": 401}, KeyRefused, id="key"),
        pytest.param({"kind": 402}, AccountStopped, id="payment"),
        pytest.param({"kind": "429", "error_code": "enforced_spend_limit_reached"}, AccountStopped, id="spend-cap"),
    ],
)
def test_a_stop_of_the_account_ends_the_call_after_what_was_paid(
    ask: Callable[..., Any], simulator: Simulator, rule: dict[str, Any], error: type[ClaudePipelineError]
) -> None:
    simulator.faults.add(endpoint="messages", after=20, **rule)
    asked = itertools.chain.from_iterable(zip(questions(500), questions(500, model="claude-sonnet-5-5"), strict=True))
    found = []

    async def scene() -> None:
        async for answer in ask(asked):
            found.append(answer)

    with pytest.raises(error) as stopped:
        asyncio.run(scene())
    assert "simulator" in str(stopped.value) or stopped.value.exit_code == 3
    assert {a.outcome for a in found} == {"succeeded"}
    assert len(found) == simulator.invoice()["billed_requests"] == 20


def test_a_missing_key_is_told_at_the_first_answer(ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(KeyRefused, match="ANTHROPIC_API_KEY"):
        all_of(ask(questions(1)))


def test_wrong_arguments_are_told_at_once() -> None:
    with pytest.raises(CatalogMissing, match="tier"):
        claude_pipeline.realtime([], "gold")
    with pytest.raises(UsageError, match="attempts"):
        claude_pipeline.realtime([], attempts=0)
    with pytest.raises(UsageError, match="max_in_flight"):
        claude_pipeline.realtime([], max_in_flight=0)


def test_a_lost_answer_is_asked_again_and_given_up_before_it_is_paid_too_often(
    ask: Callable[..., Any], simulator: Simulator
) -> None:
    waits = Waits(storm=0.01)
    simulator.faults.add(kind="lost_after", endpoint="messages", count=1)
    assert [(a.outcome, a.tries) for a in all_of(ask(questions(1), waits=waits))] == [("succeeded", 2)]
    simulator.faults.add(kind="lost_after", endpoint="messages")
    (answer,) = all_of(ask(questions(1), waits=waits))
    assert (answer.error_type, answer.tries, answer.cost_usd) == ("connection_lost", LOST_MAX, None)


def test_a_model_that_the_catalogue_does_not_know_is_asked_carefully_and_without_a_price(
    ask: Callable[..., Any], simulator: Simulator
) -> None:
    (answer,) = all_of(ask([params(model="claude-of-tomorrow")]))
    assert (answer.outcome, answer.error_type, answer.cost_usd) == ("errored", "not_found_error", Decimal(0))
