"""One append-only file for each chunk that is asked in real time: what was sent, and every answer.

Lines, each followed by a tab and the crc32 of what stands before it, in hex:

| line | meaning |
|---|---|
| `s<position>` | a POST of this request is about to leave |
| `u<position>` | that POST is known not to be billed: refused clearly, or it never left |
| `{"custom_id":"<key>-<position>","result":{...},"answered_at":...,"request_id":...}` | the end of the request |

The last has the shape of a batch's result line, with the message's bytes as the API sent them. A POST with
neither `u` nor an answer is unrecorded: it may have been paid. The first end of a request counts.

Every line is written at once, in one piece, so that SIGKILL keeps it; `durable` also waits for the disk.
A line that a power loss tore, or whose checksum is wrong, is dropped and counted, never trusted: at worst
its request is asked again. One process holds a journal at a time (its owner sees to that).
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self
from zlib import crc32

import orjson

from claude_pipeline.crash import crash_point
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.home import FILE_MODE, make_file, sync_folder
from claude_pipeline.lane.group_sync import GroupSync
from claude_pipeline.lane.reply import Fate, Reply

LINE_BYTES_MAX = 64_000_000  # more is no line, but what a power loss left
LOST = "lost_answer"  # the error type of a request whose answer was lost for good: it may have been paid
POSITION_DIGITS_MAX = 9
POSTS_MAX = 255  # of one request, as far as they are counted: a byte each
_END, _RESULT = b'"', b',"result":{"type":"'


class Journal:
    """`journal = Journal.open(path, "r1-0001", 500)`; then `sending`, `unbilled` and `await settled` for each POST.

    Its memory is two bytes a request. All but `open` and `close` belong to one event loop.
    """

    def __init__(self, path: Path, key: str, requests: int, descriptor: int) -> None:
        self.path, self.key, self.requests = path, key, requests
        self.counts: Counter[str] = Counter()  # requests by the type of their first end
        self.dropped = 0  # lines that could not be trusted
        self.torn_bytes = 0  # cut off the end
        self._prefix = _prefix(key)
        self._ended = bytearray(requests)
        self._open = bytearray(requests)  # POSTs without an end
        self._last_open = bytearray(requests)  # whether the last POST is one of them
        self._descriptor = descriptor
        self._size = 0
        self._dirty = False
        self._broken: str | None = None
        self._lock = threading.Lock()  # a sync in another thread against `close`
        self._group = GroupSync(self._sync)

    @classmethod
    def open(cls, path: Path, key: str, requests: int, *, line_bytes_max: int = LINE_BYTES_MAX) -> Self:
        """Read what a journal knows, cut off a torn end, and go on writing it; made where there is none.

        Raises:
            LedgerDamaged: it is the journal of another chunk.
        """
        new = not path.exists()
        make_file(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            journal = cls(path, key, requests, descriptor)
            journal._replay(line_bytes_max)
            if new:
                sync_folder(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def ended(self, position: int) -> bool:
        """Whether the request has its end: answered, refused or lost for good, canceled."""
        return bool(self._ended[position])

    def waiting(self) -> Iterator[int]:
        """Positions without an end, in order."""
        position = self._ended.find(0)
        while position >= 0:
            yield position
            position = self._ended.find(0, position + 1)

    @property
    def unrecorded(self) -> int:
        """POSTs without an end: just opened, those that may have been paid and left no answer; later also those in flight."""
        return sum(self._open)

    def unrecorded_of(self, position: int) -> int:
        return self._open[position]

    def sending(self, position: int) -> None:
        """A POST of this request is about to leave."""
        self._append(b"s%d" % position)
        self._sent(position)
        crash_point("journal.after_mark")

    def unbilled(self, position: int) -> None:
        """The last POST of this request is known not to be billed; told twice it counts once."""
        if self._last_open[position]:
            self._append(b"u%d" % position)
            self._closed(position)

    async def settled(self, position: int, reply: Reply) -> None:
        """The end of this request; returns when it is on the disk."""
        if reply.fate in (Fate.REFUSED, Fate.UNSENT):
            self.unbilled(position)
        await self.durable(answer_line(self.key, position, reply))

    def canceled(self, at: datetime) -> int:
        """End every request that has no end as canceled, its chunk being closed early; returns how many."""
        positions = list(self.waiting())
        for position in positions:
            self._take(self._append(canceled_line(self.key, position, at)))
        return len(positions)

    def lost(self, position: int, why: str, at: datetime) -> None:
        """End this request as one whose answer was lost for good, and which may have been paid."""
        reply = Reply(
            Fate.LOST, at, error_type=LOST, error_message=f"its answer was lost, it may have been paid: {why}"
        )
        self._take(self._append(answer_line(self.key, position, reply)))

    async def durable(self, line: bytes) -> None:
        """Append an answer line; returns when it is on the disk, which others' lines may share."""
        self._take(self._append(line))
        await self._group.synced()

    def close(self) -> None:
        """Bring what was written to the disk and let go of the file. May be called twice, and from another thread."""
        with self._lock:
            if self._descriptor < 0:
                return
            error: OSError | None = None
            try:
                if self._dirty:
                    os.fsync(self._descriptor)
            except OSError as failed:
                error, self._broken = failed, f"it could not be closed well: {failed.strerror}"
            finally:
                os.close(self._descriptor)
                self._descriptor = -1
        self._group.close(error)
        if error is not None:
            raise error

    def _append(self, payload: bytes) -> bytes:
        """Write one line in one piece, so that no reader ever sees half of it but after a power loss."""
        if self._broken is not None or self._descriptor < 0:
            raise OSError(errno.EIO, self._broken or "the journal is closed", str(self.path))
        line = b"%b\t%08x\n" % (payload, crc32(payload))
        self._dirty = True
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):  # a full disk takes what still fits
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError as error:
            self._broken = f"nothing more is written to it: {error.strerror}"
            os.ftruncate(self._descriptor, self._size)  # half a line would spoil the next process's first
            raise
        self._size += len(line)
        return payload

    def _sync(self) -> None:
        with self._lock:
            if self._descriptor < 0 and self._broken is None:  # `close` has done it
                return
            crash_point("journal.before_fsync")
            self._dirty = False
            try:
                os.fsync(self._descriptor)
            except OSError as error:  # what the kernel failed to write it may forget: a second fsync would lie
                self._broken = f"nothing more is written to it: {error.strerror}"
                raise
            crash_point("journal.after_fsync")

    def _replay(self, line_bytes_max: int) -> None:
        with self.path.open("rb") as file:
            for payload, size in _lines(file, line_bytes_max):
                self._size += size
                if payload is None or not self._take(payload):
                    self.dropped += 1
            self.torn_bytes = os.fstat(self._descriptor).st_size - self._size
        if self.torn_bytes:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)
        self._last_open = bytearray(self.requests)  # of this process there are none yet

    def _take(self, payload: bytes) -> bool:
        """Let a line count; False where it is of no kind known here.

        Raises:
            LedgerDamaged: it is of another chunk.
        """
        kind, number, outcome = payload[:1], payload[1:], ""
        if kind == b"{":
            number, _, rest = payload.removeprefix(self._prefix).partition(_END)
            outcome = rest.removeprefix(_RESULT).partition(_END)[0].decode("ascii", "replace")
        if kind not in (b"s", b"u", b"{"):
            return False
        if not number.isdigit() or len(number) > POSITION_DIGITS_MAX or int(number) >= self.requests:
            raise LedgerDamaged(
                f"{self.path} holds a line of another chunk than {self.key} ({payload[:60]!r}); restore it from a backup, "
                "or move it away: what it answered is then asked and paid again"
            )
        position = int(number)
        if kind == b"s":
            self._sent(position)
        elif kind == b"u" or outcome == "succeeded":
            self._closed(position)
        if kind == b"{" and not self._ended[position]:
            self._ended[position] = 1
            self.counts[outcome] += 1
        return True

    def _sent(self, position: int) -> None:
        self._open[position] = min(self._open[position] + 1, POSTS_MAX)
        self._last_open[position] = 1

    def _closed(self, position: int) -> None:
        self._open[position] = max(self._open[position] - 1, 0)
        self._last_open[position] = 0


