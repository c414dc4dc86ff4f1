"""Raw result lines become one row per request, joined on custom_id."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from claude_pipeline.catalog import Rates, TokenRates
from claude_pipeline.catalog.price import NO_BAND
from claude_pipeline.chunk import INDEX
from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.lane.api_error import verdict_of
from claude_pipeline.result import AskedFacts, OutputReader, Parsed, output_fields, parse_results
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_workload

CREATED = NOW - timedelta(hours=1)
TAG = "0123abcd-0123456789abcdef"
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3}
SCHEMA = {
    "type": "object",
    "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["queue"],
}


def message(text: str = "yes", **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"id": "msg_1", "model": "claude-haiku-5-5", "stop_reason": "end_turn", "usage": USAGE}
    return base | {"content": [{"type": "text", "text": text}]} | changes


def succeeded(text: str = "yes", **changes: Any) -> dict[str, Any]:
    return {"type": "succeeded", "message": message(text, **changes)}


def errored(kind: str, text: str = "no", **inner: Any) -> dict[str, Any]:
    return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": text, **inner}}}


def line(position: int, result: Any, tag: str = TAG) -> bytes:
    return json.dumps({"custom_id": f"{tag}-{position}", "result": result}, ensure_ascii=False).encode() + b"\n"


def index_of(count: int) -> pa.Table:
    rows = range(count)
    columns = [rows, [10 + n for n in rows], [f"n{n}" for n in rows], [bytes([n]) * 32 for n in rows], [0] * count]
    return pa.Table.from_arrays([pa.array(c, t) for c, t in zip(columns, INDEX.types, strict=True)], schema=INDEX)


OF_OUTPUT = TokenRates(0, 100, 0, 0, 0)  # 100 units a token of output, and nothing else costs


def rates_of(model: str, geo: str | None, day: date) -> Rates:
    assert day == CREATED.date()
    return Rates(OF_OUTPUT, OF_OUTPUT, NO_BAND, 1)


def parse(
    folder: Path,
    data: bytes,
    requests: int,
    *,
    counts: Mapping[str, int] | None = None,
    output: dict[str, Any] | None = None,
) -> Parsed:
    workload = make_workload(output=output)
    facts = AskedFacts(
        snapshot="2026-11-22.1", chunk="r2-0001", attempt=2, tag=TAG, batch_id="msgbatch_1", model="claude-asked",
        max_tokens=64, answered_at=NOW, counts={"succeeded": requests} if counts is None else counts, billed_at=CREATED,
    )  # fmt: skip
    (folder / "raw.jsonl").write_bytes(data)
    reader = OutputReader(workload.output, output_fields(workload))
    with (folder / "raw.jsonl").open("rb") as raw:
        return parse_results(
            raw, index_of(requests), facts, reader, rates_of=rates_of,
            verdict_of=lambda kind, text: verdict_of(kind, text).value,
        )  # fmt: skip


def only(
    folder: Path, result: Any, *, outcome: str = "succeeded", output: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The row of a batch of one request."""
    parsed = parse(folder, line(0, result), 1, counts={outcome: 1}, output=output)
    row: dict[str, Any] = parsed.table.to_pylist()[0]
    return row


def test_lines_in_any_order_meet_their_own_request(tmp_path: Path) -> None:
    lines = [line(n, succeeded(f"answer {n}")) for n in range(50)]
    random.Random(1).shuffle(lines)
    parsed = parse(tmp_path, b"".join(lines), 50)
    rows = parsed.table.to_pylist()
    assert [(r["position"], r["row"], r["record_id"], r["answer"]) for r in rows] == [
        (n, 10 + n, f"n{n}", f"answer {n}") for n in range(50)
    ]
    assert [r["custom_id"] for r in rows] == [f"{TAG}-{n}" for n in range(50)]
    assert parsed.outcomes == Counter(succeeded=50)


def test_a_succeeded_line_fills_its_row(tmp_path: Path) -> None:
    row = only(tmp_path, succeeded("yes"))
    del row["fingerprint"]
    assert row == {
        "snapshot": "2026-11-22.1", "chunk": "r2-0001", "position": 0, "row": 10, "custom_id": f"{TAG}-0",
        "verdict": "answered", "message_id": "msg_1", "record_id": "n0", "outcome": "succeeded", "answer": "yes",
        "answer_source": "batch", "model": "claude-haiku-5-5", "lane": "batch", "stop_reason": "end_turn",
        "input_tokens": 10, "output_tokens": 5, "cache_write_tokens": 2, "cache_read_tokens": 3, "cost_usd": 500 / 1e10,
        "batch_id": "msgbatch_1", "attempt": 2, "error_type": None, "error_message": None, "answered_at": NOW, "max_tokens": 64,
    }  # fmt: skip


