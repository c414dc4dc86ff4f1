"""The way from the product to the simulator without a socket: the SDK's transport, where faults strike.

The client is the product's own (`lane.access.connect`, with its retries and redirects as they are);
only its transport is replaced. Requests run through the simulator's ASGI application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import anthropic
import httpx2
import orjson

from claude_pipeline.lane.access import connect
from claude_pipeline.simulator import Options, create_app
from claude_pipeline_tests.simulation.faults import (
    LATE,
    LATE_SECONDS,
    LYING,
    OTHER_WORKSPACE,
    REFUSED,
    Order,
    fate_of_batch,
    pick,
)
from claude_pipeline_tests.simulation.scheduler import Scheduler

BATCHES = "/v1/messages/batches"
KEY = "simulator"
BASE_URL = "http://127.0.0.1:1"  # nothing listens there: no request may leave this process


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _sdk() -> anthropic.Anthropic:
    """The product's client; all worlds copy this one."""
    return connect({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": BASE_URL})


@dataclass
class Answer:
    """What came back of a request; `broken`: the connection ended before the answer did."""

    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: list[bytes]
    broken: bool


class Server:
    """The simulator's application, asked without a socket."""

    def __init__(self, options: Options) -> None:
        self._app = create_app(options)
        self.api = self._app.state.api

    def close(self) -> None:
        self.api.close()

    def ask(self, method: str, path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Answer:
        """One request, to its end."""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "",
            "headers": [(name.lower(), value) for name, value in headers], "client": None, "server": None,
        }  # fmt: skip
        answer = Answer(0, [], [], broken=False)
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(parts, {"type": "http.disconnect"})

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message.get("headers", ()))
            else:
                answer.pieces.append(message.get("body", b""))

        try:
            with patch("anyio.to_thread.run_sync", _here):
                if path.endswith("/results"):  # streams from a task group, which wants a loop
                    _loop().run_until_complete(self._app(scope, receive, send))
                else:
                    _at_once(self._app(scope, receive, send))
        except ConnectionResetError:
            answer.broken = True
        return answer

    def order(self, orders: Iterable[Order]) -> None:
        """Faults for the next call, and for no other."""
        self.api.faults.clear()
        for order in orders:
            self.api.faults.add(**{"endpoint": "", "count": 1, **order})


async def _here(work: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    """In this thread: the baton is not handed on, and a hop costs more than the work."""
    return work(*args)


def _at_once(steps: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never has to wait, without a loop."""
    try:
        steps.send(None)
    except StopIteration:
        return
    steps.close()
    raise AssertionError("the simulator waits in real time; no fault that does so may be ordered")


class _Pieces(httpx2.SyncByteStream):
    """A streamed answer: another process may run, or this one die, between two pieces."""

    def __init__(self, answer: Answer, between: Callable[[], None]) -> None:
        self._answer, self._between = answer, between

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._answer.pieces:
            half = len(piece) // 2
            yield piece[:half]
            self._between()
            yield piece[half:]
        if self._answer.broken:
            raise httpx2.RemoteProtocolError("peer closed the connection without sending the whole answer")


class Wire(httpx2.BaseTransport):
    """Carries each request of every simulated process to the server, or not."""

    def __init__(self, server: Server, scheduler: Scheduler, *, page_size: int, may_lie: Callable[[], bool]) -> None:
        self._server, self._scheduler = server, scheduler
        self._page_size, self._may_lie = page_size, may_lie
        self.pinned: Callable[[], bool] = lambda: True

    def client(self) -> anthropic.Anthropic:
        return _sdk().with_options(http_client=httpx2.Client(transport=self))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        scheduler, chance = self._scheduler, self._scheduler.chance
        endpoint = endpoint_of(request)
        scheduler.point(f"{endpoint}.before")
        assert isinstance(request.stream, httpx2.SyncByteStream)
        body = b"".join(request.stream)
        struck = None if scheduler.calm else pick(endpoint, scheduler.weather, chance)
        if struck is not None and not self._can(struck[0]):
            struck = None
        if struck is not None:
            scheduler.figures.faults[f"{endpoint}: {struck[0]}"] += 1
            scheduler.say(f"{endpoint} is struck by {struck[0]!r}")
        orders: list[Order] = [struck[1]] if struck is not None and struck[1] else []
        if endpoint == "create":
            orders = [*fate_of_batch(chance, calm=scheduler.calm), *orders]
        self._die_in_the_middle(endpoint, request, body, orders)
        if struck is not None and struck[0] == REFUSED:
            raise httpx2.ConnectError("connection refused")
        if struck is not None and struck[0] == LATE:
            self._later(request, body, orders)
            raise httpx2.ReadTimeout("timed out")
        answer = self._ask(request, body, orders)
        scheduler.point(f"{endpoint}.after")
        if not answer.status:
            raise httpx2.ReadError("connection reset by peer")
        if endpoint == "results":
            stream = _Pieces(answer, lambda: scheduler.point("results.middle"))
            return httpx2.Response(answer.status, headers=answer.headers, stream=stream)
        if answer.broken:
            raise httpx2.ReadError("connection reset by peer")
        return httpx2.Response(answer.status, headers=answer.headers, content=b"".join(answer.pieces))

    def _can(self, fault: str) -> bool:
        """Some lies nobody could see through; see `faults`."""
        if fault in LYING:
            return self._may_lie()
        return fault != OTHER_WORKSPACE or self.pinned()

    def _die_in_the_middle(self, endpoint: str, request: httpx2.Request, body: bytes, orders: list[Order]) -> None:
        """The process dies while it waits for the answer: the server may have heard it, or hear it later."""
        scheduler, chance = self._scheduler, self._scheduler.chance
        if scheduler.calm or chance.random() >= scheduler.weather.crash_call:
            return
        heard = chance.choice(("never", "now", "later"))
        if heard == "now":
            self._ask(request, body, orders)
        elif heard == "later":
            self._later(request, body, orders)
        scheduler.die(f"{endpoint}, heard {heard}")

    def _later(self, request: httpx2.Request, body: bytes, orders: list[Order]) -> None:
        delay = self._scheduler.chance.uniform(0.1, LATE_SECONDS)
        self._scheduler.at(delay, lambda: self._heard_late(request, body, orders))

    def _heard_late(self, request: httpx2.Request, body: bytes, orders: list[Order]) -> None:
        answer = self._ask(request, body, orders)
        self._scheduler.say(f"the server hears a late {endpoint_of(request)}, answers {answer.status}")

    def _ask(self, request: httpx2.Request, body: bytes, orders: list[Order]) -> Answer:
        self._server.order(orders)
        query = request.url.query
        if endpoint_of(request) == "list" and self._page_size:
            query = _smaller(query, self._page_size)
        return self._server.ask(request.method, request.url.path, query, request.headers.raw, body)


def endpoint_of(request: httpx2.Request) -> str:
    """What the simulator's faults call it."""
    rest = request.url.path.removeprefix(BATCHES).strip("/").split("/")
    if rest == [""]:
        return "create" if request.method == "POST" else "list"
    return rest[1] if len(rest) > 1 else "retrieve"


def _smaller(query: bytes, most: int) -> bytes:
    """A server may give fewer than were asked for, and say that there are more."""
    params = httpx2.QueryParams(query)
    return str(params.set("limit", min(int(params.get("limit", "20")), most))).encode()


def foreign_body(requests: int, name: str) -> bytes:
    """A create of somebody else in our workspace."""
    params = {
        "model": "claude-haiku-5-5",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": f"a question of {name}"}],
    }
    return orjson.dumps({"requests": [{"custom_id": f"{name}-{n}", "params": params} for n in range(requests)]})
