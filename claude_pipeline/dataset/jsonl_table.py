"""JSON lines as a table: one object a line, one type a column.

Two passes: the first parses every line for the types over the whole file and names the line of
whatever is wrong; the second lets DuckDB read with exactly these types, so that it guesses
nothing (left alone it turns text that looks like a date into a date). A value that no text can
hold (half a character, NaN) is the fault of its record alone: the second pass reads null there.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa

from claude_pipeline.dataset.duck import in_order, reader
from claude_pipeline.dataset.json_shape import Shape
from claude_pipeline.dataset.origin import FAULTS_MAX, Fault, Origin
from claude_pipeline.dataset.plain import LINE_BYTES_MAX, UTF8_BOM, not_utf8, plain_text, too_long
from claude_pipeline.dataset.source import SourceFile
from claude_pipeline.dataset.table import COLUMNS_MAX, Table, check_names, fitted, plain_schema
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.sql import file_literal, identifier, literal
from claude_pipeline.workload import Dataset

OBJECT_BYTES_MIN = 1_000_000  # DuckDB reads in buffers of twice this; its own default is 16 times as much
_SIGNATURES_MAX = 10_000
_UNREAD: Any = object()
_SETTLED = frozenset({str, type(None)})
_DOUBLE_TOO_WIDE = float(2**63)


class _Survey:
    """The types seen in all files, column by column in the order of their first appearance."""

    def __init__(self) -> None:
        self.columns: dict[str, Shape] = {}
        self.longest_line = 0
        self._settled: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()

    def take(self, record: dict[str, Any], line: bytes) -> None:
        # Records of nothing but text say all they can by their keys: most are settled by one look-up.
        signature = (tuple(record), tuple(map(type, record.values())))
        if signature in self._settled:
            return
        if _has_wide_number(record):
            record = json.loads(line)  # orjson makes doubles of integers past 64 bits
        for name, value in record.items():
            shape = self.columns.get(name)
            if shape is None:
                shape = self.columns[name] = Shape()
            shape.observe(value)
        if _SETTLED.issuperset(signature[1]) and len(self._settled) < _SIGNATURES_MAX:
            self._settled.add(signature)


def jsonl_table(files: Sequence[SourceFile], dataset: Dataset, *, scratch: Path) -> Table:
    """All files of a dataset as one table; a key missing from a record is null there.

    Raises:
        DatasetInvalid: with file and line, for the first thing wrong.
    """
    survey = _Survey()
    seen = []
    for file in files:
        with plain_text(file, encoding=dataset.encoding, scratch=scratch) as path:
            seen.append(_survey_file(path, file.place, survey))
    place = files[0].place
    partitions = list(files[0].partitions)
    check_names([*survey.columns, *partitions], id_column=dataset.id, place=place)
    types = {name: shape.duckdb_type() for name, shape in survey.columns.items()}
    if dataset.id in types:
        if types[dataset.id].endswith(("]", ")")):
            raise DatasetInvalid(f"id: column {dataset.id!r} holds lists or objects, no ids", place=place)
        if dataset.id != dataset.watermark:  # whose numbers must stay numbers, to be compared
            types[dataset.id] = "VARCHAR"
    own = _schema_of(tuple(types.items()))
    schema = pa.schema([*own, *(pa.field(name, pa.string()) for name in partitions)])
    origin = Origin()

    def batches() -> Iterator[pa.RecordBatch]:
        for file, lines in zip(files, seen, strict=True):
            origin.begin(file.name, blank=lines.blank)
            for record, fault in lines.faults.items():
                origin.fault(origin.rows + record, fault)
            with (
                plain_text(file, encoding=dataset.encoding, scratch=scratch) as plain,
                _mended(plain, file.place, lines, scratch) as path,
            ):
                for batch in _typed(path, types, survey.longest_line, place=file.place, scratch=scratch):
                    arrays = fitted(batch, own, place=file.place).columns
                    arrays += [
                        pa.repeat(pa.scalar(value, pa.string()), len(batch)) for value in file.partitions.values()
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return Table(schema, origin.counted(batches() if types else iter(())), place, origin)


@dataclass
class _Lines:
    """What a file's lines are, beside objects: `faults` by record, from 0."""

    blank: array[int] = field(default_factory=lambda: array("q"))
    faults: dict[int, Fault] = field(default_factory=dict)


def _survey_file(path: Path, place: str, survey: _Survey) -> _Lines:
    loads, take = orjson.loads, survey.take
    lines = _Lines()
    for number, line in _lines(path, place):
        try:
            record = loads(line)
        except orjson.JSONDecodeError:  # it holds the line, so nothing is raised while it is handled
            record = _UNREAD
        if record is _UNREAD:
            if not line.strip():
                lines.blank.append(number)
                continue
            record, fault = _without_faults(line, f"{place}, line {number}")
            if fault is None:
                raise _broken(line, path, place, number)
            if len(lines.faults) >= FAULTS_MAX:
                raise DatasetInvalid(
                    f"{FAULTS_MAX:,} lines before this one hold NaN or half a character; mend what writes them",
                    place=f"{place}, line {number}",
                )
            lines.faults[number - len(lines.blank) - 1] = fault
            line = json.dumps(record).encode()
        if type(record) is not dict:
            raise _no_object(record, place, number)
        if len(line) > survey.longest_line:
            survey.longest_line = len(line)
        try:
            take(record, line)
        except RecursionError:
            raise DatasetInvalid("nested too deeply", place=f"{place}, line {number}") from None
        if len(survey.columns) > COLUMNS_MAX:
            raise DatasetInvalid(
                f"the records so far have more than {COLUMNS_MAX:,} different keys; put what varies under one key",
                place=f"{place}, line {number}",
            )
    return lines


