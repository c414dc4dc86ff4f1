"""An answer's text -> the output's columns, checked against the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs
import orjson
import pyarrow as pa


class OutputReader:
    """Turns an answer's text into the output's columns, checked against the schema."""

    def __init__(self, schema: Mapping[str, Any] | None, fields: list[pa.Field]) -> None:
        self.fields = fields
        properties = list(schema["properties"]) if schema is not None else []
        self._columns = list(zip(properties, (f.type for f in fields), strict=True))
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
        return [fit(document.get(name), kind) for name, kind in self._columns], wrong


def fit(value: Any, kind: pa.DataType) -> Any:
    """`value` as a column of that type takes it; null where it cannot (the answer's text keeps it)."""
    if value is None:
        return None
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else _as_text(value)
    if pa.types.is_boolean(kind):
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if pa.types.is_integer(kind):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return int(value) if whole and -(2**63) <= value < 2**63 else None
    if pa.types.is_floating(kind):
        return float(value) if isinstance(value, int | float) else None
    if pa.types.is_list(kind):
        return [fit(item, kind.value_type) for item in value] if isinstance(value, list) else None
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {inner.name: fit(value.get(inner.name), inner.type) for inner in kind}
    return None


def _as_text(value: Any) -> str | None:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested more deeply than it writes, though not than it reads
        return None
