"""Columns of results: types of structured output, and names that would meet."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.result import attempts_schema, check_names, merged_schema, output_fields, own_names
from claude_pipeline.result.schema import arrow_type, comment_of
from claude_pipeline.workload import Workload
from claude_pipeline_tests.factory import make_workload

TYPES: list[Any] = [
    ({"type": "string"}, pa.string()),
    ({"type": "string", "enum": ["a"]}, pa.string()),
    ({"type": "integer"}, pa.int64()),
    ({"type": "number"}, pa.float64()),
    ({"type": "boolean"}, pa.bool_()),
    ({"type": ["integer", "null"]}, pa.int64()),
    ({"type": ["integer", "string"]}, pa.string()),
    ({"type": "null"}, pa.string()),
    ({"enum": [1, 2]}, pa.int64()),
    ({"enum": ["a", None]}, pa.string()),
    ({"enum": [1, 2.5, None]}, pa.float64()),
    ({"enum": [True, False]}, pa.bool_()),
    ({"enum": [1, "a"]}, pa.string()),
    ({"const": 3}, pa.int64()),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, pa.int64()),
    ({"oneOf": [{"type": "null"}, {"type": "array", "items": {"enum": [1]}}]}, pa.list_(pa.int64())),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, pa.string()),
    ({"type": "array", "items": {"type": "number"}}, pa.list_(pa.float64())),
    ({"type": "array"}, pa.list_(pa.string())),
    ({"type": "object"}, pa.string()),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"type": "array", "items": {"type": "integer"}}},
        },
        pa.struct([("a", pa.bool_()), ("b", pa.list_(pa.int64()))]),
    ),
]


@pytest.mark.parametrize(("schema", "expected"), TYPES, ids=[str(schema)[:60] for schema, _ in TYPES])
def test_a_json_schema_has_this_column_type(schema: dict[str, Any], expected: pa.DataType) -> None:
    assert arrow_type(schema) == expected


ROOT = {
    "$defs": {"money": {"type": "object", "properties": {"amount": {"type": "number"}}}, "me": {"$ref": "#/$defs/me"}}
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"$ref": "#/$defs/money"}, pa.struct([("amount", pa.float64())]), id="defined"),
        pytest.param({"anyOf": [{"$ref": "#/$defs/money"}, {"type": "null"}]}, pa.struct([("amount", pa.float64())]),
                     id="defined-or-null"),
        pytest.param({"$ref": "#/$defs/nowhere"}, pa.string(), id="leads-nowhere"),
        pytest.param({"$ref": "#/$defs/me"}, pa.string(), id="leads-to-itself"),
        pytest.param({"type": "array", "items": {"$ref": "#/$defs/me"}}, pa.list_(pa.string()), id="within-a-list"),
    ],
)  # fmt: skip
def test_a_reference_is_followed(schema: dict[str, Any], expected: pa.DataType) -> None:
    assert arrow_type(schema, ROOT) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"type": "string"}, "the answer's property queue", id="nothing-said"),
        pytest.param({"type": "string", "description": "Which team."}, "Which team", id="described"),
        pytest.param({"enum": ["a", 1, None]}, "one of a, 1, None", id="enum"),
        pytest.param({"description": "Which team", "enum": ["a", "b"]}, "Which team; one of a, b", id="both"),
        pytest.param({"$ref": "#/$defs/money"}, "the answer's property queue", id="reference"),
    ],
)
def test_a_field_says_what_the_schema_says_of_it(schema: dict[str, Any], expected: str) -> None:
    assert comment_of("queue", schema, ROOT) == expected


def workload(*properties: str) -> Workload:
    return make_workload(output={"type": "object", "properties": {name: {"type": "string"} for name in properties}})


def names_of(columns: list[str], *properties: str) -> list[str]:
    """All columns of the merged rows."""
    own = pa.schema([("record_id", pa.string()), *((name, pa.int64()) for name in columns)])
    fields = output_fields(workload(*properties)) if properties else []
    return list(merged_schema(own, fields).names)


def test_columns_stand_in_the_order_of_the_warehouse() -> None:
    assert names_of(["id", "text"], "queue") == [
        "snapshot", "id", "text", "record_id", "outcome", "answer", "queue", "answer_source", "model", "lane", "stop_reason",
        "input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd", "batch_id", "attempt",
        "error_type", "error_message", "answered_at",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["answer", "Answer", "model", "snapshot", "cost_usd"])
def test_a_records_column_with_the_name_of_a_result_column_is_kept_under_another(name: str) -> None:
    assert own_names([name, "text"], []) == {name: f"record_{name}", "text": "text"}


@pytest.mark.parametrize("name", ["answer", "OUTCOME", "chunk", "fingerprint", "position"])
def test_an_output_with_the_name_of_a_result_column_is_kept_under_another(name: str) -> None:
    assert [field.name for field in output_fields(workload(name, "queue"))] == [f"output_{name}", "queue"]


def test_a_records_column_with_the_name_of_an_output_is_kept_under_another() -> None:
    assert names_of(["queue", "text"], "Queue")[1:3] == ["record_queue", "text"]


def test_no_two_columns_of_attempts_have_one_name() -> None:
    fields = output_fields(workload("answer", "row", "queue"))
    names = [name.lower() for name in attempts_schema(fields).names]
    assert len(set(names)) == len(names)


CLASHES: list[Any] = [
    pytest.param(("Queue", "queue"), [], "two properties would be the column 'queue'", id="two-properties"),
    pytest.param(("output_answer", "answer"), [], "two properties would be the column", id="renamed-onto-a-property"),
    pytest.param(
        ("queue",), ["answer", "record_answer"], "'record_answer'.*another column", id="renamed-onto-a-column"
    ),
    pytest.param(
        ("record_model",), ["model"], "'model' would be 'record_model'.*property of the output", id="onto-output"
    ),
    pytest.param(("queue",), ["Text", "text"], "column 'text' would be 'text'.*another column", id="capitals-only"),
]


@pytest.mark.parametrize(("properties", "columns", "sentence"), CLASHES)
def test_columns_that_would_still_meet_are_refused(
    properties: tuple[str, ...], columns: list[str], sentence: str
) -> None:
    with pytest.raises(WorkloadInvalid, match=sentence):
        check_names(workload(*properties), columns)


def test_a_column_named_record_id_is_the_id_itself() -> None:
    check_names(workload("queue"), ["record_id", "text"])
    assert own_names(["record_id", "text"], []) == {"text": "text"}
