"""CSV files as a table of text columns.

The fast reader is pyarrow's. It takes wrong quoting silently, so a scan of the quote characters
decides first whether every quote stands where RFC 4180 puts one; only then may it read. All else,
and all that it fails on, goes to `csv_strict`, which reads it or names the line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from claude_pipeline.dataset.csv_strict import FIELD_CHARACTERS_MAX, strict_batches
from claude_pipeline.dataset.origin import Origin
from claude_pipeline.dataset.plain import PIECE_BYTES, UTF8_BOM, not_utf8, plain_text
from claude_pipeline.dataset.source import SourceFile
from claude_pipeline.dataset.table import Table, check_names, check_same_columns
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline.workload import Dataset

HEADER_LINE_CHARACTERS_MAX = 1_000_000
_QUOTE, _LF, _CR = ord('"'), ord("\n"), ord("\r")


@dataclass(frozen=True)
class Header:
    names: tuple[str, ...]
    blank_lines_before: int


@dataclass(frozen=True)
class Layout:
    """What the scan saw. `rfc_quotes`: every quote opens, closes or doubles as RFC 4180 has it."""

    rfc_quotes: bool
    bare_returns: bool
    line_feeds: bool


def csv_table(files: Sequence[SourceFile], dataset: Dataset, *, scratch: Path) -> Table:
    """All files of a dataset, one after the other; they hold the same columns.

    Raises:
        DatasetInvalid: now for the first file's header, while reading for all else.
    """
    first = files[0]
    with plain_text(first, encoding=dataset.encoding, scratch=scratch) as path:
        names = read_header(path, first.place, _delimiter(first, dataset), allow_empty=dataset.allow_empty).names
    check_names([*names, *first.partitions], id_column=dataset.id, place=first.place)
    schema = pa.schema([(name, pa.string()) for name in [*names, *first.partitions]])
    origin = Origin()

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            origin.begin(file.name)
            yield from _file_batches(file, dataset, names, schema, scratch)

    return Table(schema, origin.counted(batches()), first.place, origin)


def _file_batches(
    file: SourceFile, dataset: Dataset, names: tuple[str, ...], schema: pa.Schema, scratch: Path
) -> Iterator[pa.RecordBatch]:
    delimiter = _delimiter(file, dataset)
    with ExitStack() as stack:
        path = stack.enter_context(plain_text(file, encoding=dataset.encoding, scratch=scratch))
        header = read_header(path, file.place, delimiter, allow_empty=dataset.allow_empty)
        if not header.names:
            return
        check_same_columns(header.names, names, file.place)
        for batch in csv_batches(path, header, delimiter=delimiter, place=file.place):
            constants = [pa.repeat(pa.scalar(value, pa.string()), len(batch)) for value in file.partitions.values()]
            yield pa.RecordBatch.from_arrays([*(batch.column(name) for name in names), *constants], schema=schema)


def csv_batches(path: Path, header: Header, *, delimiter: str, place: str) -> Iterator[pa.RecordBatch]:
    """The records of one plain UTF-8 file."""
    done = 0
    if delimiter.isascii() and _fast_reads_right(scan(path, delimiter)):
        try:
            for batch in _fast(path, header, delimiter):
                yield batch
                done += batch.num_rows
            return
        except pa.ArrowException:
            pass  # its message may quote the record; the strict reader reads on, or names the line
    yield from strict_batches(path, header.names, delimiter=delimiter, place=place, skip=done)


def read_header(path: Path, place: str, delimiter: str, *, allow_empty: bool) -> Header:
    """The first record of a plain file. No names at all stand for an empty file that may be empty.

    Raises:
        DatasetInvalid: empty, not UTF-8, duplicate or missing names, or another delimiter.
    """
    if delimiter in '"\r\n\0':
        raise DatasetInvalid(f"delimiter: {delimiter!r} cannot separate fields", place=place)
    blank = 0
    names: list[str] = []
    raw: list[str] = []
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:

        def lines() -> Iterator[str]:
            while line := file.readline(HEADER_LINE_CHARACTERS_MAX):
                raw.append(line)
                yield line

        reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        try:
            for names in reader:
                if names:
                    break
                blank += 1
        except csv.Error:
            raise DatasetInvalid(
                "a quoted column name is not closed, or the header is no CSV", place=f"{place}, line 1"
            ) from None
    if not names:
        if allow_empty:
            return Header((), 0)
        size = path.stat().st_size
        what = "is empty (0 bytes)" if size == 0 else "holds only blank lines"
        raise DatasetInvalid(f"{what}; write at least a header, or set allow_empty: true", place=place)
    for name in names:
        if broken := [c for c in name if "\udc80" <= c <= "\udcff"]:
            raise not_utf8(path, place, blank + 1, ord(broken[0]) - 0xDC00)
        if "\0" in name:
            raise not_utf8(path, place, blank + 1, 0)
    if len(names) == 1 and not raw[blank].startswith('"'):
        for other, spelled in ((";", '";"'), ("\t", '"\\t"'), ("|", '"|"'), (",", '","')):
            if other in names[0] and other != delimiter:
                raise DatasetInvalid(f"its header is one column; set delimiter: {spelled}", place=place)
    check_names(names, id_column=None, place=place)
    return Header(tuple(names), blank)


def scan(path: Path, delimiter: str) -> Layout:
    """One pass over the bytes, in constant memory.

    Counting from the start, odd quotes open and even ones close. In RFC 4180 an opening quote
    follows a delimiter, a line end or (doubled) a quote, and a closing one precedes such.
    """
    beside = np.zeros(256, dtype=bool)
    beside[[ord(delimiter), _QUOTE, _LF, _CR]] = True
    quotes_seen = 0
    rfc_quotes, bare_returns, line_feeds = True, False, False
    for window in _windows(path):
        inner = window[1:-1]
        quotes = np.flatnonzero(inner == _QUOTE)
        closing = (np.arange(len(quotes)) + quotes_seen) % 2 == 1
        neighbours = window[np.where(closing, quotes + 2, quotes)]
        rfc_quotes = rfc_quotes and bool(beside[neighbours].all())
        returns = np.flatnonzero((inner == _CR) & (window[2:] != _LF))
        bare_returns = bare_returns or _any_outside(returns, quotes, quotes_seen)
        if not line_feeds:
            line_feeds = _any_outside(np.flatnonzero(inner == _LF), quotes, quotes_seen)
        quotes_seen += len(quotes)
    return Layout(rfc_quotes and quotes_seen % 2 == 0, bare_returns, line_feeds)


def _any_outside(positions: np.ndarray, quotes: np.ndarray, quotes_seen: int) -> bool:
    """Whether one of the positions lies outside quoted fields."""
    return bool(((np.searchsorted(quotes, positions) + quotes_seen) % 2 == 0).any())


def _windows(path: Path) -> Iterator[np.ndarray]:
    """The file's bytes in pieces that overlap by one on each side, as if it stood between line ends."""
    with path.open("rb") as file:
        if file.read(len(UTF8_BOM)) != UTF8_BOM:
            file.seek(0)
        held = b"\n" + file.read(1)
        while piece := file.read(PIECE_BYTES):
            yield np.frombuffer(held + piece, dtype=np.uint8)
            held = (held + piece)[-2:]
        yield np.frombuffer(held + b"\r", dtype=np.uint8)


def _fast_reads_right(layout: Layout) -> bool:
    # A file that ends all lines in bare carriage returns (old Macintosh) is fine; a mixture is damage.
    return layout.rfc_quotes and not (layout.bare_returns and layout.line_feeds)


def _fast(path: Path, header: Header, delimiter: str) -> Iterator[pa.RecordBatch]:
    names = list(header.names)
    yield from pa.csv.open_csv(
        path,
        read_options=pa.csv.ReadOptions(
            column_names=names,
            skip_rows_after_names=1 + header.blank_lines_before,
            block_size=PIECE_BYTES,
            use_threads=False,
        ),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=False, null_values=[]
        ),
    )


def _delimiter(file: SourceFile, dataset: Dataset) -> str:
    return "\t" if file.tabs and "delimiter" not in dataset.model_fields_set else dataset.delimiter
