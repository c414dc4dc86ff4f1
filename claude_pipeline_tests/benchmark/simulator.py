"""How fast the simulator is, and how much memory it takes: one batch accepted, answered and served, then messages.

    python -m claude_pipeline_tests.benchmark.simulator [--requests 100000] [--request-bytes 2500] [--messages 2000]

The simulator runs as a process of its own, as a user starts it; the client here does as little as it can.
`peak` is the server process's VmHWM after each step (Linux only; elsewhere 0).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_BATCHES = "/v1/messages/batches"
_HEADERS = {"x-api-key": "benchmark", "anthropic-version": "2023-06-01", "content-type": "application/json"}
_BATCH_SECONDS = 60  # simulated
_CONNECTIONS = 8  # of the messages step
_PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `size_bytes` None where bytes are not the point."""

    step: str
    seconds: float
    requests: int
    size_bytes: int | None
    peak_bytes: int

    def line(self) -> str:
        rate = f"{self.size_bytes / self.seconds / 1e6:8,.0f}" if self.size_bytes is not None else " " * 8
        return f"{self.step:<26}{self.seconds:8.2f}{self.requests / self.seconds:12,.0f}{rate}{self.peak_bytes / 1e6:10,.0f}"


@dataclass(frozen=True, slots=True)
class Server:
    """A simulator in a process of its own."""

    host: str
    port: int
    pid: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=_PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: bytes | IO[bytes] | None = None, **headers: str) -> Any:
        connection = self.connect()
        connection.request(method, path, body, _HEADERS | headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return json.loads(content)

    def peak_bytes(self) -> int:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def started() -> Iterator[Server]:
    """The simulator under a tier that holds nobody up, with its clock at rest."""
    command = [sys.executable, "-m", "claude_pipeline.simulator", "--port", "0", "--tier", "custom", "--paused"]
    command += ["--batch-seconds", str(_BATCH_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            banner = "".join(process.stdout.readline() for _ in range(4))
            host, _, port = banner.partition("ANTHROPIC_BASE_URL=http://")[2].split()[0].rpartition(":")
            yield Server(host, int(port), process.pid)
        finally:
            process.send_signal(signal.SIGINT)


def measure(requests: int, request_bytes: int, messages: int) -> Iterator[Figure]:
    """Run the steps, each yielded when it is done."""
    with started() as server:
        yield from _batch(server, requests, request_bytes)
        seconds = _messages(server, messages)
        yield Figure(f"messages, {_CONNECTIONS} at once", seconds, messages, None, server.peak_bytes())


def _batch(server: Server, requests: int, request_bytes: int) -> Iterator[Figure]:
    with tempfile.TemporaryFile() as body:
        _write_body(body, requests, request_bytes)
        size_bytes = body.tell()
        body.seek(0)
        since = time.perf_counter()
        batch = server.ask("POST", _BATCHES, body, **{"content-length": str(size_bytes)})
        yield Figure("batch accepted", time.perf_counter() - since, requests, size_bytes, server.peak_bytes())
    since = time.perf_counter()
    server.ask("POST", "/_simulator/clock", json.dumps({"advance_seconds": _BATCH_SECONDS}).encode())
    while server.ask("GET", f"{_BATCHES}/{batch['id']}")["processing_status"] != "ended":
        pass  # each look waits some seconds for the answers
    yield Figure("answered after that", time.perf_counter() - since, requests, size_bytes, server.peak_bytes())
    since = time.perf_counter()
    lines, served_bytes = _download(server, batch["id"])
    if lines != requests:
        raise RuntimeError(f"{lines} results for {requests} requests")
    yield Figure("results served", time.perf_counter() - since, lines, served_bytes, server.peak_bytes())


def _write_body(body: IO[bytes], requests: int, request_bytes: int) -> None:
    body.write(b'{"requests": [')
    for number in range(requests):
        entry = {"custom_id": f"r{number}", "params": _params(f"question {number} ")}
        fill = "x" * (request_bytes - len(json.dumps(entry)) - 2)
        entry["params"] = _params(f"question {number} {fill}")
        body.write((b", " if number else b"") + json.dumps(entry).encode())
    body.write(b"]}")


def _params(text: str) -> dict[str, Any]:
    return {"model": "claude-haiku-5-5", "max_tokens": 256, "messages": [{"role": "user", "content": text}]}


def _download(server: Server, batch_id: str) -> tuple[int, int]:
    connection = server.connect()
    connection.request("GET", f"{_BATCHES}/{batch_id}/results", headers=_HEADERS)
    answer = connection.getresponse()
    lines = size_bytes = 0
    while part := answer.read(1 << 18):
        lines += part.count(b"\n")
        size_bytes += len(part)
    connection.close()
    return lines, size_bytes


def _messages(server: Server, messages: int) -> float:
    """Seconds that so many messages take over a few connections that stay open."""
    failed: list[int] = []

    def talk(first: int) -> None:
        connection = server.connect()
        for number in range(first, messages, _CONNECTIONS):
            connection.request("POST", "/v1/messages", json.dumps(_params(f"message {number}")), _HEADERS)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=talk, args=(first,)) for first in range(_CONNECTIONS)]
    since = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"{len(failed)} messages failed, the first with {failed[0]}")
    return time.perf_counter() - since


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the simulator.")
    parser.add_argument("--requests", type=int, default=100_000, help="of the batch (%(default)s)")
    parser.add_argument("--request-bytes", type=int, default=2_500, help="of each of them (%(default)s)")
    parser.add_argument("--messages", type=int, default=2_000, help="of the last step (%(default)s)")
    given = parser.parse_args(argv)
    print(f"{given.requests:,} requests of {given.request_bytes:,} bytes; {os.cpu_count()} cores, server and client")
    print(f"{'step':<26}{'seconds':>8}{'requests/s':>12}{'MB/s':>8}{'peak MB':>10}")
    for figure in measure(given.requests, given.request_bytes, given.messages):
        print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
