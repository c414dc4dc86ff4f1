"""JSON Schema for structured output: what the API refuses, and values that are valid by construction.

The accepted subset is the API documentation's (structured-outputs, as of 2026-08). `pattern` is
accepted there within limits and refused here, because no value is made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from claude_pipeline.simulator.dice import Dice
from claude_pipeline.simulator.word import WORDS

MOST_OPTIONAL = 24  # optional properties in one schema
MOST_UNIONS = 16  # properties whose type is a union
_OPTIONAL_GIVEN = 0.75  # share of optional properties that an answer gives
_DEPTH = 60  # deeper nesting is refused as too complex (assumed)

# A value is made from the dice and the digest token of the prompt.
Maker = Callable[[Dice, str], Any]

_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern"),
    "array": ("maxItems", "uniqueItems", "contains", "prefixItems"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
_UNSUPPORTED["integer"] = _UNSUPPORTED["number"]
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Schema:
    """A schema read once: `problem` is why the API refuses it, `make` gives a value that is valid for it."""

    problem: str | None
    make: Maker


@lru_cache(maxsize=512)
def read_schema(schema_json: bytes) -> Schema:
    """Check and prepare a schema given as JSON; the same bytes cost nothing the second time."""
    schema = orjson.loads(schema_json)
    try:
        return Schema(problem=_Check(schema).problem(), make=_maker(schema, schema, 0))
    except _Refused as refused:
        return Schema(problem=str(refused), make=_null)


class _Refused(Exception):
    """The schema cannot be compiled."""


class _Check:
    """One walk over a schema, counting what the API bounds."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.optional = 0
        self.unions = 0

    def problem(self) -> str | None:
        if not isinstance(self.root, dict):
            return "schema must be an object"
        if not jsonschema_rs.meta.is_valid(self.root):
            return "schema is not a valid JSON Schema"
        try:
            self._walk(self.root, ())
        except _Refused as refused:
            return str(refused)
        if self.optional > MOST_OPTIONAL or self.unions > MOST_UNIONS:
            return "Schema is too complex for compilation."
        return None

    def _walk(self, node: Any, path: tuple[int, ...]) -> None:
        if not isinstance(node, dict):
            return
        if id(node) in path:
            raise _Refused("Recursive schemas are not supported")
        if len(path) > _DEPTH:
            raise _Refused("Schema is too complex for compilation.")
        path = (*path, id(node))
        if "$ref" in node:
            self._walk(_resolve(self.root, node["$ref"]), path)
        for kind in _types(node):
            self._keywords(node, kind)
        if len(_types(node)) > 1 or "anyOf" in node:
            self.unions += 1
        for name in ("anyOf", "allOf"):
            for branch in node.get(name, ()):
                self._walk(branch, path)
        self._walk(node.get("items"), path)
        required = set(node.get("required", ()))
        for name, child in node.get("properties", {}).items():
            self.optional += name not in required
            self._walk(child, path)

    def _keywords(self, node: Mapping[str, Any], kind: str) -> None:
        bad = [word for word in _UNSUPPORTED.get(kind, ()) if word in node]
        if bad:
            raise _Refused(f"For '{kind}' type, properties {', '.join(bad)} are not supported")
        if kind == "array" and node.get("minItems", 0) not in (0, 1):
            raise _Refused("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        if kind == "object" and node.get("additionalProperties") is not False:
            raise _Refused("For 'object' type, 'additionalProperties' must be explicitly set to false")


def _types(node: Mapping[str, Any]) -> list[str]:
    kind = node.get("type")
    if isinstance(kind, list):
        return kind
    if isinstance(kind, str):
        return [kind]
    return ["object"] if "properties" in node else []


def _resolve(root: Mapping[str, Any], ref: str) -> Any:
    node: Any = root
    if not ref.startswith("#"):
        raise _Refused(f"External $ref {ref} is not supported")
    for part in ref[1:].strip("/").split("/"):
        if part:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or key not in node:
                raise _Refused(f"$ref {ref} points nowhere")
            node = node[key]
    return node


def _maker(root: Mapping[str, Any], node: Any, depth: int) -> Maker:
    """The function that makes values for `node`; built once, called for every answer."""
    if depth > _DEPTH:
        raise _Refused("Schema is too complex for compilation.")
    if not isinstance(node, dict):
        return _text
    if "$ref" in node:
        return _maker(root, _resolve(root, node["$ref"]), depth + 1)
    if "const" in node:
        constant = node["const"]
        return lambda dice, token: constant
    if "enum" in node:
        values = node["enum"]
        return lambda dice, token: dice.pick(values)
    if "allOf" in node:
        return _maker(root, _merged(root, node), depth + 1)
    branches = node.get("anyOf") or node.get("oneOf")
    if branches:
        return _one_of([_maker(root, branch, depth + 1) for branch in branches])
    makers = [_typed(root, node, kind, depth) for kind in _types(node)]
    return _one_of(makers) if makers else _text


def _typed(root: Mapping[str, Any], node: Mapping[str, Any], kind: str, depth: int) -> Maker:
    match kind:
        case "object":
            return _object(root, node, depth)
        case "array":
            item = _maker(root, node.get("items", {"type": "string"}), depth + 1)
            least = node.get("minItems", 0)
            return lambda dice, token: [item(dice, token) for _ in range(least + dice.below(3))]
        case "string":
            return _FORMATS.get(node.get("format", ""), _text)
        case "integer":
            return lambda dice, token: dice.below(100)
        case "number":
            return lambda dice, token: dice.below(10_000) / 100
        case "boolean":
            return lambda dice, token: dice.below(2) == 1
        case _:
            return _null


def _object(root: Mapping[str, Any], node: Mapping[str, Any], depth: int) -> Maker:
    required = set(node.get("required", ()))
    fields = [
        (name, name in required, _maker(root, child, depth + 1)) for name, child in node.get("properties", {}).items()
    ]

    def make(dice: Dice, token: str) -> dict[str, Any]:
        return {name: maker(dice, token) for name, always, maker in fields if always or dice.chance(_OPTIONAL_GIVEN)}

    return make


def _one_of(makers: list[Maker]) -> Maker:
    if len(makers) == 1:
        return makers[0]
    return lambda dice, token: dice.pick(makers)(dice, token)


def _merged(root: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with the parts of its `allOf` folded in: properties and required are joined."""
    merged: dict[str, Any] = {key: value for key, value in node.items() if key != "allOf"}
    for part in node["allOf"]:
        whole = _resolve(root, part["$ref"]) if "$ref" in part else part
        for key, value in whole.items():
            if key == "properties":
                merged[key] = merged.get(key, {}) | value
            elif key == "required":
                merged[key] = [*merged.get(key, ()), *value]
            else:
                merged.setdefault(key, value)
    return merged


def _text(dice: Dice, token: str) -> str:
    return f"{dice.pick(WORDS)} {dice.pick(WORDS)} {token}"


def _null(dice: Dice, token: str) -> None:
    return None


def _moment(dice: Dice) -> datetime:
    return _EPOCH + timedelta(seconds=dice.below(200_000_000))


def _hex(dice: Dice, digits: int) -> str:
    return "".join(dice.pick("0123456789abcdef") for _ in range(digits))


_FORMATS: dict[str, Maker] = {
    "date": lambda dice, token: _moment(dice).date().isoformat(),
    "time": lambda dice, token: _moment(dice).strftime("%H:%M:%SZ"),
    "date-time": lambda dice, token: _moment(dice).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "duration": lambda dice, token: f"PT{1 + dice.below(600)}M",
    "email": lambda dice, token: f"{dice.pick(WORDS)}@example.com",
    "hostname": lambda dice, token: f"{dice.pick(WORDS)}.example.com",
    "uri": lambda dice, token: f"https://example.com/{dice.pick(WORDS)}/{dice.below(10_000)}",
    "ipv4": lambda dice, token: f"192.0.2.{dice.below(256)}",
    "ipv6": lambda dice, token: f"2001:db8::{dice.below(65_536):x}",
    "uuid": lambda dice, token: f"{_hex(dice, 8)}-{_hex(dice, 4)}-4{_hex(dice, 3)}-a{_hex(dice, 3)}-{_hex(dice, 12)}",
}
