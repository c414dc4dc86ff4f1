"""The types of JSON records, over all of them rather than a sample.

A `Shape` collects what a value was in each record; `duckdb_type` is the narrowest type that holds
all of it without loss. Whatever mixes kinds becomes text.
"""

from __future__ import annotations

from typing import Any

from claude_pipeline.dataset.table import folded
from claude_pipeline.sql import identifier

FIELDS_MAX = 200  # an object with more different keys is a map: kept as JSON text
DEPTH_MAX = 12
_EXACT_IN_DOUBLE = 2**53
_INT64 = 2**63

BOOLEAN, INTEGER, LONG, FLOAT, TEXT, LIST, OBJECT, WIDE = (1 << n for n in range(8))  # LONG: not exact in a double


class Shape:
    """What was seen at one place of the records: kinds as bits, and the shapes below."""

    __slots__ = ("fields", "item", "kinds", "many")

    def __init__(self) -> None:
        self.kinds = 0
        self.many = False
        self.fields: dict[str, Shape] = {}
        self.item: Shape | None = None

    def observe(self, value: Any) -> None:
        """Take note of one value, as a JSON parser gives it. Null says nothing."""
        if value is None:
            return
        if isinstance(value, str):
            self.kinds |= TEXT
        elif isinstance(value, bool):
            self.kinds |= BOOLEAN
        elif isinstance(value, int):
            self.kinds |= _width(value)
        elif isinstance(value, float):
            self.kinds |= FLOAT
        elif isinstance(value, list):
            self.kinds |= LIST
            if self.item is None:
                self.item = Shape()
            for item in value:
                self.item.observe(item)
        else:
            self.kinds |= OBJECT
            if not self.many:
                self._observe_fields(value)

    def _observe_fields(self, value: dict[str, Any]) -> None:
        for key, inner in value.items():
            shape = self.fields.get(key)
            if shape is None:
                if len(self.fields) >= FIELDS_MAX:
                    self.many = True
                    self.fields.clear()
                    return
                shape = self.fields[key] = Shape()
            shape.observe(inner)

    def duckdb_type(self, depth: int = 0) -> str:
        kinds = self.kinds
        if kinds == BOOLEAN:
            return "BOOLEAN"
        if kinds and not kinds & ~(INTEGER | LONG):
            return "BIGINT"
        if kinds & FLOAT and not kinds & ~(INTEGER | FLOAT):
            return "DOUBLE"
        if depth < DEPTH_MAX:
            if kinds == LIST and self.item is not None:
                return f"{self.item.duckdb_type(depth + 1)}[]"
            if kinds == OBJECT and self._is_struct():
                fields = (f"{identifier(key)} {shape.duckdb_type(depth + 1)}" for key, shape in self.fields.items())
                return f"STRUCT({', '.join(fields)})"
        return "VARCHAR"

    def _is_struct(self) -> bool:
        names = list(self.fields)
        return (
            bool(names)
            and not self.many
            and all(name and "\0" not in name for name in names)
            and len({folded(name) for name in names}) == len(names)
        )


def _width(value: int) -> int:
    if -_EXACT_IN_DOUBLE <= value <= _EXACT_IN_DOUBLE:
        return INTEGER
    return LONG if -_INT64 <= value < _INT64 else WIDE
