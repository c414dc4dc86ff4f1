"""What every source becomes: named, typed columns and a stream of record batches.

Also the rules that all sources share: which column names can be, and how Arrow's many types of
text become one.
"""

from __future__ import annotations

import difflib
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from claude_pipeline.dataset.origin import Origin
from claude_pipeline.errors import DatasetInvalid

RECORD_ID = "record_id"
ROWS_PER_BATCH = 10_000
BYTES_PER_BATCH = 16_000_000  # of what is held in memory; wide rows make smaller batches
COLUMNS_MAX = 2_000
# DuckDB compares names without regard to the case of ASCII letters only.
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class Table:
    """A dataset being read. `batches` can be taken once, and `origin` grows with them; `place` is what an error names."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    place: str
    origin: Origin = field(default_factory=Origin)


def folded(name: str) -> str:
    """Names that are equal under this are one column to DuckDB."""
    return name.translate(_FOLD)


def check_names(names: Sequence[str], *, id_column: str | None, place: str) -> None:
    """Refuse names that a template or DuckDB could not tell apart.

    Raises:
        DatasetInvalid: empty, repeated, differing only in case, reserved, or the id column is missing.
    """
    if len(names) > COLUMNS_MAX:
        raise DatasetInvalid(
            f"{len(names):,} columns; at most {COLUMNS_MAX:,} are taken: drop or nest some", place=place
        )
    for position, name in enumerate(names, 1):
        if not name:
            raise DatasetInvalid(f"column {position} has no name; name it", place=place)
        if "\0" in name:
            raise DatasetInvalid(f"the name of column {position} holds a NUL character; rename it", place=place)
    for name, times in Counter(names).items():
        if times > 1:
            positions = ", ".join(str(i) for i, other in enumerate(names, 1) if other == name)
            raise DatasetInvalid(
                f"column {name!r} occurs {times} times (positions {positions}); rename one", place=place
            )
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise DatasetInvalid(f"columns {other!r} and {name!r} differ only in case; rename one", place=place)
    own = seen.get(RECORD_ID)
    if own is not None and not own == id_column == RECORD_ID:
        raise DatasetInvalid(
            f"column {own!r} has the name under which ids are kept; rename it"
            + (", or say id: record_id if it names the records" if own == RECORD_ID else ""),
            place=place,
        )
    if id_column is not None and names and id_column not in names:
        raise DatasetInvalid(
            f"id: there is no column {id_column!r}; there are: {listed(names, near=id_column)}", place=place
        )


def check_same_columns(names: Sequence[str], wanted: Sequence[str], place: str) -> None:
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing or extra:
        said = [f"column {missing[0]!r} is missing"] if missing else []
        said += [f"column {extra[0]!r} is in no file before it"] if extra else []
        raise DatasetInvalid(
            f"{'; '.join(said)}; all files of a dataset have the same columns: rename them, or narrow path:",
            place=place,
        )


def listed(names: Sequence[str], *, near: str, at_most: int = 20) -> str:
    """Names for an error message, the one most like `near` first."""
    ordered = sorted(names, key=lambda name: -difflib.SequenceMatcher(None, folded(name), folded(near)).ratio())
    return ", ".join(ordered[:at_most]) + (f" and {len(ordered) - at_most} more" if len(ordered) > at_most else "")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type a snapshot keeps: dictionaries decoded, one type of text, of bytes and of lists."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("item", plain_type(kind.value_type)))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.list_(pa.field("item", plain_type(kind.value_type)))
    return kind


def plain_field(field: pa.Field) -> pa.Field:
    """Nullable and without metadata, so that equal records give equal bytes wherever they came from."""
    return pa.field(field.name, plain_type(field.type))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([plain_field(field) for field in schema])


def fitted(batch: pa.RecordBatch, schema: pa.Schema, *, place: str) -> pa.RecordBatch:
    """`batch` with the columns of `schema`, in its order and types.

    Raises:
        DatasetInvalid: a value does not fit, or text is not valid UTF-8.
    """
    arrays = []
    for wanted in schema:
        array = batch.column(wanted.name)
        try:
            if isinstance(array, pa.ExtensionArray):
                array = array.storage
            if array.type != wanted.type:
                array = array.cast(wanted.type)
            array.validate(full=True)
        except pa.ArrowException:
            # Arrow's own message can quote the value.
            raise DatasetInvalid(
                f"column {wanted.name!r} holds values that are not valid {wanted.type}"
                + ("; text must be UTF-8" if "string" in str(wanted.type) else ""),
                place=place,
            ) from None
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