@contextmanager
def _mended(path: Path, place: str, lines: _Lines, scratch: Path) -> Iterator[Path]:
    """The file itself, or a copy with null for each value that is a fault, removed after."""
    if not lines.faults:
        yield path
        return
    copy = scratch / "mended.jsonl"
    record = -1
    try:
        with copy.open("wb") as target:
            for _, line in _lines(path, place):
                record += bool(line.strip())
                if record in lines.faults and line.strip():
                    line = json.dumps(_without_faults(line, place)[0]).encode() + b"\n"
                target.write(line)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _without_faults(line: bytes, place: str) -> tuple[Any, Fault | None]:
    """An object whose only fault is in its values, with null in their place, and the first of them; else no fault."""
    try:
        _refuse_repeated_keys(line, place)
        record = json.loads(line)
        if type(record) is not dict or _has_lone_surrogate(list(record)):
            return None, None
        faults = dict(_faults(record))
        mended = record | dict.fromkeys(faults)
        json.dumps(mended)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested too deeply
        return None, None
    return mended, next(iter(faults.values()), None)


def _faults(record: dict[str, Any]) -> Iterator[tuple[str, Fault]]:
    """Each column with a value that nothing can hold, and why."""
    for name, value in record.items():
        if _has_lone_surrogate(value):
            yield name, Fault("bad_unicode", f"column {name} holds half a character (a lone surrogate)")
        elif _has_no_number(value):
            yield name, Fault("not_text", f"column {name} holds NaN or Infinity, which are not JSON; write null")


def _has_no_number(value: Any) -> bool:
    """Whether it holds a NaN or an infinity."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_no_number, value.values()))
    return isinstance(value, list) and any(map(_has_no_number, value))


def _lines(path: Path, place: str) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        if file.read(len(UTF8_BOM)) != UTF8_BOM:
            file.seek(0)
        for number, line in enumerate(iter(partial(file.readline, LINE_BYTES_MAX + 1), b""), 1):
            if len(line) > LINE_BYTES_MAX:
                raise too_long(place, number)
            yield number, line


def _has_wide_number(value: Any) -> bool:
    if isinstance(value, float):
        return not -_DOUBLE_TOO_WIDE < value < _DOUBLE_TOO_WIDE
    if isinstance(value, dict):
        return any(map(_has_wide_number, value.values()))
    return isinstance(value, list) and any(map(_has_wide_number, value))


def _typed(
    path: Path, types: Mapping[str, str], longest: int, *, place: str, scratch: Path
) -> Iterator[pa.RecordBatch]:
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    query = (
        f"SELECT * FROM read_json({file_literal(path)}, format = 'newline_delimited', compression = 'none', "
        f"auto_detect = false, hive_partitioning = false, "
        f"maximum_object_size = {max(OBJECT_BYTES_MIN, longest + 1)}, columns = {{{columns}}})"
    )
    with in_order(scratch) as connection:
        try:
            yield from reader(connection.sql(query))
            return
        except (duckdb.Error, pa.ArrowException):
            pass  # its message quotes the record
    # What the first pass lets by is a key given twice.
    _find_repeated_key(path, place)
    raise DatasetInvalid("cannot be read as JSON lines, though each line alone can", place=place)


@lru_cache(maxsize=64)
def _schema_of(types: tuple[tuple[str, str], ...]) -> pa.Schema:
    """Columns of these DuckDB types as they are read: of a database of its own, which takes 20 ms to make."""
    if not types:
        return pa.schema([])
    columns = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in types)
    with duckdb.connect() as connection:
        return plain_schema(connection.sql(f"SELECT {columns} LIMIT 0").to_arrow_table().schema)


def _find_repeated_key(path: Path, place: str) -> None:
    for number, line in _lines(path, place):
        if line.strip():
            _refuse_repeated_keys(line, f"{place}, line {number}")


def _refuse_repeated_keys(line: bytes, place: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise DatasetInvalid(f"key {twice!r} is given twice in one object; keep one", place=place)
        return found

    json.loads(line, object_pairs_hook=unique)


def _no_object(value: Any, place: str, number: int) -> DatasetInvalid:
    kind = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    if isinstance(value, list) and number == 1:
        return DatasetInvalid(
            "begins with a JSON array; write one object a line instead (jq -c '.[]' does it)", place=f"{place}, line 1"
        )
    return DatasetInvalid(f"{kind}, where an object is wanted: one {{…}} a line", place=f"{place}, line {number}")


def _broken(line: bytes, path: Path, place: str, number: int) -> DatasetInvalid:
    """The error for a line that is no JSON: where it breaks and why, without quoting it."""
    where = f"{place}, line {number}"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return not_utf8(path, place, number, line[error.start])
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if number == 1 and text.lstrip().startswith("["):
            return DatasetInvalid(
                "begins with a JSON array; write one object a line instead (jq -c '.[]' does it)", place=where
            )
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            cut = "the file seems cut" if not line.endswith(b"\n") else "an object must stand on one line"
            return DatasetInvalid(f"the JSON ends too early; {cut}", place=where)
        if error.msg == "Extra data":
            return DatasetInvalid(
                f"more text after the JSON value ends, at column {error.pos + 1}; one object a line", place=where
            )
        return DatasetInvalid(f"not JSON at column {error.colno}: {error.msg[0].lower()}{error.msg[1:]}", place=where)
    except RecursionError:
        return DatasetInvalid("nested too deeply", place=where)
    if _has_lone_surrogate(value):
        return DatasetInvalid(
            r"a key holds half a character (a lone surrogate, \ud800 to \udfff); mend it", place=where
        )
    if type(value) is not dict:
        return _no_object(value, place, number)
    return DatasetInvalid("nested too deeply, or a number is too large", place=where)


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