def results(path: Path) -> Iterator[bytes]:
    """The answer lines of a journal, each as a batch's result line; what cannot be trusted is not among them."""
    with path.open("rb") as file:
        for payload, _ in _lines(file):
            if payload is not None and payload.startswith(b"{"):
                yield payload + b"\n"


def answer_line(key: str, position: int, reply: Reply) -> bytes:
    """The end of a request as a result line: its message, spliced in as it came, or the error."""
    if reply.fate is Fate.ANSWERED:
        message = _one_line(reply.body)
        if message is not None:
            result = b'{"type":"succeeded","message":%b}' % message
            return _line(key, position, result, reply.at, reply.request_id)
        return _errored(key, position, reply, "unreadable_result", "the answer is no JSON object")
    return _errored(key, position, reply, reply.error_type or "api_error", reply.error_message)


def canceled_line(key: str, position: int, at: datetime) -> bytes:
    """The end of a request that was not answered before its chunk was closed."""
    return _line(key, position, b'{"type":"canceled"}', at, None)


def _errored(key: str, position: int, reply: Reply, kind: str, message: str) -> bytes:
    """Doubly nested, as in a batch's lines."""
    details = {"error_code": _text(reply.error_code)} if reply.error_code else None
    error = {"details": details, "type": _text(kind), "message": _text(message)}
    nested = {"type": "error", "error": error, "request_id": _text(reply.request_id)}
    result = b'{"type":"errored","error":%b}' % orjson.dumps(nested)
    return _line(key, position, result, reply.at, reply.request_id)


def _line(key: str, position: int, result: bytes, at: datetime, request_id: str | None) -> bytes:
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    told = orjson.dumps(_text(request_id))
    return b'%b%d","result":%b,"answered_at":"%b","request_id":%b}' % (_prefix(key), position, result, moment, told)


def _prefix(key: str) -> bytes:
    return b'{"custom_id":"%b-' % orjson.dumps(key)[1:-1]


def _one_line(body: bytes) -> bytes | None:
    """A JSON object as one line of UTF-8; None where it is none. Between values a newline is a blank like any other."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:  # lone surrogates, or another encoding
        try:
            document = json.loads(body)
            body = json.dumps(document).encode()
        except (ValueError, RecursionError):
            return None
    return body.replace(b"\n", b" ") if isinstance(document, dict) else None


def _text(text: str | None) -> str | None:
    """Without lone surrogates, which no UTF-8 holds."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _lines(file: BinaryIO, line_bytes_max: int = LINE_BYTES_MAX) -> Iterator[tuple[bytes | None, int]]:
    """What each whole line holds, and its size in bytes; None for one whose checksum is wrong."""
    while line := file.readline(line_bytes_max):
        size = len(line)
        if not line.endswith(b"\n"):
            while piece := file.readline(line_bytes_max):  # too long to be a line
                size += len(piece)
                if piece.endswith(b"\n"):
                    yield None, size
                    break
            else:
                return
            continue
        payload, _, checksum = line[:-1].rpartition(b"\t")
        yield (payload if checksum == b"%08x" % crc32(payload) else None), size
