"""A stand-in for the Message Batches API, in a process of its own, that costs as little as it can.

A batch has ended as soon as it is accepted; each request has an answer of some 60 words. It checks nothing:
the simulator does that. What it answers is the same for every client, so that clients can be compared.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from random import Random
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

BATCHES = "/v1/messages/batches"
ANSWERS = 997  # different ones; a prime, so that they do not run in step with chunks
OUTPUT_TOKENS = 90
_CUSTOM_ID = re.compile(rb'"custom_id": ?"([A-Za-z0-9_-]{1,64})"')
_WORDS = (
    "the",
    "parcel",
    "came",
    "late",
    "and",
    "box",
    "was",
    "wet",
    "but",
    "driver",
    "kind",
    "so",
    "I",
    "would",
    "order",
    "again",
)


def result_lines() -> list[bytes]:
    """The lines of results, each with a place for the custom_id."""
    chance, lines = Random(7), []
    for number in range(ANSWERS):
        message = {
            "id": f"msg_{number:024d}", "type": "message", "role": "assistant", "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": " ".join(chance.choices(_WORDS, k=60))}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 400 + number % 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                      "output_tokens": OUTPUT_TOKENS, "service_tier": "batch",
                      "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}},
        }  # fmt: skip
        result = json.dumps({"type": "succeeded", "message": message}, separators=(",", ":"))
        lines.append(b'{"custom_id":"%s","result":' + result.encode() + b"}\n")
    return lines


class _Handler(BaseHTTPRequestHandler):
    """One connection; what was accepted is shared by all."""

    protocol_version = "HTTP/1.1"
    batches: dict[str, list[bytes]] = {}  # noqa: RUF012  id -> custom_ids, oldest first; the process serves one client
    documents: dict[str, dict[str, object]] = {}  # noqa: RUF012
    accepting = threading.Lock()
    lines = result_lines()

    def do_POST(self) -> None:
        ids = _CUSTOM_ID.findall(self.rfile.read(int(self.headers["content-length"])))
        with self.accepting:
            batch_id = f"msgbatch_{len(self.batches):024d}"
            self.batches[batch_id] = ids
            self.documents[batch_id] = self._ended(batch_id, len(ids))
        self._send_json(self.documents[batch_id])

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, _, batch_id = url.path.removesuffix("/results").partition(f"{BATCHES}/")
        if not batch_id:
            self._send_json(self._page(parse_qs(url.query)))
        elif url.path.endswith("/results"):
            ids, lines = self.batches[batch_id], self.lines
            self._send(
                b"".join(lines[n % ANSWERS] % custom_id for n, custom_id in enumerate(ids)), "application/binary"
            )
        else:
            self._send_json(self.documents[batch_id])

    def _ended(self, batch_id: str, requests: int) -> dict[str, object]:
        now = datetime.now(UTC)
        return {
            "id": batch_id, "type": "message_batch", "processing_status": "ended",
            "request_counts": {"processing": 0, "succeeded": requests, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": now.isoformat(), "ended_at": now.isoformat(), "expires_at": (now + timedelta(hours=24)).isoformat(),
            "cancel_initiated_at": None, "archived_at": None,
            "results_url": f"http://{self.headers['host']}{BATCHES}/{batch_id}/results",
        }  # fmt: skip

    def _page(self, query: dict[str, list[str]]) -> dict[str, object]:
        newest_first = list(reversed(self.documents.values()))
        after = query.get("after_id", [None])[0]
        begin = next((n + 1 for n, d in enumerate(newest_first) if d["id"] == after), 0)
        end = begin + int(query.get("limit", ["20"])[0])
        page = newest_first[begin:end]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return {"data": page, "has_more": end < len(newest_first), **ends}

    def _send_json(self, document: object) -> None:
        self._send(json.dumps(document).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would cost more than the answer."""


def in_progress(batch_id: str, requests: int, *, now: datetime) -> dict[str, object]:
    """What the API says of a batch that has not ended."""
    counts = {"processing": requests, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": batch_id, "type": "message_batch", "processing_status": "in_progress", "request_counts": counts,
        "created_at": now.isoformat(), "ended_at": None, "expires_at": (now + timedelta(hours=24)).isoformat(),
        "cancel_initiated_at": None, "archived_at": None, "results_url": None,
    }  # fmt: skip


def _serve(told: Connection, known: Mapping[str, int]) -> None:
    now = datetime.now(UTC)
    _Handler.documents = {batch_id: in_progress(batch_id, requests, now=now) for batch_id, requests in known.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    told.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def running(known: Mapping[str, int] = MappingProxyType({})) -> Iterator[str]:
    """The base URL of a server that knows those batches, by id with their requests; they never end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, dict(known)), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
