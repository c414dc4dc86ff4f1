"""Where a schema allows only certain values: the SQL that reads them out of result rows, and all that are allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_pipeline.result import output_fields
from claude_pipeline.sql import identifier, literal
from claude_pipeline.workload import Workload

LEAVES_MAX = 20
DEPTH_MAX = 6
ITEMS = "[]"
PLAIN = ("varchar", "boolean", "bigint", "double")  # DuckDB's types of what can be a choice


@dataclass(frozen=True)
class Leaf:
    """An enum or a boolean, at any depth. `sql` gives one value per row, or with `many` a list of them."""

    name: str  # lines[].unit
    values: tuple[str, ...]
    sql: str
    many: bool
    path: tuple[str, ...]  # the column in results, then properties and ITEMS

    def counts(self, results: str) -> str:
        """SELECT of value and how often, over answers that fit the schema."""
        value = f"unnest({self.sql})" if self.many else self.sql
        fit = "outcome = 'succeeded' AND error_type IS NULL"
        values = (
            f"SELECT CAST(v AS VARCHAR) AS v FROM (SELECT {value} AS v FROM {results} WHERE {fit}) WHERE v IS NOT NULL"
        )
        return f"SELECT v, count(*) FROM ({values}) GROUP BY v ORDER BY 2 DESC, 1 LIMIT 100"


def leaves_of(workload: Workload) -> list[Leaf]:
    """Those of a workload's output, as its results would have them."""
    if workload.output is None:
        return []
    root, found = workload.output, list[Leaf]()
    for (name, schema), column in zip(root["properties"].items(), output_fields(workload), strict=True):
        start = Leaf(name, (), identifier(column.name), False, (column.name,))
        found += _leaves(schema, root, start, depth=0)
    return found[:LEAVES_MAX]


def leaves_in(duck: Any, relation: str, leaves: Sequence[Leaf]) -> list[Leaf]:
    """Those that a relation's columns have: rows of an earlier schema may be of other types."""
    rows = duck.sql(f"FROM {relation} LIMIT 0")
    types = dict(zip(rows.columns, rows.types, strict=True))
    return [leaf for leaf in leaves if _fits(types.get(leaf.path[0]), leaf.path[1:])]


def decisive(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether a property is a choice or a number: of free text nobody expects the same words twice."""
    found = _resolved(schema, root)
    return "enum" in found or _kind(found) in ("boolean", "integer", "number")


def _leaves(schema: Any, root: Mapping[str, Any], at: Leaf, *, depth: int) -> Iterator[Leaf]:
    if depth > DEPTH_MAX:
        return
    found = _resolved(schema, root)
    kind = _kind(found)
    if kind == "boolean":
        yield Leaf(at.name, ("true", "false"), at.sql, at.many, at.path)
    elif isinstance(found.get("enum"), list) and kind in ("string", "integer", "number"):
        values = tuple(str(value) for value in found["enum"] if value is not None)
        yield Leaf(at.name, values, at.sql, at.many, at.path)
    elif kind == "object":
        for key, inner in (found.get("properties") or {}).items():
            one = f"struct_extract({{}}, {literal(key)})"
            sql = f"list_transform({at.sql}, lambda x: {one.format('x')})" if at.many else one.format(at.sql)
            yield from _leaves(
                inner, root, Leaf(f"{at.name}.{key}", (), sql, at.many, (*at.path, key)), depth=depth + 1
            )
    elif kind == "array":
        sql = f"flatten({at.sql})" if at.many else at.sql
        items = Leaf(f"{at.name}{ITEMS}", (), sql, True, (*at.path, ITEMS))
        yield from _leaves(found.get("items"), root, items, depth=depth + 1)


def _fits(kind: Any, path: Sequence[str]) -> bool:
    for step in path:
        if kind is None or kind.id not in ("struct", "list") or (kind.id == "list") != (step == ITEMS):
            return False
        kind = kind.children[0][1] if step == ITEMS else dict(kind.children).get(step)
    return kind is not None and kind.id in PLAIN


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """References and a choice between one thing and null followed, a few steps at most; empty where they lead nowhere."""
    for _ in range(DEPTH_MAX):
        if not isinstance(schema, Mapping):
            return {}
        choices = [s for s in schema.get("anyOf") or schema.get("oneOf") or () if s != {"type": "null"}]
        if isinstance(schema.get("$ref"), str):
            place: Any = root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                place = place.get(part) if isinstance(place, Mapping) else None
            schema = place
        elif len(choices) == 1 and "type" not in schema:
            schema = choices[0]
        else:
            return schema
    return {}


def _kind(schema: Mapping[str, Any]) -> str | None:
    """The one type of a schema beside null."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = [k for k in kind if k != "null"]
        return kinds[0] if len(kinds) == 1 else None
    if kind is None and schema.get("enum") and all(isinstance(value, str | None) for value in schema["enum"]):
        return "string"
    return kind if isinstance(kind, str) else None
