"""`claude_pipeline.realtime(requests)`: many questions from Python, at the pace of the account's limits.

The same limiter, queue and client as the lane of workloads, without journal and ledger: what this process
forgets is forgotten. Answers come as they are there, in any order; who reads them slowly holds back the
sending. Nothing is shared with other processes on the key but what the API's headers tell.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self

import orjson

from claude_pipeline.catalog import Catalog, Model, Tier, Usage, load, usd
from claude_pipeline.errors import AccountStopped, CatalogMissing, ClaudePipelineError, KeyRefused, UsageError, in_short
from claude_pipeline.lane.concurrency import MOST, Concurrency
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.message_client import MessageClient, json_object
from claude_pipeline.lane.queue import RequestQueue
from claude_pipeline.lane.reply import Fate, Question, Reply, TokenUse
from claude_pipeline.lane.waits import USUAL, Waits

READ_AHEAD = 256  # requests taken of the iterable and not yet in a pool's queue
LOST_MAX = 3  # answers of one request that may be lost before it is given up: each may have been paid
ATTEMPTS = 8

Params = Mapping[str, Any]
Requests = Iterable[Params | tuple[Any, Params]] | AsyncIterable[Params | tuple[Any, Params]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The end of one request.

    `cost_usd` is exact; None where it is not known: no usage, a model without a price, a lost answer (which
    may have been paid). `error_type` is the API's, or `connection_lost`, `not_connected` and the like.
    """

    index: int  # in the input, from 0
    key: Any  # as it was given beside the params, else None
    outcome: Literal["succeeded", "errored"]
    message: dict[str, Any] | None = field(repr=False)
    text: str | None
    error_type: str | None = None
    error_message: str | None = None
    usage: TokenUse | None
    cost_usd: Decimal | None
    tries: int  # POSTs
    seconds: float  # from the first of them to the end
    request_id: str | None


def realtime(
    requests: Requests,
    tier: str = "start",
    *,
    max_in_flight: int = MOST,
    attempts: int = ATTEMPTS,
    catalog: Catalog | None = None,
    waits: Waits = USUAL,
) -> Answers:
    """Ask Claude many questions, never faster than the account's tier allows; answers come as they are there.

        async for answer in claude_pipeline.realtime({"model": "claude-haiku-5-5", ...} for text in texts):
            print(answer.index, answer.text)

    `requests` gives params of the Messages API, or pairs of a key of yours and params; it is read as far as
    can be asked, so it may be endless, and asynchronous. `max_in_flight` and the limits are for each pool of
    models. `attempts` is how often one request may fail for a reason of its own. The key is that of
    `ANTHROPIC_API_KEY`. A pause that the API asks for is kept, however long; `waits` are the other waits.

    Also `async for ... in await realtime(...)`. `async with realtime(...) as answers` closes everything as soon
    as it is left; without it a loop that is broken off is closed when Python lets go of it.

    Raises:
        CatalogMissing: there is no such tier.
        UsageError: while iterating: an item is no params; what was sent before it is answered first.
        KeyRefused, AccountStopped: while iterating: nothing works until a person acts; likewise.
    """
    if attempts < 1:
        raise UsageError(f"attempts={attempts}: each request must be tried at least once")
    if max_in_flight < 1:
        raise UsageError(f"max_in_flight={max_in_flight}: at least one request must be allowed in flight")
    known = catalog or load()
    return Answers(_Call(requests, known.tier(tier), known, max_in_flight, attempts, waits))


