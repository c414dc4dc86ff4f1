"""What a schema becomes for the API, and which schemas are refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pipeline.output_schema import enforceable, problem_of
from claude_pipeline.simulator.schema import read_schema


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_objects_are_closed_at_every_depth() -> None:
    found = enforceable(schema(a={"type": "array", "items": schema(b={"type": "string"})}))

    assert found["additionalProperties"] is False
    assert found["properties"]["a"]["items"]["additionalProperties"] is False


def test_bounds_become_words_the_model_reads() -> None:
    found = enforceable(schema(stars={"type": "integer", "minimum": 1, "maximum": 5, "description": "How good."}))

    assert found["properties"]["stars"] == {"type": "integer", "description": "How good. (minimum: 1; maximum: 5)"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("minimum", {"type": "string"}), ("pattern", {"type": "string"}), ("required", {"type": "boolean"})],
)
def test_a_property_named_as_a_keyword_stays(name: str, value: dict[str, Any]) -> None:
    assert enforceable(schema(**{name: value}))["properties"] == {name: value}


def test_enums_and_constants_stay_as_written() -> None:
    values = [{"type": "object"}, ["minimum"], None]
    assert enforceable({"enum": values}) == {"enum": values}


@pytest.mark.parametrize(
    "given",
    [
        schema(a={"type": "string", "maxLength": 3}),
        schema(a={"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 3}),
        schema(a={"anyOf": [{"type": "string", "pattern": "^a"}, {"type": "null"}]}),
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": schema(b={"type": "string"})}},
    ],
    ids=["length", "items", "any-of", "reference"],
)
def test_what_is_sent_is_what_the_api_takes(given: dict[str, Any]) -> None:
    import orjson

    assert problem_of(given) is None
    assert read_schema(orjson.dumps(enforceable(given))).problem is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"type": "string"}, "must be a JSON Schema with type: object"),
        ({"type": "object", "properties": {}}, "must be a JSON Schema with type: object"),
        (schema(a={"type": "strin"}), "no valid JSON Schema"),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, "required names 'b'"),
        (schema(a={"type": "string", "pattern": "(["}), "cannot be compiled"),
        (schema(a={"$ref": "#/$defs/gone"}), "cannot be compiled"),
        ({"type": "object", "properties": {f"p{n}": {} for n in range(25)}}, "25 optional properties"),
        (schema(**{f"p{n}": {"type": ["string", "null"]} for n in range(17)}), "17 properties of several types"),
    ],
    ids=[
        "no-object",
        "no-properties",
        "not-a-schema",
        "required-unknown",
        "bad-pattern",
        "reference-to-nowhere",
        "too-many-optional",
        "too-many-unions",
    ],
)
def test_a_schema_that_cannot_be_an_output_is_refused(given: dict[str, Any], sentence: str) -> None:
    assert sentence in (problem_of(given) or "")
