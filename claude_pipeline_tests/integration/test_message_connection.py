"""A connection that is refused, breaks, is silent or trickles: whether what was asked may have been paid."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import anthropic
import httpx2
import pytest

from claude_pipeline.lane.message_client import MessageClient
from claude_pipeline.lane.reply import Fate, Reply
from claude_pipeline.lane.waits import Waits
from claude_pipeline.simulator import Simulator
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.integration.message_case import BODY, KEY, PARAMS, ask_at, ask_raw, client_at
from claude_pipeline_tests.raw_server import always, read_request, response, serving, sockets_to


def test_a_refused_connection_left_nothing_behind() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reply = ask_at(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (reply.fate, reply.status, reply.error_type) == (Fate.UNSENT, None, "not_connected")
    assert reply.error_message == "cannot connect to 127.0.0.1; nothing was sent"


def test_a_name_that_nobody_knows_left_nothing_behind() -> None:
    reply = ask_at("https://no-such-host.invalid")
    assert (reply.fate, reply.error_type) == (Fate.UNSENT, "not_connected")


def test_a_handshake_that_fails_left_nothing_behind() -> None:
    async def scene() -> Reply:
        no_tls = always(b"HTTP/1.1 400 no TLS here\r\n\r\n")
        async with serving(no_tls, reads=False) as url, client_at(url.replace("http:", "https:")) as client:
            return await client.ask(PARAMS, 30)

    assert asyncio.run(scene()).fate is Fate.UNSENT


@pytest.mark.parametrize("kind", ["reset_before", "lost_after"])
def test_a_reset_after_the_post_may_have_been_paid(simulator: Simulator, kind: str) -> None:
    """The SDK's transport calls that a ConnectError too: by that name it would be asked and paid again."""
    simulator.faults.add(kind=kind, endpoint="messages", count=1)
    reply = ask_at(simulator.base_url)
    assert (reply.fate, reply.error_type) == (Fate.LOST, "connection_lost")
    assert simulator.invoice()["billed_requests"] == (kind == "lost_after")
    assert sum(simulator.invoice()["calls"]["messages"].values()) == 1


def test_a_connection_closed_without_a_word_may_have_been_paid() -> None:
    assert ask_raw(always(b"")).fate is Fate.LOST


def test_a_kept_connection_that_the_server_gave_up_may_have_been_paid() -> None:
    """The second POST goes out on it and finds it closed."""

    async def once_then_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(BODY))
        await writer.drain()
        await read_request(reader)

    async def scene() -> list[Fate]:
        async with serving(once_then_close) as base_url, client_at(base_url) as client:
            return [(await client.ask(PARAMS, 30)).fate for _ in range(2)]

    assert asyncio.run(scene()) == [Fate.ANSWERED, Fate.LOST]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(BODY[:30], length=len(BODY)), id="body-cut"),
        pytest.param(response(BODY)[:40], id="headers-cut"),
        pytest.param(b"garbage\r\n\r\n", id="no-http"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"typ\r\n",
            id="chunks-cut",
        ),
    ],
)  # fmt: skip
def test_half_an_answer_may_have_been_paid(answer: bytes) -> None:
    reply = ask_raw(always(answer))
    assert (reply.fate, reply.error_type) == (Fate.LOST, "connection_lost")


def test_silence_ends_in_time_and_may_have_been_paid(simulator: Simulator) -> None:
    simulator.faults.add(kind="hang_after", endpoint="messages", count=1, seconds=5)
    reply = ask_at(simulator.base_url, seconds=0.2)
    assert (reply.fate, reply.error_type) == (Fate.LOST, "no_answer_in_time")


def test_an_answer_that_trickles_ends_in_time_too() -> None:
    """Each byte comes within the time-out of a read; the whole does not."""

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in response(BODY):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    reply = ask_raw(trickle, seconds=0.3, waits=Waits(connect=0.2))
    assert (reply.fate, reply.error_type) == (Fate.LOST, "no_answer_in_time")


def test_more_connections_than_aiohttps_hundred_are_open_at_once() -> None:
    most = now = 0

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        while most < 150:
            await asyncio.sleep(0.01)
        writer.write(response(BODY))
        now -= 1

    async def scene() -> list[Reply]:
        async with serving(count) as base_url, client_at(base_url) as client:
            return await asyncio.gather(*(client.ask(PARAMS, 30) for _ in range(150)))

    assert {reply.fate for reply in asyncio.run(scene())} == {Fate.ANSWERED}
    assert most == 150


async def _abandon(client: MessageClient) -> None:
    tasks = [asyncio.create_task(client.ask(PARAMS, 30)) for _ in range(20)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _get_answers(client: MessageClient) -> None:
    await asyncio.gather(*(client.ask(PARAMS, 30) for _ in range(100)))


@pytest.mark.parametrize(
    ("leaving", "open_before"),
    [pytest.param(_get_answers, True, id="answered"), pytest.param(_abandon, False, id="abandoned-in-flight")],
)
def test_close_leaves_no_socket_and_no_task(
    simulator: Simulator, leaving: Callable[[MessageClient], Awaitable[None]], open_before: bool
) -> None:
    if not open_before:
        simulator.faults.add(kind="hang", endpoint="messages", seconds=5)

    async def scene() -> tuple[int, int, int]:
        async with client_at(simulator.base_url) as client:
            await leaving(client)
            during = sockets_to(simulator.base_url)
        return during, sockets_to(simulator.base_url), len(asyncio.all_tasks())

    during, after, tasks = asyncio.run(scene())
    assert (during > 0, after, tasks) == (open_before, 0, 1)


def test_another_transport_means_the_same() -> None:
    """Over httpx2's own transport, or without a socket, a connection that failed is one that failed."""

    async def scene(raised: Exception) -> Reply:
        def answer(request: httpx2.Request) -> httpx2.Response:
            raise raised

        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        sdk = anthropic.AsyncAnthropic(api_key=KEY, max_retries=0, http_client=http)
        async with MessageClient(lambda: NOW, connect=lambda: sdk) as client:
            return await client.ask(PARAMS, 30)

    fates = [
        asyncio.run(scene(error)).fate
        for error in (httpx2.ConnectError("no"), httpx2.ConnectTimeout("no"), httpx2.ReadError("no"), OSError("no"))
    ]
    assert fates == [Fate.UNSENT, Fate.UNSENT, Fate.LOST, Fate.LOST]