class Answers:
    """What `realtime` gives: iterate over it once."""

    def __init__(self, call: _Call) -> None:
        self._generator = call.answers()

    def __aiter__(self) -> AsyncIterator[Answer]:
        return self._generator  # itself, not this object: a loop that is broken off lets go of it at once

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send nothing more, give up what is in flight (it may be billed), leave nothing open."""
        await self._generator.aclose()


@dataclass(slots=True, eq=False)
class _Item:
    """A request on its way; the key of its question."""

    index: int
    key: Any
    model: str
    posts: int = 0
    lost: int = 0
    first_at: float = 0.0  # loop time of its first POST


class _Feed:
    """The questions of one pool, read by its queue."""

    def __init__(self) -> None:
        self._questions: asyncio.Queue[Question | None] = asyncio.Queue(READ_AHEAD)
        self.put = self._questions.put

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Question:
        question = await self._questions.get()
        if question is None:
            raise StopAsyncIteration
        return question


class _Call:
    """One call: reads requests, gives each to the queue of its pool, hands over what comes back."""

    def __init__(
        self, requests: Requests, tier: Tier, catalog: Catalog, most: int, attempts: int, waits: Waits
    ) -> None:
        self._requests, self._tier, self._catalog = requests, tier, catalog
        self._most, self._attempts, self._waits = most, attempts, waits
        self._feeds: dict[str, _Feed] = {}
        self._queues: list[RequestQueue] = []
        self._error: BaseException | None = None
        self._stopped = False  # by the account

    async def answers(self) -> AsyncGenerator[Answer, None]:
        async with MessageClient(_utc_now, waits=self._waits) as client:
            self._client = client
            self._ready: asyncio.Queue[Answer | None] = asyncio.Queue(1)
            work = asyncio.create_task(self._work())
            try:
                while (answer := await self._ready.get()) is not None:
                    yield answer
            finally:
                work.cancel()
                await asyncio.wait({work})
        if self._error is not None:
            raise self._error

    async def _work(self) -> None:
        """Everything but handing over; ends with None in the hands of who reads."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._reader = self._group.create_task(self._read())
        except BaseExceptionGroup as faults:
            self._error = self._error or faults.exceptions[0]
        await self._ready.put(None)

    async def _read(self) -> None:
        index = 0
        try:
            async with aclosing(_each(self._requests)) as items:
                async for item in items:
                    question, pool = self._question(index, item)
                    await self._feed(pool, _item(question).model).put(question)
                    index += 1
        except Exception as error:  # of the caller's iterable, or its items: told when what was read is answered
            self._error = error
        for feed in self._feeds.values():
            await feed.put(None)

    def _question(self, index: int, item: Any) -> tuple[Question, str]:
        key, params = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        if not isinstance(params, Mapping):
            raise UsageError(f"request {index} is {type(params).__name__}; give params of the Messages API as a dict")
        model, most = params.get("model"), params.get("max_tokens")
        if not isinstance(model, str):
            raise UsageError(
                f"request {index} names no model; give params of the Messages API, with model and max_tokens"
            )
        if params.get("stream"):
            raise UsageError(f"request {index} asks for a stream; answers come whole here: leave stream out")
        try:
            body = orjson.dumps(dict(params))
        except TypeError as error:
            raise UsageError(f"request {index} is no JSON: {error}") from None
        max_tokens = most if isinstance(most, int) and most > 0 else 1
        return Question(_Item(index, key, model), body, max_tokens), self._pool(model)

    def _pool(self, model: str) -> str:
        """Models of one pool share their limits; one that the catalogue does not know is alone."""
        known = self._model(model)
        return model if known is None else known.rate_pool or known.id

    def _model(self, name: str) -> Model | None:
        try:
            return self._catalog.model(name)
        except CatalogMissing:
            return None

    def _feed(self, pool: str, model: str) -> _Feed:
        if pool not in self._feeds:
            known = self._model(model)
            limiter = Limiter(None if known is None else self._tier.rate(known))
            queue = RequestQueue(
                self._ask,
                limiter,
                Concurrency(self._most, self._waits),
                attempts=self._attempts,
                patience_seconds=math.inf,
                waits=self._waits,
            )
            feed = self._feeds[pool] = _Feed()
            self._queues.append(queue)
            self._group.create_task(self._ask_pool(queue, feed))
        return self._feeds[pool]

    async def _ask_pool(self, queue: RequestQueue, feed: _Feed) -> None:
        if self._stopped:
            return
        ended = await queue.run(feed, self)
        if ended.reason == "account" and ended.reply is not None:
            self._stopped, self._error = True, _stop_of(ended.reply)
            self._reader.cancel()
            for other in self._queues:
                other.stop()

    async def _ask(self, question: Question, timeout_seconds: float) -> Reply:
        return await self._client.ask(question.params, timeout_seconds)

    # What the queues tell: `queue.Sink`.

    def sending(self, question: Question) -> None:
        item = _item(question)
        item.posts += 1
        if item.posts == 1:
            item.first_at = asyncio.get_running_loop().time()

    def unbilled(self, question: Question) -> None:
        """Nothing is kept of it."""

    def may_ask_again(self, question: Question) -> bool:
        item = _item(question)
        item.lost += 1
        return item.lost < LOST_MAX

    async def settled(self, question: Question, reply: Reply) -> None:
        item = _item(question)
        seconds = asyncio.get_running_loop().time() - item.first_at
        await self._ready.put(self._answer(item, reply, seconds))

    def _answer(self, item: _Item, reply: Reply, seconds: float) -> Answer:
        message = json_object(reply.body) if reply.fate is Fate.ANSWERED else None
        refused = reply.fate in (Fate.REFUSED, Fate.UNSENT)
        return Answer(
            index=item.index,
            key=item.key,
            outcome="errored" if message is None else "succeeded",
            message=message,
            text=None if message is None else _text(message),
            error_type=reply.error_type or None,
            error_message=reply.error_message or None,
            usage=reply.usage,
            cost_usd=self._cost(item.model, message, reply.at)
            if message is not None
            else Decimal(0)
            if refused
            else None,
            tries=item.posts,
            seconds=seconds,
            request_id=reply.request_id,
        )

    def _cost(self, asked: str, message: Mapping[str, Any], at: datetime) -> Decimal | None:
        """By the answer's model; where the catalogue does not know it, the one that was asked. Never guessed."""
        usage = message["usage"] if isinstance(message.get("usage"), Mapping) else {}
        fresh, out = usage.get("input_tokens"), usage.get("output_tokens")
        if not isinstance(fresh, int) or not isinstance(out, int):
            return None
        writes = usage.get("cache_creation_input_tokens") or 0
        hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
        used = Usage(fresh, out, writes - hour, hour, usage.get("cache_read_input_tokens") or 0)
        for name in (str(message.get("model")), asked):
            with suppress(CatalogMissing):
                price = self._catalog.price(name, at)
                return usd(price.cost_units(used, lane="realtime", geo=usage.get("inference_geo")))
        return None


async def _each(requests: Requests) -> AsyncGenerator[Any, None]:
    if not isinstance(requests, AsyncIterable):
        for item in requests:
            yield item
        return
    items = aiter(requests)
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _item(question: Question) -> _Item:
    assert isinstance(question.key, _Item)
    return question.key


def _text(message: Mapping[str, Any]) -> str | None:
    """Of all text blocks: with thinking on, the first block is none."""
    blocks = [block for block in message["content"] if isinstance(block, dict) and block.get("type") == "text"]
    return "".join(str(block.get("text") or "") for block in blocks) if blocks else None


def _stop_of(reply: Reply) -> ClaudePipelineError:
    said = in_short(reply.error_message)
    if reply.status in (401, 403):
        return KeyRefused(f"the API refused the key ({reply.status}: {said}); check ANTHROPIC_API_KEY")
    return AccountStopped(f"the API stops this account ({reply.status}: {said})")


def _utc_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  a library call is an edge