def test_a_name_that_is_ours_alone_means_nothing_in_a_line(tmp_path: Path) -> None:
    row = only(tmp_path, succeeded(usage={**USAGE, "is_sound": False}))
    assert row["cost_usd"] == 500 / 1e10


LOW_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
ERRORS: list[Any] = [
    *(pytest.param(errored(kind), "errored", kind, "permanent", id=kind)
      for kind in ("invalid_request_error", "not_found_error", "request_too_large")),
    *(pytest.param(errored(kind), "errored", kind, "retry", id=kind)
      for kind in ("rate_limit_error", "timeout_error", "api_error", "overloaded_error", "one_of_tomorrow")),
    *(pytest.param(errored(kind), "errored", kind, "stop", id=kind)
      for kind in ("authentication_error", "billing_error", "permission_error")),
    pytest.param(errored("invalid_request_error", LOW_CREDIT, details=None), "errored", "invalid_request_error", "stop",
                 id="low-credit"),
    pytest.param({"type": "errored", "error": {"type": "overloaded_error", "message": "no"}}, "errored",
                 "overloaded_error", "retry", id="nested-once"),
    pytest.param({"type": "errored"}, "errored", "api_error", "retry", id="no-error"),
    pytest.param({"type": "errored", "error": "overloaded"}, "errored", "api_error", "retry", id="error-is-a-text"),
    pytest.param({"type": "canceled"}, "canceled", "canceled", "retry", id="canceled"),
    pytest.param({"type": "expired"}, "expired", "expired", "retry", id="expired"),
    pytest.param({"type": "paused"}, "errored", "unknown_result_type", "permanent", id="unknown-result-type"),
    pytest.param({"type": "succeeded"}, "errored", "unknown_result_type", "permanent", id="succeeded-without-message"),
]  # fmt: skip


@pytest.mark.parametrize(("result", "outcome", "error_type", "verdict"), ERRORS)
def test_an_unanswered_line_has_its_reason_and_costs_nothing_that_is_known(
    tmp_path: Path, result: dict[str, Any], outcome: str, error_type: str, verdict: str
) -> None:
    row = only(tmp_path, result, outcome=result["type"])
    assert (row["outcome"], row["error_type"], row["verdict"]) == (outcome, error_type, verdict)
    # What nobody can read may have been billed.
    free = (None, None) if error_type == "unknown_result_type" else (0.0, 0)
    assert (row["cost_usd"], row["input_tokens"], row["answer"], row["answer_source"]) == (*free, None, None)
    assert row["model"] == "claude-asked"


def test_what_another_round_may_answer_is_counted_and_stops_are_told(tmp_path: Path) -> None:
    results = [
        errored("overloaded_error"),
        {"type": "expired"},
        errored("not_found_error"),
        errored("billing_error", "pay"),
    ]
    data = b"".join(line(n, result) for n, result in enumerate(results))
    parsed = parse(tmp_path, data, 4, counts={"errored": 3, "expired": 1, "succeeded": 0})
    assert (parsed.retryable, parsed.stops) == (3, ["pay"])
    assert parsed.outcomes == Counter(errored=3, expired=1)


TWO = [line(0, succeeded("a")), line(1, succeeded("b"))]
ACCEPTED: list[Any] = [
    pytest.param(TWO[0] + b"\n" + TWO[1] + b"  \r\n\n", id="blank-lines"),
    pytest.param(b"".join(TWO)[:-1], id="no-newline-at-the-end"),
    pytest.param(TWO[1] + TWO[0] + TWO[1], id="an-equal-line-twice"),
    pytest.param(b"".join(TWO).replace(b"\n", b"\r\n"), id="crlf"),
]


@pytest.mark.parametrize("data", ACCEPTED)
def test_harmless_differences_are_accepted(tmp_path: Path, data: bytes) -> None:
    assert parse(tmp_path, data, 2).table.column("answer").to_pylist() == ["a", "b"]


