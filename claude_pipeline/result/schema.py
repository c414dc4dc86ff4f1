"""Columns of result rows: of attempts (one row per request and attempt) and of merged records.

Costs are USD, exact to 1e-10; times are UTC; token counts are the API's. `input_tokens` is what no
cache touched; the whole input is input + cache_write + cache_read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from claude_pipeline.errors import WorkloadInvalid
from claude_pipeline.workload import Workload

MOMENT = pa.timestamp("us", tz="UTC")
COMMENT = b"comment"  # a field's own metadata
_TYPE_NAMES: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", type(None): "null",
}  # fmt: skip

# Columns of a result beside the record's own and the output's, in the warehouse's order.
BEFORE_OUTPUT: tuple[tuple[str, pa.DataType], ...] = (
    ("record_id", pa.string()),
    ("outcome", pa.string()),  # succeeded, errored, canceled, expired; rejected: never sent
    ("answer", pa.string()),
)
AFTER_OUTPUT: tuple[tuple[str, pa.DataType], ...] = (
    ("answer_source", pa.string()),  # batch, realtime, reuse, duplicate; null without an answer
    ("model", pa.string()),
    ("lane", pa.string()),
    ("stop_reason", pa.string()),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("cache_write_tokens", pa.int64()),
    ("cache_read_tokens", pa.int64()),
    ("cost_usd", pa.float64()),  # paid for this record in this snapshot
    ("batch_id", pa.string()),
    ("attempt", pa.int32()),
    ("error_type", pa.string()),
    ("error_message", pa.string()),
    ("answered_at", MOMENT),
)
ATTEMPT_KEYS: tuple[tuple[str, pa.DataType], ...] = (
    ("snapshot", pa.string()),
    ("chunk", pa.string()),
    ("position", pa.int32()),
    ("row", pa.int64()),
    ("fingerprint", pa.binary(32)),
    ("custom_id", pa.string()),
    ("verdict", pa.string()),  # answered, retry, permanent, stop
    ("message_id", pa.string()),
    ("max_tokens", pa.int64()),  # as it was asked
)
RESULT_NAMES = frozenset(name for name, _ in BEFORE_OUTPUT + AFTER_OUTPUT) | {"snapshot"}
ATTEMPT_NAMES = RESULT_NAMES | {name for name, _ in ATTEMPT_KEYS}


def output_fields(workload: Workload) -> list[pa.Field]:
    """The columns into which a workload's answers are parsed, in the order of the output's properties.

    A property with the name of a column that every result has is kept as `output_<name>`. Each field carries what the
    schema says of it: it goes into the Parquet files, and from there into the warehouse's comments.
    """
    if workload.output is None:
        return []
    taken = {name.lower() for name in ATTEMPT_NAMES}
    fields = []
    for name, schema in workload.output["properties"].items():
        final = f"output_{name}" if name.lower() in taken else name
        comment = {COMMENT: comment_of(name, schema, workload.output)}
        fields.append(pa.field(final, arrow_type(schema, workload.output), metadata=comment))
    return fields


def comments_of(schema: pa.Schema) -> dict[str, str]:
    """What the fields of a part say of themselves: those of the output do."""
    return {field.name: field.metadata[COMMENT].decode() for field in schema if COMMENT in (field.metadata or {})}


def own_names(columns: Iterable[str], output: Iterable[pa.Field]) -> dict[str, str]:
    """The record's own columns with the names they have in results.

    One with the name of a result or output column is kept as `record_<name>`: the dataset need not
    be changed for it (gsm8k has an `answer` of its own).
    """
    taken = {name.lower() for name in RESULT_NAMES} | {field.name.lower() for field in output}
    return {name: f"record_{name}" if name.lower() in taken else name for name in columns if name != "record_id"}


def arrow_type(schema: Any, root: Mapping[str, Any] | None = None) -> pa.DataType:
    """The column type of a JSON Schema; what has no single plain type is kept as JSON text.

    Null beside another type leaves that type; `enum` and `const` without a `type` have that of their values; a
    reference (`$ref`) is looked up in `root`. An enum of texts is text: its values may change with the next version
    of a workload, and what was answered under this one stays readable.
    """
    return _arrow_type(schema, root or {}, ())


def _arrow_type(schema: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> pa.DataType:
    schema, within = _resolved(schema, root, within)
    match _kind(schema):
        case "string":
            return pa.string()
        case "integer":
            return pa.int64()
        case "number":
            return pa.float64()
        case "boolean":
            return pa.bool_()
        case "array":
            return pa.list_(_arrow_type(schema.get("items", {}), root, within))
        case "object" if schema.get("properties"):
            properties = schema["properties"].items()
            return pa.struct([pa.field(name, _arrow_type(inner, root, within)) for name, inner in properties])
        case _:
            return pa.string()


def _resolved(schema: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """What a schema says once references and `anyOf` with null are followed; nothing of one that holds itself."""
    while isinstance(schema, Mapping):
        reference = schema.get("$ref")
        choices = [s for s in schema.get("anyOf") or schema.get("oneOf") or () if s != {"type": "null"}]
        if isinstance(reference, str):
            if reference in within or not reference.startswith("#/"):
                return {}, within
            within, found = (*within, reference), root
            for part in reference[2:].split("/"):
                found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
            schema = found
        elif len(choices) == 1 and "type" not in schema:
            schema = choices[0]
        else:
            return schema, within
    return {}, within


def _kind(schema: Mapping[str, Any]) -> str | None:
    """The one type of a schema beside null; None where there is none or several."""
    kind = schema.get("type")
    if kind is None and ("enum" in schema or "const" in schema):
        kind = [_TYPE_NAMES.get(type(value), "object") for value in schema.get("enum", [schema.get("const")])]
    kinds = set(kind) - {"null"} if isinstance(kind, list) else {kind}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else None


def comment_of(name: str, schema: Any, root: Mapping[str, Any] | None = None) -> str:
    """A property of the output in words: its description, and the values it may have."""
    schema, _ = _resolved(schema, root or {}, ())
    said = str(schema.get("description") or "").strip().rstrip(".")
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    one_of = f"one of {', '.join(str(value) for value in values)}" if values else ""
    return "; ".join(filter(None, (said, one_of))) or f"the answer's property {name}"


def answered_where(max_tokens: int | str) -> str:
    """SQL over attempts: whether one answers its question for good. An answer that was cut does not, where a longer
    one may be had by now. `max_tokens` is a number, or the column that holds it."""
    return (
        "outcome = 'succeeded' AND "
        f"(stop_reason IS DISTINCT FROM 'max_tokens' OR coalesce(max_tokens, 0) >= {max_tokens})"
    )


NOT_GOOD_STOPS = ("refusal", "max_tokens", "model_context_window_exceeded")


def good_where(gives_up_when: str | None) -> str:
    """SQL over attempts: whether one is an answer that a cascade keeps. A condition that is null or fails gives up nothing."""
    stops = ", ".join(f"'{stop}'" for stop in NOT_GOOD_STOPS)
    rule = f" AND NOT coalesce(TRY(({gives_up_when}\n)), false)" if gives_up_when is not None else ""
    return f"outcome = 'succeeded' AND error_type IS NULL AND coalesce(stop_reason, '') NOT IN ({stops}){rule}"


def attempts_schema(output: Iterable[pa.Field]) -> pa.Schema:
    """One row per request and attempt that reached the API."""
    return pa.schema([*ATTEMPT_KEYS, *BEFORE_OUTPUT, *output, *AFTER_OUTPUT])


def merged_schema(own: pa.Schema, output: Iterable[pa.Field]) -> pa.Schema:
    """One row per record of a snapshot: its own columns (`own`, with record_id first), then the result's."""
    fields = list(output)
    names = own_names(own.names, fields)
    columns = [field.with_name(names[field.name]) for field in own if field.name != "record_id"]
    return pa.schema([("snapshot", pa.string()), *columns, *BEFORE_OUTPUT, *fields, *AFTER_OUTPUT])


def check_names(workload: Workload, columns: Iterable[str]) -> None:
    """Refuse what would still be two columns of one name in the warehouse (DuckDB folds case).

    Raises:
        WorkloadInvalid: two properties of the output, or a renamed column and another one; names the fix.
    """
    output = output_fields(workload)
    result = {name.lower() for name in RESULT_NAMES}
    taken = dict.fromkeys(result, "a column of every result")
    for field in output:
        if field.name.lower() in taken:
            raise WorkloadInvalid(
                f"output: two properties would be the column {field.name!r} (capitals do not count); rename one",
                place=workload.place,
            )
        taken[field.name.lower()] = "a property of the output"
    for name, final in own_names(columns, output).items():
        if final.lower() in taken:
            raise WorkloadInvalid(
                f"the records' column {name!r} would be {final!r}, which is {taken[final.lower()]} as well; rename it in "
                "the dataset, or select it under another name with dataset.sql",
                place=workload.place,
            )
        taken[final.lower()] = "another column of the records"
