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
from claude_pipeline.simulator.hint import bounds_of, integer_within, items_within, number_within, text_within
from claude_pipeline.simulator.word import WORDS

MOST_OPTIONAL = 24  # optional properties in one schema
MOST_UNIONS = 16  # properties whose type is a union
NOT_A_SCHEMA = "schema is not a valid JSON Schema"
_OPTIONAL_GIVEN = 0.75  # share of optional properties that an answer gives
_MOST_NODES = 5_000  # in one schema (assumed)
_MOST_THROWS = 10_000  # for one value (assumed)
_SAMPLES = 20  # values that are tried before a schema is accepted
_DEPTH = 60  # deeper nesting is refused as too complex (assumed)

# A value is made from the dice and the digest token of the prompt.
Maker = Callable[[Dice, str], Any]

_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength", "pattern"),
    "array": ("maxItems", "uniqueItems", "contains", "prefixItems"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
_NOWHERE = (
    *("oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"),
    *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
)
_UNSUPPORTED["integer"] = _UNSUPPORTED["number"]
_ANY_ITEM = {"type": "string"}  # of lists without `items`; one object, since makers are kept by identity
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
    if isinstance(schema, dict):  # they name the schema, and would be looked up on the network
        schema = {word: value for word, value in schema.items() if word not in ("$schema", "$id")}
    problem = _Check(schema).problem()
    if problem == NOT_A_SCHEMA:
        return Schema(problem, _null)
    try:
        make = _Makers(schema).maker(schema, 0)
        samples = [make(_ShortDice(b"%d" % n), "[sha256:0123456789abcdef]") for n in range(_SAMPLES)]
    except _Refused as refused:
        return Schema(problem=problem or str(refused), make=_null)
    if problem is None and not _all_valid(schema, samples):  # keywords may contradict each other
        problem = "Schema is too complex for compilation."
    return Schema(problem, make)


def _all_valid(schema: Any, samples: list[Any]) -> bool:
    try:
        return all(map(jsonschema_rs.validator_for(schema).is_valid, samples))
    except (jsonschema_rs.ReferencingError, jsonschema_rs.ValidationError):
        return False


class _Refused(Exception):
    """The schema cannot be compiled."""


class _ShortDice(Dice):
    """Dice that find out that a value has no end in sight: each part of a value takes a throw."""

    __slots__ = ("_left",)

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._left = _MOST_THROWS

    def below(self, bound: int) -> int:
        self._left -= 1
        if self._left < 0:
            raise _Refused("Schema is too complex for compilation.")
        return super().below(bound)


class _Check:
    """One walk over a schema, counting what the API bounds."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.optional = 0
        self.unions = 0
        self._done: set[int] = set()  # nodes that were walked: two references to one are one

    def problem(self) -> str | None:
        if not isinstance(self.root, dict):
            return "schema must be an object"
        if not jsonschema_rs.meta.is_valid(self.root):
            return NOT_A_SCHEMA
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
        if id(node) in self._done:
            return
        path = (*path, id(node))
        bad = [word for word in _NOWHERE if word in node]
        if bad:
            raise _Refused(f"Schema keyword '{bad[0]}' is not supported")
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
        self._done.add(id(node))

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


class _Makers:
    """Builds the functions that make values; each node's once, called for every answer."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._made: dict[int, Maker] = {}
        self._built = 0
        self._kept: list[Any] = []  # merged nodes, so that no two nodes have one id

    def maker(self, node: Any, depth: int) -> Maker:
        """The function that makes values for `node`. Refuses what has no end."""
        if depth > _DEPTH:
            raise _Refused("Schema is too complex for compilation.")
        if not isinstance(node, dict):
            return _text
        if id(node) not in self._made:
            self._made[id(node)] = _endless
            self._made[id(node)] = self._build(node, depth)
        if self._made[id(node)] is _endless:
            raise _Refused("Recursive schemas are not supported")
        return self._made[id(node)]

    def _build(self, node: dict[str, Any], depth: int) -> Maker:
        self._built += 1
        if self._built > _MOST_NODES:
            raise _Refused("Schema is too complex for compilation.")
        if "$ref" in node:
            return self.maker(_resolve(self._root, node["$ref"]), depth + 1)
        if "const" in node or "enum" in node:
            return self._choice(node)
        if "allOf" in node:
            return self.maker(self._merged(node, node["allOf"], "allOf"), depth + 1)
        for word in ("anyOf", "oneOf"):
            if node.get(word):
                alone = len(node) == 1
                branches = [branch if alone else self._merged(node, [branch], word) for branch in node[word]]
                return _one_of(self._those_with_an_end(branches, depth))
        makers = [self._typed(node, kind, depth) for kind in _types(node)]
        return _one_of(makers) if makers else _text

    def _choice(self, node: dict[str, Any]) -> Maker:
        values = [node["const"]] if "const" in node else node["enum"]
        if len(node) > 1:  # a type beside the values narrows them
            definitions = {word: self._root[word] for word in ("$defs", "definitions") if word in self._root}
            is_valid = jsonschema_rs.validator_for(definitions | node).is_valid
            values = [value for value in values if is_valid(value)]
        if not values:
            raise _Refused("no value of the enum is valid")
        return lambda dice, token: dice.pick(values)

    def _typed(self, node: Mapping[str, Any], kind: str, depth: int) -> Maker:
        bounds = bounds_of(node)
        match kind:
            case "object":
                return self._object(node, depth)
            case "array":
                return self._array(node, depth)
            case "string":
                if bounds and node.get("format") not in _FORMATS:
                    return lambda dice, token: text_within(_text(dice, token), token, bounds)
                return _FORMATS.get(node.get("format", ""), _text)
            case "integer":
                integer = integer_within(bounds)
                return lambda dice, token: integer(dice)
            case "number":
                number = number_within(bounds)
                return lambda dice, token: number(dice)
            case "boolean":
                return lambda dice, token: dice.below(2) == 1
            case _:
                return _null

    def _array(self, node: Mapping[str, Any], depth: int) -> Maker:
        least, lengths = items_within(bounds_of(node), node.get("minItems", 0))
        try:
            item = self.maker(node.get("items", _ANY_ITEM), depth + 1)
        except _Refused:
            if least:
                raise
            return lambda dice, token: []
        return lambda dice, token: [item(dice, token) for _ in range(least + dice.below(lengths))]

    def _object(self, node: Mapping[str, Any], depth: int) -> Maker:
        required = set(node.get("required", ()))
        fields: list[tuple[str, bool, Maker]] = []
        for name, child in node.get("properties", {}).items():
            try:
                fields.append((name, name in required, self.maker(child, depth + 1)))
            except _Refused:
                if name in required:
                    raise

        def make(dice: Dice, token: str) -> dict[str, Any]:
            dice.below(1)
            return {
                name: maker(dice, token) for name, always, maker in fields if always or dice.chance(_OPTIONAL_GIVEN)
            }

        return make

    def _those_with_an_end(self, branches: list[dict[str, Any]], depth: int) -> list[Maker]:
        makers = []
        for branch in branches:
            try:
                makers.append(self.maker(branch, depth + 1))
            except _Refused as refused:
                last = refused
        if not makers:
            raise last
        return makers

    def _merged(self, node: Mapping[str, Any], parts: list[Any], word: str) -> dict[str, Any]:
        """The node with these parts of its `word` folded in: properties and required are joined."""
        merged: dict[str, Any] = {key: value for key, value in node.items() if key != word}
        for part in parts:
            whole = _resolve(self._root, part["$ref"]) if isinstance(part, dict) and "$ref" in part else part
            for key, value in whole.items() if isinstance(whole, dict) else ():
                if key == "properties":
                    mine = merged.get(key, {})
                    both = {name: {"allOf": [mine[name], value[name]]} for name in value if name in mine}
                    merged[key] = mine | value | both
                elif key == "required":
                    merged[key] = [*merged.get(key, ()), *value]
                elif key == "enum" and key in merged:
                    merged[key] = [choice for choice in merged[key] if choice in value]
                else:
                    merged.setdefault(key, value)
        self._kept.append(merged)
        return merged


def _one_of(makers: list[Maker]) -> Maker:
    if len(makers) == 1:
        return makers[0]
    return lambda dice, token: dice.pick(makers)(dice, token)


def _endless(dice: Dice, token: str) -> Any:
    """Stands for a maker that is being built: whoever meets it goes round in a circle."""
    raise AssertionError("never called")


def _text(dice: Dice, token: str) -> str:
    return f"{dice.pick(WORDS)} {dice.pick(WORDS)} {token}"


def _null(dice: Dice, token: str) -> None:
    dice.below(1)


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
