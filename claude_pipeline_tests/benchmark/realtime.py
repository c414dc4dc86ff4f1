"""CPU per request of the real-time lane against the bare asynchronous SDK over the same transport.

    python -m claude_pipeline_tests.benchmark.realtime [--requests 2000] [--pairs 5] [--in-flight 50 200]

Ours is all of the lane: queue, limiter, client, and a journal on the disk. Theirs is what anybody would write:
`messages.create(**params)` under a semaphore, every answer dropped. Both ask the same server, a few lines in a
process of its own; what counts is the CPU time of this process, in pairs run in turn, the median of their ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import anthropic

from claude_pipeline.catalog import Rate
from claude_pipeline.lane.access import connect_async
from claude_pipeline.lane.concurrency import Concurrency
from claude_pipeline.lane.journal import Journal
from claude_pipeline.lane.limiter import Limiter
from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.queue import RequestQueue
from claude_pipeline.lane.reply import Question, Reply

BUDGET = 1.3  # what the lane may cost against the bare SDK
PROMPT = "Is this review about delivery? " + "The parcel came late, and the box was wet. " * 30
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 256, "messages": [{"role": "user", "content": PROMPT}]}
MESSAGE = {
    "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "stop_sequence": None,
    "content": [{"type": "text", "text": "It is about delivery. " * 20}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 400, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 90,
              "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
              "service_tier": "standard"},
}  # fmt: skip
PLENTY = 10**11  # per minute: the limiter works, and never has to wait
RATE = Rate(requests_per_minute=PLENTY, input_tokens_per_minute=PLENTY, output_tokens_per_minute=PLENTY)


def answer_bytes() -> bytes:
    """An answer with the headers that the API sends."""
    body = json.dumps(MESSAGE).encode()
    limits = "".join(
        f"anthropic-ratelimit-{kind}-limit: {PLENTY}\r\nanthropic-ratelimit-{kind}-remaining: {PLENTY - 1000}\r\n"
        f"anthropic-ratelimit-{kind}-reset: 2026-11-22T14:30:01Z\r\n"
        for kind in ("requests", "input-tokens", "output-tokens", "tokens")
    )
    head = (
        "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 14:30:00 GMT\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nrequest-id: req_011CSHoEeqs5C35K2UUqR7Fy\r\n"
        f"anthropic-organization-id: 6ad9f2ab-7dfb-4d7c-8a5a-5c9a9d5fd6d4\r\n{limits}server: stub\r\n\r\n"
    )
    return head.encode() + body


class _Stub(asyncio.Protocol):
    """Answers each request of a connection with the same bytes."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            start = self._data.lower().find(b"content-length:") + len(b"content-length:")
            size = end + 4 + int(self._data[start : self._data.find(b"\r\n", start)])
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            self._transport.write(self.answer)


def _serve(told: Connection) -> None:
    async def main() -> None:
        _Stub.answer = answer_bytes()
        server = await asyncio.get_running_loop().create_server(_Stub, "127.0.0.1", 0, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def stub() -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


class Keeper:
    """The queue's sink over one journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.answered = 0

    def sending(self, question: Question) -> None:
        self._journal.sending(question.key)  # type: ignore[arg-type]  # a position

    def unbilled(self, question: Question) -> None:
        self._journal.unbilled(question.key)  # type: ignore[arg-type]

    def may_ask_again(self, question: Question) -> bool:
        return False

    async def settled(self, question: Question, reply: Reply) -> None:
        await self._journal.settled(question.key, reply)  # type: ignore[arg-type]
        self.answered += reply.usage is not None


def grown(in_flight: int) -> Concurrency:
    """A concurrency that has grown already, as it has after the first seconds of an hour."""
    concurrency = Concurrency(in_flight)
    for step in range(20):
        concurrency.used_up(in_flight, -1000.0 + 10.0 * step)
    return concurrency


async def ours(base_url: str, requests: int, in_flight: int) -> int:
    """Ask so many questions through the lane; returns how many were answered."""
    params = json.dumps(PARAMS).encode()

    async def questions() -> AsyncIterator[Question]:
        for position in range(requests):
            yield Question(position, params, 256)

    def connect() -> anthropic.AsyncAnthropic:
        return connect_async({"ANTHROPIC_API_KEY": "stub", "ANTHROPIC_BASE_URL": base_url})

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.open(Path(folder, "journal"), "r1-0001", requests)
        keeper = Keeper(journal)
        async with MessageClient(lambda: datetime.now(UTC), connect=connect) as client:

            async def ask(question: Question, timeout_seconds: float) -> Reply:
                return await client.ask(question.params, timeout_seconds)

            ended = await RequestQueue(ask, Limiter(RATE), grown(in_flight)).run(questions(), keeper)
        journal.close()
    assert ended.reason == "done"
    return keeper.answered


async def bare(base_url: str, requests: int, in_flight: int) -> int:
    """The same with the SDK alone."""
    gate = asyncio.Semaphore(in_flight)
    http = anthropic.DefaultAioHttpClient()
    async with anthropic.AsyncAnthropic(api_key="stub", base_url=base_url, http_client=http) as client:

        async def one() -> int:
            async with gate:
                message = await client.messages.create(**PARAMS)  # type: ignore[call-overload]
                return int(message.usage.output_tokens > 0)

        return sum(await asyncio.gather(*(one() for _ in range(requests))))


Way = Callable[[str, int, int], Awaitable[int]]


def cpu_seconds(way: Way, base_url: str, requests: int, in_flight: int) -> float:
    """CPU of this process for one request, once connections are open and code is warm."""

    async def measured() -> float:
        gc.collect()
        before = time.process_time()
        assert await way(base_url, requests, in_flight) == requests
        return (time.process_time() - before) / requests

    return asyncio.run(measured())


def ratios(base_url: str, *, requests: int, pairs: int, in_flight: int) -> list[tuple[float, float]]:
    """(ours, bare) CPU seconds for a request, pair by pair."""
    for way in (ours, bare):
        cpu_seconds(way, base_url, min(requests, 200), in_flight)
    found: list[tuple[float, float]] = []
    for pair in range(pairs):
        order: list[Way] = [ours, bare] if pair % 2 == 0 else [bare, ours]
        cost = {way: cpu_seconds(way, base_url, requests, in_flight) for way in order}
        found.append((cost[ours], cost[bare]))
    return found


def main(arguments: list[str] | None = None) -> dict[int, float]:
    """Print the figures; returns the median ratio by requests in flight."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[50, 200])
    chosen = parser.parse_args(arguments)
    medians: dict[int, float] = {}
    with stub() as base_url:
        for in_flight in chosen.in_flight:
            pairs = ratios(base_url, requests=chosen.requests, pairs=chosen.pairs, in_flight=in_flight)
            mine, theirs = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
            medians[in_flight] = statistics.median(a / b for a, b in pairs)
            print(
                f"{in_flight:4} in flight: lane {mine:6.0f} us a request, bare SDK {theirs:6.0f} us, "
                f"ratio {medians[in_flight]:.2f} (budget {BUDGET})"
            )
    return medians


if __name__ == "__main__":
    main()
