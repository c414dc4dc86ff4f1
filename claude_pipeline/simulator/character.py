"""Characters that trip careless readers of JSON lines, put into answers as the API could send them.

U+2028 and U+0085 go out as raw UTF-8, which JSON allows: who splits text at line ends cuts there.
NUL and a lone surrogate go out as escapes, because JSON knows no other way to write them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

# form of the fault -> the character
ODD_CHARACTERS = {"u2028": "\u2028", "u0085": "\u0085", "surrogate": "\ud83d", "nul": "\x00"}
_ESCAPES = {"\ud83d": "\\ud83d", "\x00": "\\u0000"}
_TOKEN = "[sha256:"  # what free texts carry; see token.py
# The JSON encoder refuses a lone surrogate: until it has written, this private character stands for it.
_STAND_IN = "\uf8ff"


def put_odd_characters(message: dict[str, Any], form: str | None) -> None:
    """Put one character, or without `form` all, in front of each digest token of an answer."""
    odd = [ODD_CHARACTERS[form]] if form else list(ODD_CHARACTERS.values())
    plain = "".join(_STAND_IN if character == ODD_CHARACTERS["surrogate"] else character for character in odd)
    escaped = "".join(_ESCAPES.get(character, character) for character in odd)
    for block in message["content"]:
        if block["type"] == "text":
            # A structured answer is JSON within JSON: there the inner JSON holds the escape.
            inserted = escaped if _is_json(block["text"]) else plain
            block["text"] = block["text"].replace(_TOKEN, inserted + _TOKEN)
        elif block["type"] == "tool_use":
            block["input"] = _changed(block["input"], lambda text: text.replace(_TOKEN, plain + _TOKEN))


def with_surrogates(data: bytes) -> bytes:
    """Written JSON, with the lone surrogates in it that `put_odd_characters` announced."""
    return data.replace(_STAND_IN.encode(), b"\\ud83d")


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each text in it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [_changed(item, change) for item in value]
        case dict():
            return {name: _changed(item, change) for name, item in value.items()}
    return value
