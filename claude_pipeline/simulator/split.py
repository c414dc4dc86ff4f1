"""Read the body of a batch creation request by request, holding a window of it and never the whole.

The body is `{"requests":[{"custom_id":...,"params":{...}}, ...]}`, up to 256 MB. The C scanner of
the standard library reads one value at a time out of a sliding window; a value that the window
cuts is read again from a wider one.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn

WINDOW_BYTES = 1 << 20
_BLANK = " \t\n\r"
# A refusal this near to the window's end may come from a literal or an escape that the window cuts.
_LONGEST_PIECE = 16
# A number this near to the window's end may go on behind it: `0.`, `1e`, `1e-`.
_NUMBER_TAIL = 2


class NotJson(Exception):
    """The body is no JSON, or no object with a `requests` list; says where and why."""


def requests_in(body: BinaryIO, window_bytes: int = WINDOW_BYTES) -> Iterator[Any]:
    """The items of the body's `requests`, in order, each a fresh Python value.

    Raises:
        NotJson: here or later, when the reading comes to the fault.
    """
    text = _Window(body, window_bytes)
    if text.peek() != "{":
        raise NotJson("body: Input should be a valid dictionary")
    text.skip()
    found = False
    while text.peek() != "}":
        key = text.value()
        if not isinstance(key, str):
            raise text.wrong("expected a property name")
        text.expect(":")
        if key != "requests":
            raise NotJson(f"{key}: Extra inputs are not permitted")
        if found:
            raise NotJson("requests: given twice")
        found = True
        yield from _items(text)
        if text.peek() == ",":
            text.skip()
    text.skip()
    if text.peek() != "":
        raise text.wrong("extra data")
    if not found:
        raise NotJson("requests: Field required")


def _items(text: _Window) -> Iterator[Any]:
    if text.peek() != "[":
        raise NotJson("requests: Input should be a valid list")
    text.skip()
    if text.peek() == "]":
        text.skip()
        return
    while True:
        yield text.value()
        separator = text.peek()
        if separator not in ",]" or not separator:
            raise text.wrong("expected ',' or ']'")
        text.skip()
        if separator == "]":
            return


class _Window:
    """A stretch of the body as text, and the place where reading stands."""

    def __init__(self, body: BinaryIO, window_bytes: int) -> None:
        self._body = body
        self._window_bytes = window_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self._behind = 0  # characters that were dropped in front of the window
        self._ended = False
        # What `raw_decode` calls: (text, place) -> (value, end), StopIteration where no value begins.
        self._scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder(parse_constant=_refuse_constant))[
            "scan_once"
        ]

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            text = self._text
            place = self._place
            while place < len(text) and text[place] in _BLANK:
                place += 1
            self._place = place
            if place < len(text):
                return text[place]
            if not self._widen(self._window_bytes):
                return ""

    def skip(self) -> None:
        self._place += 1

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.wrong(f"expected {character!r}")
        self.skip()

    def value(self) -> Any:
        """The JSON value that begins here."""
        if not self.peek():
            raise self.wrong("unexpected end of data")
        more_bytes = self._window_bytes
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except StopIteration as stopped:
                fault = stopped.value
                message = "expected a value"
            except json.JSONDecodeError as wrong:
                # An unterminated string is reported at its start, however far away the cut is.
                fault = len(self._text) if wrong.msg.startswith("Unterminated") else wrong.pos
                message = wrong.msg
            except RecursionError:
                raise NotJson("The request body is nested too deeply") from None
            else:
                if end < len(self._text) - _NUMBER_TAIL or not self._widen(more_bytes):
                    self._place = end
                    return value
                continue
            if fault < len(self._text) - _LONGEST_PIECE or not self._widen(more_bytes):
                self._place = min(fault, len(self._text))
                raise self.wrong(message)
            more_bytes *= 2

    def wrong(self, message: str) -> NotJson:
        place = self._behind + self._place
        return NotJson(f"The request body is not valid JSON: {message}: char {place}")

    def _widen(self, size_bytes: int) -> bool:
        """Drop what was read, take more of the body; at its end change nothing and return False."""
        if self._ended:
            return False
        data = self._body.read(size_bytes)
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError:
            raise NotJson("The request body is not valid JSON: it is not UTF-8") from None
        if self._ended:
            return False
        self._behind += self._place
        self._text = self._text[self._place :] + more
        self._place = 0
        return True


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"The request body is not valid JSON: {name} is not a JSON value")
