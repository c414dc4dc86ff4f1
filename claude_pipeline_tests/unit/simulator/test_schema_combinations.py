"""Schemas whose keywords meet: values stay valid, and what has no end or no value is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.schema import read_schema
from claude_pipeline_tests.unit.simulator.test_schema import closed

DEFS = {"$defs": {"word": {"type": "string"}, "pair": closed({"a": {"$ref": "#/$defs/word"}}, required=["a"])}}

_leaves = st.sampled_from(
    [
        *({"type": kind} for kind in ("string", "integer", "number", "boolean", "null")),
        {"type": "string", "enum": ["a", 1, "b"]},
        {"enum": ["a", 1, None, True]},
        {"const": "only"},
        {"type": ["string", "null"], "description": "maybe"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "text"},
        {"$ref": "#/$defs/word"},
        {"$ref": "#/$defs/pair", "description": "named elsewhere"},
    ]
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    shapes = fields.map(lambda properties: closed(properties, required=sorted(properties)[:2]))
    return st.one_of(
        shapes,
        shapes.map(lambda shape: shape | {"anyOf": [{"required": []}, {"description": "as it is"}]}),
        shapes.map(lambda shape: {"allOf": [shape]}),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 1)),
        st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches}),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.recursive(_leaves, _grown, max_leaves=8))
def test_a_value_of_any_accepted_schema_is_valid(inner: Any) -> None:
    schema = closed({"it": inner}, required=["it"]) | DEFS
    read = read_schema(orjson.dumps(schema))
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert read.problem is None, json.dumps(schema)
    for seed in range(20):
        value = read.make(Dice(b"%d" % seed), "[sha256:0]")
        assert validator.is_valid(value), (schema, value)


def test_an_enum_beside_a_type_gives_values_of_that_type_only() -> None:
    read = read_schema(b'{"type":"string","enum":["a",1,null]}')
    assert {read.make(Dice(b"%d" % seed), "t") for seed in range(50)} == {"a"}


@pytest.mark.parametrize("word", ["oneOf", "not", "if", "dependentRequired", "unevaluatedProperties"])
def test_a_keyword_that_is_nowhere_supported_is_refused(word: str) -> None:
    value: Any = {"oneOf": [{"type": "string"}], "dependentRequired": {}}.get(word, {"type": "string"})
    problem = read_schema(orjson.dumps(closed({"a": {word: value}}))).problem
    assert problem == f"Schema keyword '{word}' is not supported"


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(closed({"a": {"type": "string"}}, required=["b"]), id="required-of-no-property"),
        pytest.param({"type": "string", "enum": [1]}, id="enum-without-a-value"),
        pytest.param(
            {"$ref": "#/$defs/n0"}
            | {
                "$defs": {
                    f"n{n}": closed({key: {"$ref": f"#/$defs/n{n + 1}"} for key in "ab"}, required=["a", "b"])
                    for n in range(50)
                }
                | {"n50": {"const": 1}}
            },
            id="doubling-references",
        ),
    ],
)
def test_a_schema_for_which_nothing_can_be_made_is_refused(schema: Any) -> None:
    assert read_schema(orjson.dumps(schema)).problem is not None


def test_the_names_of_a_schema_are_not_looked_up() -> None:
    read = read_schema(b'{"$schema":"https://example.invalid/x","$id":"https://example.invalid/y","type":"null"}')
    assert read.problem is None
