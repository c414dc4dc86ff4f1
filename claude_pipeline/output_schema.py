"""The output's JSON Schema as the API takes it: what it cannot enforce becomes words.

The API enforces a subset (docs, structured outputs, 2026-08): every object closed, no bounds on
numbers, lengths or counts, no patterns. A user's schema may hold those: they are moved into the
`description`, where the model reads them, and each answer is checked here against the whole schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

OPTIONAL_MAX = 24  # optional properties in one schema, catalog/limits.yaml
UNIONS_MAX = 16  # properties whose type is a union, catalog/limits.yaml
NOT_ENFORCED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
     "maxItems", "uniqueItems", "contains", "prefixItems", "minProperties", "maxProperties", "patternProperties",
     "propertyNames"}
)  # fmt: skip
REFUSED = (
    *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "unevaluatedProperties"),
    *("unevaluatedItems", "$dynamicRef", "$recursiveRef"),
)  # no words of ours could stand for these (docs, structured outputs)
VALUES = ("enum", "const", "default", "required", "examples")  # what they hold are values, not schemas
DEPTH_MAX = 50  # of schemas in each other; assumed, the API compiles no endless ones
HOLDS_SCHEMAS = frozenset({"properties", "$defs", "definitions"})  # their keys are names, not keywords


def enforceable(schema: Any) -> Any:
    """The schema to send: objects closed, what the API does not enforce told in words."""
    match schema:
        case dict():
            schema = _with_any_of(schema)
            told = {key: schema[key] for key in schema if key in NOT_ENFORCED or _too_many_items(key, schema[key])}
            inner = {
                key: {name: enforceable(s) for name, s in value.items()} if _holds(key, value) else enforceable(value)
                for key, value in schema.items()
                if key not in told and key not in VALUES
            }
            inner |= {key: schema[key] for key in VALUES if key in schema}
            if schema.get("type") == "object":
                inner["additionalProperties"] = False
            if told:
                words = "; ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items())
                inner["description"] = " ".join(filter(None, (schema.get("description"), f"({words})")))
            return inner
        case list():
            return [enforceable(item) for item in schema]
        case _:
            return schema


def _with_any_of(schema: dict[str, Any]) -> dict[str, Any]:
    """`oneOf` as `anyOf`, which the API takes: that only one of them fits is checked here."""
    if "oneOf" not in schema or "anyOf" in schema:
        return schema
    return {"anyOf" if key == "oneOf" else key: value for key, value in schema.items()}


def problem_of(schema: dict[str, Any]) -> str | None:
    """Why a schema cannot be an output, in one clause; None where it can."""
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict) or not schema["properties"]:
        return "must be a JSON Schema with type: object and properties:, so that answers become columns"
    if _depth_passes(schema, DEPTH_MAX * 2):
        return f"is nested more than {DEPTH_MAX} schemas deep; flatten it"
    odd = next((name for name in _names(schema) if not isinstance(name, str) or not name), None)
    if odd is not None:
        return f"has the name {odd!r}, which is no text: quote it"
    if not jsonschema_rs.meta.is_valid(schema):
        return "is no valid JSON Schema (draft 2020-12)"
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:  # a pattern or a reference that leads nowhere
        return f"cannot be compiled: {str(error).splitlines()[0]}"
    problem = _untaken(schema, schema, (), set()) or next(_never(schema), None)
    if problem is not None:
        return problem
    missing = [key for key in schema.get("required", []) if key not in schema["properties"]]
    if missing:
        return f"required names {missing[0]!r}, which is not among the properties"
    optional, unions = _count(schema)
    if optional > OPTIONAL_MAX:
        return f"has {optional} optional properties, the API takes {OPTIONAL_MAX}; put them under required:"
    if unions > UNIONS_MAX:
        return f"has {unions} properties of several types, the API takes {UNIONS_MAX}; give each one type"
    return None


def _names(schema: Any) -> Iterator[Any]:
    """Every key of a schema: YAML makes numbers and truth values of unquoted ones."""
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            yield from _names(value)
    if isinstance(schema, dict):
        yield from schema


def _never(schema: Any) -> Iterator[str]:
    """Each value of an enum that its type forbids: YAML makes truth values of a bare yes or no."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str | list):
            only = jsonschema_rs.validator_for({"type": schema["type"]})
            values = [*(schema.get("enum") or ()), *([schema["const"]] if "const" in schema else ())]
            yield from (
                f"has the value {json.dumps(value)} where only {schema['type']} may stand; quote it"
                for value in values
                if not only.is_valid(value)
            )
        for key, value in schema.items():
            if key not in ("enum", "const", "default", "required"):
                yield from _never(list(value.values()) if _holds(key, value) else value)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _never(inner)


def _depth_passes(value: Any, most: int) -> bool:
    """Whether containers stand in each other more than `most` deep; level by level, since any depth may come."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _untaken(node: Any, root: dict[str, Any], path: tuple[int, ...], done: set[int]) -> str | None:
    """What the API does not take in a schema or in what it refers to, in one clause."""
    if isinstance(node, list):
        return next((problem for item in node if (problem := _untaken(item, root, path, done))), None)
    if not isinstance(node, dict) or id(node) in done:
        return None
    if id(node) in path:
        return "refers to itself, and the API takes no recursive schema; write out as many levels as are wanted"
    if len(path) > DEPTH_MAX:
        return f"is nested more than {DEPTH_MAX} schemas deep; flatten it"
    refused = next((word for word in REFUSED if word in node), None)
    refused = refused or ("oneOf" if "oneOf" in node and "anyOf" in node else None)
    if refused is not None:
        return f"holds {refused}, which the API does not take; say it in the prompt, or with anyOf"
    path = (*path, id(node))
    inner = [_target(node["$ref"], root)] if "$ref" in node else []
    for key, value in node.items():
        if key not in VALUES and key not in NOT_ENFORCED and key not in ("$defs", "definitions"):
            inner.append(list(value.values()) if _holds(key, value) else value)
    problem = _untaken(inner, root, path, done)
    done.add(id(node))
    return problem


def _target(reference: str, root: dict[str, Any]) -> Any:
    """What a reference names; nothing where it leads out of the schema, which cannot be compiled anyway."""
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if reference.startswith("#") else None


def _holds(key: str, value: Any) -> bool:
    return key in HOLDS_SCHEMAS and isinstance(value, dict)


def _too_many_items(key: str, value: Any) -> bool:
    return key == "minItems" and value not in (0, 1)


def _count(schema: Any) -> tuple[int, int]:
    """Optional properties and unions in a schema and all within it."""
    if isinstance(schema, list):
        counts = [_count(item) for item in schema]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)
    if not isinstance(schema, dict):
        return 0, 0
    properties = schema.get("properties")
    optional = len(set(properties) - set(schema.get("required", []))) if isinstance(properties, dict) else 0
    unions = int(isinstance(schema.get("type"), list) or "anyOf" in schema or "oneOf" in schema)
    for key, value in schema.items():
        inner = list(value.values()) if _holds(key, value) else value
        below = _count(inner) if key not in VALUES else (0, 0)
        optional, unions = optional + below[0], unions + below[1]
    return optional, unions
