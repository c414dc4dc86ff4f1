"""A server of a few lines, for what the simulator cannot do: it sends bytes, or does not. And who is connected to one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes, *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    """A response's bytes; `length` is what its header says."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def always(answer: bytes) -> Answer:
    """Gives everyone these bytes and closes."""

    async def give(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return give


async def read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """Headers and body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
    return headers, await reader.readexactly(int(headers.get("content-length", 0)))


@asynccontextmanager
async def serving(answer: Answer, *, reads: bool = True) -> AsyncIterator[str]:
    """The base URL of a server that reads one request a connection (unless `reads` is off) and answers by `answer`."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if reads:
                await read_request(reader)
            await answer(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def sockets_to(base_url: str) -> int:
    """This process's sockets whose other end is the server."""
    port = int(base_url.rpartition(":")[2])
    return sum(_port_of_peer(int(name)) == port for name in os.listdir("/proc/self/fd"))


def _port_of_peer(descriptor: int) -> int | None:
    try:
        own = os.dup(descriptor)
    except OSError:  # the one that listed the folder
        return None
    try:
        end = socket.socket(fileno=own)
    except OSError:  # no socket
        os.close(own)
        return None
    with end:
        try:
            return int(end.getpeername()[1]) if end.family == socket.AF_INET else None
        except OSError:  # not connected
            return None
