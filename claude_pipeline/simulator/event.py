"""A message as the server-sent events of `stream: true`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

_PIECE = 24  # characters in one delta


def events(message: dict[str, Any]) -> Iterator[bytes]:
    """The events of one message, in the API's order."""
    usage = message["usage"]
    start = message | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 1}}
    yield _event("message_start", message=start)
    yield _event("ping")
    for index, block in enumerate(message["content"]):
        yield from _block(index, block)
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield _event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _block(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    empty: dict[str, Any]
    match block["type"]:
        case "text":
            empty, kind, field, whole = {"text": ""}, "text_delta", "text", block["text"]
        case "thinking":
            empty, kind, field, whole = (
                {"thinking": "", "signature": ""},
                "thinking_delta",
                "thinking",
                block["thinking"],
            )
        case _:
            empty, kind, field = {"input": {}}, "input_json_delta", "partial_json"
            whole = orjson.dumps(block["input"]).decode()
    yield _event("content_block_start", index=index, content_block=block | empty)
    for start in range(0, len(whole), _PIECE):
        yield _event("content_block_delta", index=index, delta={"type": kind, field: whole[start : start + _PIECE]})
    if block["type"] == "thinking":
        signature = {"type": "signature_delta", "signature": block["signature"]}
        yield _event("content_block_delta", index=index, delta=signature)
    yield _event("content_block_stop", index=index)


def _event(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