REFUSED: list[Any] = [
    pytest.param(TWO[0], {"succeeded": 2}, "1 lines, the batch counts 2", id="missing-line"),
    pytest.param(b"", {"succeeded": 2}, "0 lines, the batch counts 2", id="empty"),
    pytest.param(b"".join(TWO), {"succeeded": 3}, "2 lines, the batch counts 3", id="counts-more"),
    pytest.param(b"".join(TWO) + line(2, succeeded()), {"succeeded": 3}, "is of no request of chunk", id="position-over"),
    pytest.param(TWO[0] + line(1, succeeded(), "ffff0000-0123456789abcdef"), {"succeeded": 2}, "of no request", id="foreign"),
    pytest.param(TWO[0] + b'{"custom_id":"mine","result":{"type":"expired"}}\n', {"succeeded": 2}, "'mine'", id="no-tag"),
    pytest.param(TWO[0] + line(0, succeeded("z")), {"succeeded": 2}, "two different answers", id="contradictory"),
    pytest.param(TWO[0] + TWO[0], {"succeeded": 2}, "1 lines", id="twice-instead-of-the-other"),
    pytest.param(b"".join(TWO), {"succeeded": 1, "errored": 1}, "2 succeeded, the batch counts 1", id="other-outcomes"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "counts", "sentence"), REFUSED)
def test_a_download_that_is_not_the_chunks_is_refused(
    tmp_path: Path, data: bytes, counts: dict[str, int], sentence: str
) -> None:
    with pytest.raises(ResultsIncomplete, match=sentence):
        parse(tmp_path, data, 2, counts=counts)


UNREADABLE: list[Any] = [
    pytest.param(b'{"custom_id": nonsense\n', id="no-json"),
    pytest.param(b'["a"]\n', id="no-object"),
    pytest.param(b'{"custom_id": 5, "result": {}}\n', id="custom-id-a-number"),
    pytest.param(b"\xff\xfe\n", id="no-utf8"),
    pytest.param(line(1, "succeeded"), id="result-is-a-text"),
    pytest.param(line(1, None), id="no-result"),
]


@pytest.mark.parametrize("bad", UNREADABLE)
def test_an_unreadable_line_costs_its_own_record_only(tmp_path: Path, bad: bytes) -> None:
    parsed = parse(tmp_path, TWO[0] + bad, 2)
    assert parsed.table.column("answer").to_pylist() == ["a", None]
    assert parsed.table.column("error_type").to_pylist() == [None, "unreadable_result"]
    assert parsed.table.column("verdict").to_pylist()[1] == "permanent"  # it may have been paid
    assert (parsed.unreadable, parsed.retryable) == (1, 0)


ODD_MESSAGES: list[Any] = [
    pytest.param({"content": None}, None, id="content-null"),
    pytest.param({"content": "yes"}, None, id="content-a-text"),
    pytest.param({"content": ["yes"]}, None, id="block-a-text"),
    pytest.param({"content": [{"type": "text", "text": None}]}, "", id="text-null"),
    pytest.param({"usage": "much"}, "yes", id="usage-a-text"),
    pytest.param({"usage": {"input_tokens": "ten", "output_tokens": 5.5}}, "yes", id="tokens-no-numbers"),
    pytest.param({"stop_reason": 5, "id": 7}, "yes", id="id-a-number"),
    pytest.param({"model": 5}, "yes", id="model-a-number"),
]


@pytest.mark.parametrize(("change", "answer"), ODD_MESSAGES)
def test_an_oddly_shaped_message_keeps_no_other_record_from_its_answer(
    tmp_path: Path, change: dict[str, Any], answer: str | None
) -> None:
    # Any of these ended in a stack trace, and the whole chunk could never be collected.
    parsed = parse(tmp_path, TWO[0] + line(1, succeeded(**change)), 2)
    assert parsed.table.column("answer").to_pylist() == ["a", answer]
    assert parsed.table.column("outcome").to_pylist() == ["succeeded", "succeeded"]


