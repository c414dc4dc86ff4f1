"""What the long form found once, each in its smallest form: none of these may come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from claude_pipeline.errors import ClaudePipelineError, ResultsIncomplete, WorkloadInvalid
from claude_pipeline.output_schema import enforceable, problem_of
from claude_pipeline.result import Parsed
from claude_pipeline.simulator import Options
from claude_pipeline.simulator.admin import move_clock
from claude_pipeline.simulator.api import Api
from claude_pipeline.workload_file import read_workload
from claude_pipeline_tests.dataset_factory import records_in
from claude_pipeline_tests.factory import make_workload
from claude_pipeline_tests.fuzz.call import BATCHES, Call
from claude_pipeline_tests.fuzz.result_line import MODELS, TAG, line
from claude_pipeline_tests.fuzz.test_result_lines import read
from claude_pipeline_tests.fuzz.test_simulator_calls import check_answer, play

USAGE = {"input_tokens": 10, "output_tokens": 5}


def answer(usage: Any, text: str = '{"queue":"other"}') -> bytes:
    content = [{"type": "text", "text": text}]
    return line(f"{TAG}-0", {"type": "succeeded", "message": {"model": MODELS[0], "content": content, "usage": usage}})


UNPRICED: list[Any] = [
    pytest.param(USAGE | {"cache_creation": 5}, id="cache-creation-a-number"),
    pytest.param(USAGE | {"cache_creation": False}, id="cache-creation-false"),
    pytest.param(USAGE | {"cache_read_input_tokens": "7"}, id="cache-read-a-text"),
    pytest.param(USAGE | {"cache_creation_input_tokens": []}, id="cache-write-a-list"),
    pytest.param(USAGE | {"cache_creation": {"ephemeral_1h_input_tokens": 3}}, id="more-for-an-hour-than-in-all"),
    pytest.param(USAGE | {"inference_geo": ["us"]}, id="geo-a-list"),
    pytest.param(USAGE | {"output_tokens": -5}, id="negative"),
    pytest.param(USAGE | {"output_tokens": True}, id="true-is-no-count"),
    pytest.param(USAGE | {"input_tokens": 2**63}, id="past-64-bits"),
    pytest.param(USAGE | {"input_tokens": 10**12}, id="more-tokens-than-any-request-has"),
]


@pytest.mark.parametrize("usage", UNPRICED)
def test_a_usage_that_cannot_be_counted_makes_the_cost_unknown(usage: Any) -> None:
    # Some were priced as less than nothing or as free, others ended the collection of their whole chunk.
    found = read(answer(usage), 1, {"succeeded": 1})
    assert isinstance(found, Parsed)
    row = found.table.to_pylist()[0]
    assert (row["outcome"], row["answer"], row["cost_usd"]) == ("succeeded", '{"queue":"other"}', None)


def test_a_line_that_may_have_been_billed_is_not_told_to_be_free() -> None:
    found = read(b"no result\n" + line(f"{TAG}-1", {"type": "teleported"}), 2, {"succeeded": 2})
    assert isinstance(found, Parsed)
    assert [(r["error_type"], r["cost_usd"], r["output_tokens"]) for r in found.table.to_pylist()] == [
        ("unreadable_result", None, None), ("unknown_result_type", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("position", ["00", "٠", "9" * 5_000], ids=["zeros-in-front", "another-script", "5000-digits"])
def test_an_id_that_we_did_not_write_is_of_no_request(position: str) -> None:
    found = read(line(f"{TAG}-{position}", {"type": "expired"}), 1, {"expired": 1})
    assert isinstance(found, ResultsIncomplete)
    assert "is of no request of chunk" in str(found)
    assert len(str(found)) < 300


def test_an_answer_nested_past_what_json_writers_write_keeps_its_text() -> None:
    text = '{"queue":"other","rest":' + "[" * 300 + "]" * 300 + "}"
    found = read(answer(USAGE, text), 1, {"succeeded": 1})
    assert isinstance(found, Parsed)
    row = found.table.to_pylist()[0]
    assert (row["answer"], row["queue"], row["rest"]) == (text, "other", None)


def test_two_lines_too_deep_to_be_compared_are_two_answers() -> None:
    deep = b'{"custom_id":"%b-0","result":{"type":"expired","x":%b}}\n' % (TAG.encode(), b"[" * 1_020 + b"]" * 1_020)
    assert isinstance(read(deep + deep, 1, {"expired": 1}), ResultsIncomplete | Parsed)


HEAD = b"type: claude_pipeline.ClaudeWorkload\nattributes:\n  name: notes\n"
FILES: list[Any] = [
    pytest.param(HEAD + b"  max_tokens: !!int x\n", "line 4: this is no int", id="no-int"),
    pytest.param(HEAD + b"  reuse: !!bool 7\n", "line 4: this is no bool", id="no-bool"),
    pytest.param(HEAD + b"  start_date: 2026-02-30\n", "line 4: this is no timestamp", id="no-day"),
    pytest.param(HEAD + b"  start_date: !!timestamp x\n", "line 4: this is no timestamp", id="no-timestamp"),
    pytest.param(HEAD + b"5: x\nother: y\n", "unknown top-level key 5", id="keys-of-two-types"),
    pytest.param(HEAD + b"  params: " + b"[" * 5_000, "nested", id="nested-without-end"),
    pytest.param(HEAD + b"  model: [" + b"x" * 9_000 + b"]\n", "model: ", id="long-value"),
]


@pytest.mark.parametrize(("document", "sentence"), FILES)
def test_a_file_that_yaml_cannot_make_sense_of_is_refused(tmp_path: Any, document: bytes, sentence: str) -> None:
    path = tmp_path / "defs.yaml"
    path.write_bytes(document)
    with pytest.raises(WorkloadInvalid, match=sentence) as refused:
        read_workload(path)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    "path", ["~nobody-7/x.csv", "a\0b.csv", "x" * 300 + ".csv"], ids=["unknown-user", "nul", "too-long"]
)
def test_a_path_that_no_file_can_have_is_refused(tmp_path: Any, path: str) -> None:
    with pytest.raises(ClaudePipelineError, match=r"path|user"):
        records_in(tmp_path, tmp_path / "w.yaml", path=path)
    with pytest.raises(ClaudePipelineError, match=r"path|user"):
        make_workload(prompt=None, prompt_file=path).at(tmp_path / "w.yaml").template()


def test_an_encoding_with_a_nul_is_unknown(tmp_path: Any) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(ClaudePipelineError, match="is unknown"):
        records_in(tmp_path, path=str(tmp_path / "x.csv"), encoding="a\0b")


def test_a_record_nested_without_end_is_refused_by_its_line(tmp_path: Any) -> None:
    (tmp_path / "x.jsonl").write_text('{"a":1}\n{"a":' + "[" * 800 + "]" * 800 + "}\n")
    with pytest.raises(ClaudePipelineError, match="line 2: nested too deeply"):
        records_in(tmp_path, path=str(tmp_path / "x.jsonl"))


def output(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TREE = {"tree": output(more={"type": "array", "items": {"$ref": "#/$defs/tree"}})}
UNTAKEN: list[Any] = [
    pytest.param(output(a={"not": {"type": "string"}}), "holds not", id="not"),
    pytest.param(output(a={"type": "string", "if": {}}), "holds if", id="if"),
    pytest.param(output(a={"type": "object", "dependentRequired": {}}), "holds dependentRequired", id="dependent"),
    pytest.param(output(a={"$ref": "#/$defs/tree"}) | {"$defs": TREE}, "refers to itself", id="recursive"),
    pytest.param(output(a={"$ref": "#"}), "refers to itself", id="root"),
    pytest.param(output(a=json.loads('{"items":' * 150 + "{}" + "}" * 150)), "schemas deep", id="deep"),
]


@pytest.mark.parametrize(("schema", "sentence"), UNTAKEN)
def test_a_schema_that_the_api_takes_from_nobody_is_refused_before_a_batch_is_sent(schema: Any, sentence: str) -> None:
    # Each line of the batch came back as an invalid request, up to a day later.
    assert sentence in (problem_of(schema) or "")


def test_one_of_is_sent_as_any_of_and_checked_here() -> None:
    schema = output(a={"oneOf": [{"type": "string"}, {"type": "null"}]})
    assert problem_of(schema) is None
    assert enforceable(schema)["properties"]["a"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


HEADERS = ((b"x-api-key", b"simulator"), (b"anthropic-version", b"2026-10-21"), (b"host", b"127.0.0.1"))
CALLS: list[Any] = [
    pytest.param("GET", BATCHES, b"limit=" + b"9" * 5_000, b"", 400, id="limit-of-5000-digits"),
    pytest.param("POST", BATCHES, b"", b'{"\\ud800":[]}', 400, id="half-a-character-as-a-field"),
    pytest.param("POST", BATCHES, b"", b'{"requests":[{"custom_id":"a","params":{},"\\ud800":1}]}', 400, id="in-a-request"),
    pytest.param("POST", "/_simulator/faults", b"", b'{"kind":"take","seconds":1e300}', 400, id="a-batch-without-end"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "query", "body", "status"), CALLS)
def test_a_call_that_the_simulator_fell_over_is_refused(
    method: str, path: str, query: bytes, body: bytes, status: int
) -> None:
    call = Call(method, path, query, HEADERS, body)
    found = play([call])[0]
    check_answer(call, found)
    assert found.status == status


def test_a_length_of_5000_digits_is_too_large() -> None:
    call = Call("POST", BATCHES, b"", ((b"content-length", b"9" * 5_000), *HEADERS), b"{}")
    assert play([call])[0].status == 413


def test_the_simulated_clock_stops_before_the_calendar_does() -> None:
    api = Api(Options(paused=True, start=datetime(8999, 12, 31, tzinfo=UTC)))
    try:
        with pytest.raises(ValueError, match="the clock goes to 9000-01-01"):
            move_clock(api, {"advance_seconds": 100_000})
        move_clock(api, {"advance_seconds": 3_600})
    finally:
        api.close()
