"""A message as the server-sent events of `stream: true`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

_PIECE = 24  # characters in one delta
# Of usage, what the last event says again as totals (SDK 2.12, types/message_delta_usage.py).
_TOTALS = (
    *("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
    *("output_tokens", "output_tokens_details"),
)


def events(message: dict[str, Any]) -> Iterator[bytes]:
    """The events of one message, in the API's order."""
    usage = message.get("usage", {})
    so_far = {name: value for name, value in usage.items() if name != "output_tokens_details"} | {"output_tokens": 1}
    start = message | dict.fromkeys(("stop_reason", "stop_sequence", "stop_details")) | {"content": [], "usage": so_far}
    yield _event("message_start", message=start)
    yield _event("ping")
    for index, block in enumerate(message["content"]):
        yield from _block(index, block)
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield _event(
        "message_delta",
        delta=delta,
        usage={"output_tokens": 0} | {name: usage[name] for name in _TOTALS if name in usage},
    )
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
