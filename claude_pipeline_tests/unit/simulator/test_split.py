"""Splitting the body of a batch creation, whatever the window cuts."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.simulator.split import NotJson, requests_in

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def split(body: bytes, window_bytes: int = 1 << 20) -> list[Any]:
    return list(requests_in(io.BytesIO(body), window_bytes))


@settings(max_examples=200, deadline=None)
@given(
    items=st.lists(VALUES, max_size=6), window_bytes=st.integers(1, 40), ascii_only=st.booleans(), indent=st.booleans()
)
def test_any_list_is_read_whole_through_any_window(
    items: list[Any], window_bytes: int, ascii_only: bool, indent: bool
) -> None:
    text = json.dumps({"requests": items}, ensure_ascii=ascii_only, indent=2 if indent else None)
    assert (
        split(text.encode("utf-8", "replace"), window_bytes)
        == json.loads(text.encode("utf-8", "replace").decode("utf-8"))["requests"]
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"[]", "valid dictionary", id="a-list"),
        pytest.param(b'{"requests":[1', "expected", id="cut-after-a-value"),
        pytest.param(b'{"requests":[1,', "unexpected end", id="cut-after-a-comma"),
        pytest.param(b'{"requests":["a', "Unterminated string", id="cut-in-a-string"),
        pytest.param(b'{"requests":[1]', "property name|unexpected end", id="cut-before-the-end"),
        pytest.param(b'{"requests":[1 2]}', "expected ','", id="no-comma"),
        pytest.param(b'{"requests":[{"a" 1}]}', "Expecting ':'", id="no-colon"),
        pytest.param(b'{"requests":[tru]}', "expected a value", id="half-a-literal"),
        pytest.param(b'{"requests":[]} x', "extra data", id="text-behind"),
        pytest.param(b'{"requests":[],"more":1}', "more: Extra inputs", id="another-field"),
        pytest.param(b'{"requests":[],"requests":[]}', "given twice", id="twice"),
        pytest.param(b'{"requests":["\xff"]}', "not UTF-8", id="not-utf-8"),
        pytest.param(b'{"requests":[Infinity]}', "Infinity", id="infinity"),
        pytest.param(b'{"requests":[' + b"[" * 100_000, "nested too deeply", id="deep"),
    ],
)
@pytest.mark.parametrize("window_bytes", [3, 1 << 20], ids=["narrow", "wide"])
def test_what_is_no_json_is_named(body: bytes, message: str, window_bytes: int) -> None:
    with pytest.raises(NotJson, match=message):
        split(body, window_bytes)


def test_a_fault_in_the_middle_is_found_without_reading_on() -> None:
    body = io.BytesIO(b'{"requests":[{"a" 1},' + b" " * 100_000)
    with pytest.raises(NotJson):
        list(requests_in(body, 64))
    assert body.tell() < 1_000


def test_a_fault_names_its_place() -> None:
    with pytest.raises(NotJson, match="char 15"):
        split(b'{"requests":[1 2]}')
