"""What the schema module accepts, the simulator answers validly, and the parser fills into columns."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import orjson
import pyarrow as pa
from hypothesis import note
from hypothesis import strategies as st

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.output_schema import NOT_ENFORCED, enforceable, problem_of
from claude_pipeline.request import params_of
from claude_pipeline.result import OutputReader, output_fields
from claude_pipeline.simulator.clock import microseconds
from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.error import Problem
from claude_pipeline.simulator.params import VERSIONS, Setting, check_params
from claude_pipeline.simulator.schema import read_schema
from claude_pipeline_tests.conftest import NOW
from claude_pipeline_tests.factory import make_workload
from claude_pipeline_tests.fuzz.claim import claim
from claude_pipeline_tests.fuzz.value import DEEP, JSON, SCALARS, TEXTS

SEEDS = 6
SETTING = Setting(VERSIONS[-1], (), batch=True, now_us=microseconds(NOW))
_NAMES = st.sampled_from(
    ["a", "b", "Answer", "cost_usd", "minimum", "required", "$defs", "type", "größe", "a b", "items", "output_answer"]
)
_NUMBERS = st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"])
_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "integer", "number", "boolean", "null"])),
    st.builds(
        lambda kind, bounds: {"type": kind, **bounds},
        st.sampled_from(["integer", "number"]),
        st.dictionaries(_NUMBERS, st.integers(1, 50), max_size=2),
    ),
    st.builds(lambda bounds: {"type": "string", **bounds}, st.dictionaries(st.sampled_from(["minLength", "maxLength"]), st.integers(0, 30))),
    st.sampled_from([{"type": "string", "pattern": "^[a-z]+$"}, {"type": "string", "format": "date"}, {}, True]),
    st.builds(lambda values: {"enum": values}, st.lists(SCALARS, min_size=1, max_size=4, unique_by=repr)),
    st.builds(lambda value: {"const": value}, JSON),
    st.sampled_from([{"$ref": "#/$defs/word"}, {"$ref": "#/$defs/pair"}, {"$ref": "#/$defs/tree"}, {"$ref": "#"}]),
    st.builds(lambda kinds: {"type": kinds}, st.lists(st.sampled_from(["string", "null", "integer", "array"]), min_size=1, max_size=2, unique=True)),
    st.builds(lambda text: {"type": "string", "description": text}, TEXTS),
)  # fmt: skip
DEFS = {
    "word": {"type": "string"},
    "pair": {"type": "object", "properties": {"a": {"$ref": "#/$defs/word"}}, "required": ["a"]},
    "tree": {"type": "object", "properties": {"more": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
}


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(_NAMES, inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda properties, some: {"type": "object", "properties": properties, "required": sorted(properties)[:some]}, fields, st.integers(0, 3)),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda word, branches: {word: branches}, st.sampled_from(["anyOf", "oneOf"]), st.lists(inner, min_size=1, max_size=2)),
        inner.map(lambda one: {"allOf": [one]}),  # of two, most have no value at all
        st.builds(lambda word, one: {"type": "string", word: one}, st.sampled_from(["not", "if", "contentSchema", "unknown"]), inner),
    )  # fmt: skip


SCHEMAS = st.builds(
    lambda properties, some, more: {"type": "object", "properties": properties, "required": sorted(properties)[:some], "$defs": DEFS, **more},
    st.dictionaries(_NAMES, st.recursive(_LEAVES, _grown, max_leaves=6), min_size=1, max_size=4),
    st.integers(0, 4),
    st.sampled_from([{}, {}, {"additionalProperties": True}, {"minProperties": 1}, {"$id": "https://example.invalid/x"}]),
)  # fmt: skip


@claim(100, schema=SCHEMAS)
def test_an_accepted_schema_is_answered_validly_and_fills_its_columns(schema: dict[str, Any]) -> None:
    note(json.dumps(schema))
    if problem_of(schema) is not None:
        return
    try:
        workload = make_workload(output=schema)
        fields = output_fields(workload)
    except WorkloadInvalid:
        return
    refused = check_params(params_of(workload, "Sort: x"), SETTING)
    assert not isinstance(refused, Problem), refused
    sent = enforceable(schema)
    make = read_schema(orjson.dumps(sent)).make
    kept = jsonschema_rs.validator_for(sent)
    reader = OutputReader(schema, fields)
    for seed in range(SEEDS):
        answer = orjson.dumps(make(Dice(b"%d" % seed), "[sha256:0123456789abcdef]")).decode()
        document = json.loads(answer)
        assert kept.is_valid(document), answer
        values, wrong = reader.read(answer)
        assert wrong is None or _tells(schema), answer
        check_columns(fields, values, document, list(schema["properties"]))


def check_columns(fields: list[pa.Field], values: list[Any], document: dict[str, Any], names: list[str]) -> None:
    """A column is null only where the answer has no value for it, and holds what the answer says."""
    for field, value, name in zip(fields, values, names, strict=True):
        assert len(pa.array([value], field.type)) == 1
        said = document.get(name)
        assert (value is None) == (said is None), (name, said)
        if pa.types.is_string(field.type) and said is not None and not isinstance(said, str):
            assert json.loads(value) == said
        elif isinstance(said, str | bool | int | float):
            assert value == said


def _tells(schema: Any) -> bool:
    """Whether a schema holds what the API is only told in words: then an answer may be outside of it."""
    if isinstance(schema, list):
        return any(map(_tells, schema))
    return isinstance(schema, dict) and (
        bool(schema.keys() & (NOT_ENFORCED | {"oneOf"}))
        or schema.get("minItems", 0) not in (0, 1)
        or any(map(_tells, schema.values()))
    )


_TEXTS = st.one_of(
    TEXTS, DEEP, JSON.map(json.dumps), st.builds(lambda name, deep: f"{{{json.dumps(name)}:{deep}}}", _NAMES, DEEP)
)


@claim(120, schema=SCHEMAS, answer=_TEXTS | st.dictionaries(_NAMES, JSON, max_size=4).map(json.dumps))
def test_any_answer_fills_the_columns_or_leaves_them_null(schema: dict[str, Any], answer: str) -> None:
    note(json.dumps(schema))
    if problem_of(schema) is not None:
        return
    try:
        fields = output_fields(make_workload(output=schema))
    except WorkloadInvalid:
        return
    values, wrong = OutputReader(schema, fields).read(answer)
    for field, value in zip(fields, values, strict=True):
        assert len(pa.array([value], field.type)) == 1
    assert wrong is not None or isinstance(json.loads(answer), dict)


@claim(
    100,
    schema=JSON | st.dictionaries(_NAMES | st.sampled_from(["type", "properties", "$ref"]), JSON | SCHEMAS, max_size=4),
)
def test_any_value_is_a_schema_or_says_why_not(schema: Any) -> None:
    if isinstance(schema, dict):
        problem = problem_of(schema)
        assert problem is None or "\n" not in problem
