"""Schemas for structured output: what is refused, and values valid by construction."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import orjson
import pytest

from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.schema import read_schema


def closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False} | more


TREE = closed({"leaf": {"$ref": "#/$defs/leaf"}}, **{"$defs": {"leaf": {"type": "string", "enum": ["a", "b"]}}})

GOOD = {
    "string": {"type": "string"},
    "enum": {"enum": ["a", 1, None]},
    "const": {"const": {"fixed": [1]}},
    "nullable": {"type": ["string", "null"]},
    "number": {"type": "number"},
    "array": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
    "object": closed({"a": {"type": "boolean"}, "b": {"type": "string"}}, required=["a"]),
    "nested": closed({"rows": {"type": "array", "items": closed({"n": {"type": "integer"}}, required=["n"])}}),
    "any-of": {"anyOf": [{"type": "integer"}, closed({"x": {"type": "null"}})]},
    "all-of": {"allOf": [closed({"a": {"type": "string"}}, required=["a"])]},
    "ref": TREE,
    **{f"format-{name}": {"type": "string", "format": name} for name in (
        "date", "time", "date-time", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
    )},
}  # fmt: skip


@pytest.mark.parametrize("schema", GOOD.values(), ids=GOOD.keys())
def test_made_values_are_valid(schema: dict[str, Any]) -> None:
    read = read_schema(orjson.dumps(schema))
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert read.problem is None
    for seed in range(200):
        value = read.make(Dice(b"%d" % seed), "[sha256:0]")
        assert validator.is_valid(value), value


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        pytest.param({"type": "object", "properties": {}}, "additionalProperties", id="open-object"),
        pytest.param(closed({"a": {"type": "integer", "minimum": 0}}), "minimum", id="minimum"),
        pytest.param(closed({"a": {"type": "string", "maxLength": 3}}), "maxLength", id="max-length"),
        pytest.param({"type": "array", "minItems": 2}, "minItems", id="min-items"),
        pytest.param(closed({"a": {"$ref": "#"}}), "[Rr]ecursive|too complex", id="recursion"),
        pytest.param({"$ref": "#/$defs/none"}, "points nowhere", id="dangling-ref"),
        pytest.param({"type": "strong"}, "not a valid JSON Schema", id="unknown-type"),
        pytest.param([], "must be an object", id="not-an-object"),
        pytest.param(closed({f"p{n}": {"type": "string"} for n in range(25)}), "too complex", id="25-optional"),
        pytest.param(
            closed({f"p{n}": {"type": ["string", "null"]} for n in range(17)}, required=[f"p{n}" for n in range(17)]),
            "too complex",
            id="17-unions",
        ),
    ],
)
def test_a_schema_outside_the_subset_is_refused(schema: Any, message: str) -> None:
    problem = read_schema(orjson.dumps(schema)).problem
    assert problem is not None
    assert re.search(message, problem), problem


def test_free_strings_carry_the_token() -> None:
    read = read_schema(orjson.dumps(closed({"a": {"type": "string"}}, required=["a"])))
    assert "[sha256:ab]" in read.make(Dice(b""), "[sha256:ab]")["a"]


def test_the_same_dice_make_the_same_value() -> None:
    read = read_schema(orjson.dumps(GOOD["nested"]))
    assert read.make(Dice(b"x"), "t") == read.make(Dice(b"x"), "t")


def test_optional_properties_are_sometimes_left_out() -> None:
    read = read_schema(orjson.dumps(GOOD["object"]))
    given = [("b" in read.make(Dice(b"%d" % seed), "t")) for seed in range(200)]
    assert 100 < sum(given) < 190
