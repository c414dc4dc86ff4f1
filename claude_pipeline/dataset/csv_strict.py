"""CSV read line by line: slow, but it knows where it is.

It names the line of whatever is wrong, and reads what the fast reader cannot: quotes inside
unquoted fields, records longer than a block, delimiters that are not ASCII.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from claude_pipeline.dataset.plain import LINE_BYTES_MAX, not_utf8, too_long
from claude_pipeline.dataset.table import BYTES_PER_BATCH, ROWS_PER_BATCH
from claude_pipeline.errors import DatasetInvalid

FIELD_CHARACTERS_MAX = LINE_BYTES_MAX


def strict_batches(
    path: Path, names: Sequence[str], *, delimiter: str, place: str, skip: int = 0
) -> Iterator[pa.RecordBatch]:
    """The records after the first `skip`, as columns of text.

    Raises:
        DatasetInvalid: with the line, what is wrong there and the way out.
    """
    schema = pa.schema([(name, pa.string()) for name in names])
    rows: list[list[str]] = []
    size = 0

    def batch() -> pa.RecordBatch:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    with closing(strict_rows(path, len(names), delimiter=delimiter, place=place)) as records:
        for number, row in enumerate(records):
            if number < skip:
                continue
            rows.append(row)
            size += sum(map(len, row))
            if len(rows) >= ROWS_PER_BATCH or size >= BYTES_PER_BATCH:
                yield batch()
                rows, size = [], 0
    if rows:
        yield batch()


def strict_rows(path: Path, width: int, *, delimiter: str, place: str) -> Generator[list[str], None, None]:
    """Each record's fields, without the header's; every record has `width` of them."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with closing(_lines(path, place)) as lines:  # also while an error, and with it this frame, is held
        yield from _records(lines, width, delimiter=delimiter, place=place)


def _records(lines: Iterator[str], width: int, *, delimiter: str, place: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header_seen = False
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetInvalid(
                _explained(str(error), reader.line_num - line), place=f"{place}, line {line}"
            ) from None
        if not row:
            continue  # a blank line
        if len(row) != width:
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise DatasetInvalid(
                f"{fields}, the header has {width}; quote fields that hold {delimiter!r}, or mend the line",
                place=f"{place}, line {line}",
            )
        if header_seen:
            yield row
        header_seen = True


def _lines(path: Path, place: str) -> Generator[str, None, None]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise too_long(place, number)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise not_utf8(path, place, number, line[error.start]) from None
            yield text.removeprefix("\ufeff") if number == 1 else text


def _explained(error: str, further_lines: int) -> str:
    """The csv module's few errors as sentences; none of them quotes the record."""
    if "unexpected end of data" in error:
        return 'a quoted field starts here and is not closed before the end of the file; close it, or double a lone "'
    if "field larger than" in error:
        return (
            f"a field is longer than {FIELD_CHARACTERS_MAX:,} characters; a quote that is not closed does that: "
            'close it, or double a lone "'
        )
    if "new-line character" in error:
        return (
            "a bare carriage return stands in an unquoted field; quote the field, or end all lines with \\n or \\r\\n"
        )
    if "expected after" in error:
        where = f" {further_lines} lines further down" if further_lines else ""
        return f'after the closing quote of a field comes more text{where}; double each " inside a quoted field'
    return "cannot be split into fields; quote fields as CSV wants it"
