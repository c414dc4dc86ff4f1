"""One raw result line: as the API documents it, decoded straight into its few fields that are kept; else whatever can be
read of it.

A line of the documented shape takes a third of the time that a dict of everything in it takes (1.2 of 3.7 us, 2026-11-26,
0.77 KB). Where one value is of another shape (a count that is a text, an error that is no object, half a character) the same fields are
taken from the line's JSON one by one, and what cannot be read is left out: that costs no other record its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import orjson

TOKENS_MAX = 10**9  # of one request; more is no count of tokens, and sums of it would not fit the ledger

_Count = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class CacheCreation(msgspec.Struct, gc=False):
    """Tokens written to the cache, by how long they live."""

    ephemeral_1h_input_tokens: _Count | None = None


class Reported(msgspec.Struct, gc=False):
    """An answer's tokens as the API reports them; None where it sent no count."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation: CacheCreation | None = None
    inference_geo: str | None = None


class Unsound(Reported, gc=False):
    """A usage in which something was no count: half of it has no price. No line is decoded into this."""


NO_USAGE = Reported()


class Block(msgspec.Struct, gc=False):
    """A piece of an answer's content."""

    type: str | None = None
    text: str | None = None


class Message(msgspec.Struct, gc=False):
    """An answer."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: Reported | None = None

    def text(self) -> str | None:
        """The texts of its content, joined; None where there is none."""
        content = self.content
        if content is not None and len(content) == 1:  # as nearly all are
            block = content[0]
            return (block.text or "") if block.type == "text" else None
        texts = [block.text or "" for block in content or () if block.type == "text"]
        return "".join(texts) if texts else None


class Inner(msgspec.Struct, gc=False):
    """What went wrong."""

    type: str = "api_error"
    message: str = ""


NO_ERROR = Inner()


class Outer(Inner, gc=False):
    """An error is nested twice, as the API sends it: result.error.error.type."""

    error: Inner | None = None

    def inner(self) -> Inner:
        return self if self.error is None else self.error


class Result(msgspec.Struct, gc=False):
    """What became of a request."""

    type: str | None = None
    message: Message | None = None
    error: Outer | None = None


class Line(msgspec.Struct, gc=False):
    """A line of a download, or of a journal, which tells when its answer came."""

    custom_id: str
    result: Result
    answered_at: str | None = None


_documented = msgspec.json.Decoder(Line)
_UNDOCUMENTED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_lines(lines: Sequence[bytes]) -> list[Line | None]:
    """Each as `read_line` reads it: all at once (1.1 us for 1.4, 2026-11-27) where each is of the documented shape.

    Two objects on one line beside a line of blanks are as many objects as lines, and are both read.
    """
    read: Sequence[Line] = ()
    with suppress(*_UNDOCUMENTED):
        read = _documented.decode_lines(b"".join(lines))
    if len(read) == len(lines):  # else there is one in two halves, or one of blanks
        return [*read]
    return [read_line(line) for line in lines]


def read_line(line: bytes) -> Line | None:
    """None: it names no request, or says nothing of one."""
    try:
        return _documented.decode(line)
    except _UNDOCUMENTED:
        return _whatever(line)


def _whatever(line: bytes) -> Line | None:
    document = _load(line)
    if document is None or not isinstance(custom_id := document.get("custom_id"), str):
        return None
    if not isinstance(result := document.get("result"), dict):
        return None
    message = result.get("message")
    kind, at = result.get("type"), document.get("answered_at")
    outer = _mapping(result.get("error"))
    inner = outer.get("error")
    error = inner if isinstance(inner, dict) else outer
    return Line(
        custom_id,
        Result(
            kind if isinstance(kind, str) else repr(kind),
            _message(message) if isinstance(message, dict) else None,
            Outer(str(error.get("type", "api_error")), str(error.get("message", ""))),
        ),
        at if isinstance(at, str) else None,
    )


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content")
    blocks = [_mapping(block) for block in content] if isinstance(content, list) else []
    texts = [Block("text", str(block.get("text") or "")) for block in blocks if block.get("type") == "text"]
    return Message(
        _text(message.get("id")),
        str(message["model"]) if message.get("model") else None,
        texts or None,
        _text(message.get("stop_reason")),
        _reported(_mapping(message.get("usage"))),
    )


def _reported(usage: Mapping[str, Any]) -> Reported:
    creation, geo = usage.get("cache_creation"), usage.get("inference_geo")
    hour = _mapping(creation).get("ephemeral_1h_input_tokens")
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    sent = [usage.get(name) for name in names]
    is_sound = (
        all(value is None or tokens_of(value) is not None for value in (*sent, hour))
        and (creation is None or isinstance(creation, dict))
        and isinstance(geo, str | None)
    )
    fresh, out, writes, reads = map(tokens_of, sent)
    kind = Reported if is_sound else Unsound
    return kind(
        fresh, out, writes, reads, CacheCreation(tokens_of(hour)), geo if isinstance(geo, str) else None
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    """Nothing where the API sent another shape than it documents."""
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def tokens_of(value: Any) -> int | None:
    """A count of tokens, or None where the API sent something that is none."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def _load(line: bytes) -> dict[str, Any] | None:
    """A line as a JSON object; lone surrogates, which orjson refuses, become "?"."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            loose = json.loads(line)
            document = json.loads(json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None
