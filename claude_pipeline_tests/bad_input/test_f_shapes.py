"""Results of another shape than the API documents: what was learned beside the catalogue of bad inputs (F29 to F32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from claude_pipeline.report import summarize
from claude_pipeline_tests.bad_input.flow import Flow, Rewritten, case, client_over

Line = dict[str, Any]


def bytes_of(lines: list[Line]) -> bytes:
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def first(changes: dict[str, Any]) -> Callable[[list[Line]], bytes]:
    """Change the result of the first line."""
    return lambda lines: bytes_of([lines[0] | {"result": lines[0]["result"] | changes}, *lines[1:]])


def message(changes: dict[str, Any]) -> Callable[[list[Line]], bytes]:
    """Change the message of the first line."""

    def change(lines: list[Line]) -> bytes:
        result = lines[0]["result"]
        return first({"message": result["message"] | changes})(lines)

    return change


def named(change: Callable[[str], str]) -> Callable[[list[Line]], bytes]:
    """Change the custom_id of the first line."""
    return lambda lines: bytes_of([lines[0] | {"custom_id": change(lines[0]["custom_id"])}, *lines[1:]])


def deep(lines: list[Line]) -> bytes:
    return b"[" * 100_000 + b"\n" + bytes_of(lines[1:])


KEPT: list[Any] = [
    pytest.param(message({"content": "just a text"}), id="F29-content-text"),
    pytest.param(message({"content": [None, 7, {"type": "text", "text": 7}]}), id="F29-content-blocks"),
    pytest.param(message({"stop_reason": {"a": 1}, "id": 5, "model": ["m"]}), id="F29-fields"),
    pytest.param(lambda lines: b"\xef\xbb\xbf" + bytes_of(lines), id="F29-bom"),
    pytest.param(lambda lines: bytes_of(lines).replace(b"\n", b"\r\n"), id="F29-crlf"),
    pytest.param(lambda lines: bytes_of(lines).rstrip(b"\n"), id="F29-no-last-newline"),
]


@pytest.mark.parametrize("change", KEPT)
def test_an_answer_of_another_shape_is_an_answer(flow: Flow, change: Callable[[list[Line]], bytes]) -> None:
    flow.over()
    with client_over(flow, Rewritten(change)) as client:
        flow.reborn(client=client)
        flow.rest()
    flow.delivered(10)


LOST: list[Any] = [
    pytest.param(lambda lines: bytes_of([lines[0] | {"result": None}, *lines[1:]]), "unreadable_result", id="F30-null"),
    pytest.param(deep, "unreadable_result", id="F30-deep"),
    pytest.param(first({"message": "what"}), "unknown_result_type", id="F30-message-text"),
    pytest.param(first({"type": ["succeeded"]}), "unknown_result_type", id="F30-type-list"),
]


@pytest.mark.parametrize(("change", "reason"), LOST)
def test_a_line_of_another_shape_costs_its_own_record(
    flow: Flow, change: Callable[[list[Line]], bytes], reason: str
) -> None:
    flow.over()
    with client_over(flow, Rewritten(change)) as client:
        flow.reborn(client=client)
        flow.rest()
    flow.delivered(9, dead={reason: 1})
    assert flow.posts == {"200": 1}


NAMES: list[Any] = [
    pytest.param(lambda name: "-0".join(name.rsplit("-", 1)), id="F31-leading-zero"),
    pytest.param(lambda name: name.rpartition("-")[0] + "-\u0663", id="F31-arabic-digit"),
    pytest.param(lambda name: name + "9" * 5_000, id="F31-digits-without-end"),
    pytest.param(lambda name: name.upper(), id="F31-capitals"),
    pytest.param(lambda name: f"{name}\n\x1b[31m", id="F31-escape"),
]


@pytest.mark.parametrize("change", NAMES)
def test_an_id_that_is_almost_one_of_ours_is_none(flow: Flow, change: Callable[[str], str]) -> None:
    flow.over()
    with client_over(flow, Rewritten(named(change))) as client:
        flow.reborn(client=client)
        assert flow.to_collected().done == []
    flow.says("is of no request of chunk", "reconcile --as-is")
    assert flow.states == ["ended"]


@case("F32")
def test_an_error_that_is_a_novel_is_kept_whole_and_told_short(flow: Flow) -> None:
    novel = "line one\n\x1b[31mline two\r" + "x" * 10_000
    flow.over()
    flow.fault(kind="line_error", share=1.0, error_type="invalid_request_error", message=novel)
    flow.rest()
    flow.delivered(0, dead={"invalid_request_error": 10})
    assert flow.ask("SELECT DISTINCT error_message FROM notes.dead_letters") == [(novel,)]
    flow.told += [reason for reason, _ in summarize(flow.desk, flow.workload, flow.snapshot).reasons]
    flow.says(r"^invalid_request_error: line one \\x1b.31mline two x+…$")
