"""An answer's text -> the output's columns, checked against the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema_rs
import orjson
import pyarrow as pa


class OutputReader:
    """Turns an answer's text into the output's columns, checked against the schema."""

    def __init__(self, schema: Mapping[str, Any] | None, fields: list[pa.Field]) -> None:
        self.fields = fields
        properties = list(schema["properties"]) if schema is not None else []
        self._columns = list(zip(properties, (fitting(field.type) for field in fields), strict=True))
        self._validator = jsonschema_rs.validator_for(dict(schema)) if schema is not None else None

    @property
    def reads(self) -> bool:
        """Whether there is an output to read answers for."""
        return self._validator is not None

    def read_all(self, answers: Sequence[str | None]) -> tuple[list[list[Any]], list[str | None]]:
        """`read` of each: the values by field, and what is wrong with each answer."""
        found = [self.read(answer) for answer in answers]
        return [[values[n] for values, _ in found] for n in range(len(self.fields))], [wrong for _, wrong in found]

    def read(self, answer: str | None) -> tuple[list[Any], str | None]:
        """Values in the order of `fields`, and what is wrong with the answer (None: it is valid)."""
        nothing: list[Any] = [None] * len(self.fields)
        if self._validator is None:
            return nothing, None
        if answer is None:
            return nothing, "no text in the answer"
        try:
            document = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return nothing, "the answer is not JSON"
        if not isinstance(document, dict):
            return nothing, "the answer is not a JSON object"
        wrong = None if self._validator.is_valid(document) else "the answer does not fit the output schema"
        return [fit(document.get(name)) for name, fit in self._columns], wrong


def fitting(kind: pa.DataType) -> Callable[[Any], Any]:
    """What makes of a JSON value one that a column of that type takes; null where it cannot (the answer's text keeps it)."""
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_boolean(kind):
        return _truth
    if pa.types.is_integer(kind):
        return _whole
    if pa.types.is_floating(kind):
        return _number
    if pa.types.is_list(kind):
        item = fitting(kind.value_type)
        return lambda value: [item(each) for each in value] if isinstance(value, list) else None
    if pa.types.is_struct(kind):
        fields = [(inner.name, fitting(inner.type)) for inner in kind]
        return lambda value: {name: fit(value.get(name)) for name, fit in fields} if isinstance(value, dict) else None
    return lambda _: None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested more deeply than it writes, though not than it reads
        return None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