TEXTS: list[Any] = [
    pytest.param("a\u2028b\u0085c\u000bd\u001ce", id="line-separators"),
    pytest.param("{{ not a template }}", id="braces"),
    pytest.param("日本語 🎈", id="unicode"),
    pytest.param("a\x00b", id="nul"),
    pytest.param("", id="empty"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_as_it_was(tmp_path: Path, text: str) -> None:
    assert only(tmp_path, succeeded(text))["answer"] == text


def test_a_lone_surrogate_becomes_a_question_mark(tmp_path: Path) -> None:
    data = line(0, succeeded("aXb")).replace(b"aXb", b"a\\ud800b")
    assert parse(tmp_path, data, 1).table.column("answer").to_pylist() == ["a?b"]


CONTENTS: list[Any] = [
    pytest.param([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}], "yes", id="thinking-first"),
    pytest.param([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", id="two-texts"),
    pytest.param([{"type": "tool_use", "input": {}}], None, id="no-text"),
    pytest.param([], None, id="empty"),
]


@pytest.mark.parametrize(("content", "answer"), CONTENTS)
def test_the_answer_is_the_text_blocks(tmp_path: Path, content: list[Any], answer: str | None) -> None:
    assert only(tmp_path, succeeded(content=content))["answer"] == answer


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "stop_sequence", "a_new_one"])
def test_why_an_answer_stopped_is_kept(tmp_path: Path, reason: str) -> None:
    assert only(tmp_path, succeeded(stop_reason=reason))["stop_reason"] == reason


@pytest.mark.parametrize("usage", [None, {}], ids=["null", "empty"])
def test_a_missing_usage_makes_the_cost_unknown_not_zero(tmp_path: Path, usage: Any) -> None:
    row = only(tmp_path, succeeded(usage=usage))
    assert (row["cost_usd"], row["input_tokens"], row["outcome"]) == (None, None, "succeeded")


OUTPUTS: list[Any] = [
    pytest.param('{"queue": "billing", "urgent": true}', "billing", True, None, id="valid"),
    pytest.param('{"queue": "billing"}', "billing", None, None, id="optional-left-out"),
    pytest.param('{"queue": "sales"}', "sales", None, "does not fit the output schema", id="not-in-enum"),
    pytest.param('{"urgent": true}', None, True, "does not fit the output schema", id="required-missing"),
    pytest.param('{"queue": 5, "urgent": "yes"}', "5", None, "does not fit the output schema", id="other-types"),
    pytest.param('{"queue": "billing", "more": [1]}', "billing", None, None, id="more-than-asked"),
    pytest.param("Billing, I think", None, None, "the answer is not JSON", id="prose"),
    pytest.param('{"queue": "bil', None, None, "the answer is not JSON", id="cut-json"),
    pytest.param('["billing"]', None, None, "is not a JSON object", id="a-list"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "queue", "urgent", "wrong"), OUTPUTS)
def test_structured_output_becomes_columns_and_is_checked(
    tmp_path: Path, text: str, queue: str | None, urgent: bool | None, wrong: str | None
) -> None:
    row = only(tmp_path, succeeded(text), output=SCHEMA)
    assert (row["queue"], row["urgent"]) == (queue, urgent)
    assert (row["answer"], row["outcome"], row["verdict"]) == (text, "succeeded", "answered")
    assert (row["error_type"] is None) == (wrong is None)
    assert wrong is None or wrong in row["error_message"]


def test_answers_outside_the_schema_are_counted(tmp_path: Path) -> None:
    data = line(0, succeeded('{"queue": "other"}')) + line(1, succeeded("no")) + line(2, succeeded(content=[]))
    parsed = parse(tmp_path, data, 3, output=SCHEMA)
    assert parsed.invalid == 2
    assert parsed.table.column("error_message").to_pylist() == [None, "the answer is not JSON", "no text in the answer"]


FITS: list[Any] = [
    ({"type": "integer"}, 5.0, 5),
    ({"type": "integer"}, 5.5, None),
    ({"type": "integer"}, True, None),
    ({"type": "integer"}, 2**70, None),
    ({"type": "number"}, 5, 5.0),
    ({"type": "number"}, "5", None),
    ({"type": "boolean"}, 1, None),
    ({"type": "string"}, {"a": 1}, '{"a":1}'),
    ({"type": ["string", "null"]}, None, None),
    ({"type": "array", "items": {"type": "integer"}}, [1, "x"], [1, None]),
    ({"type": "array", "items": {"type": "integer"}}, 3, None),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1, "b": 2}, {"a": 1}),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, "x", None),
    ({"type": "object"}, {"b": 2}, '{"b":2}'),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 5, "5"),
]


@pytest.mark.parametrize(("schema", "value", "expected"), FITS, ids=[f"{s} {v}"[:50] for s, v, _ in FITS])
def test_a_value_that_does_not_fit_its_column_is_null(
    tmp_path: Path, schema: dict[str, Any], value: Any, expected: Any
) -> None:
    output = {"type": "object", "properties": {"v": schema}}
    assert only(tmp_path, succeeded(json.dumps({"v": value})), output=output)["v"] == expected


def test_lines_of_a_new_type_may_be_any_that_the_batch_counts(tmp_path: Path) -> None:
    data = line(0, {"type": "paused"}) + line(1, succeeded("yes"))
    parsed = parse(tmp_path, data, 2, counts={"succeeded": 2})
    assert parsed.outcomes == {"succeeded": 1, "errored": 1}
