"""The records of a snapshot, row group by row group, whether its file holds all of them or what differs from a full one."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset.alike import Mask, alike
from claude_pipeline.dataset.differential import Difference, Rows, difference_of
from claude_pipeline.dataset.parquet_table import row_group_batches
from claude_pipeline.dataset.table import ROWS_PER_BATCH
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.home import READ_BYTES
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import PIECE_ROWS, footer_sha256, open_parquet

_NONE: Rows = np.empty(0, np.int64)


class Span(NamedTuple):
    """The rows of a row group, counted over the snapshot from 0."""

    first: int
    rows: int


class Records:
    """An open snapshot; at most one row group of a file is in memory. Page checksums are checked.

    The row groups of a differential snapshot are those of the full one, and after them its own of the further records.
    """

    def __init__(self, path: Path, *, full: Path | None = None) -> None:
        """`full` is where a differential snapshot's full one lies, if not beside it.

        Raises:
            LedgerDamaged: a file is gone, or not what was written; so does whatever reads them.
        """
        self._path = path
        with _read_of(path):
            self._file = open_parquet(path)
            difference = difference_of(self._file.metadata)
        self.schema: pa.Schema = self._file.schema_arrow
        self._pieces = _spans(self._file.metadata)  # own records, by row group of the file
        self._held: tuple[int, Sequence[str] | None, pa.RecordBatch] | None = None  # a row group of them
        self._full: Records | None = None
        self._own, self.spans = _NONE, self._pieces
        if difference is not None:
            self._full = _opened(difference, path, full)
            self._own = difference.rows
            self.spans = self._all_spans(self._full, difference.count)
        self.count = sum(span.rows for span in self.spans)

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        if self._full is not None:
            self._full.close()

    @property
    def is_full(self) -> bool:
        """Whether its file holds all records."""
        return self._full is None

    @property
    def metadata(self) -> pq.FileMetaData:
        """Of the file that most records stand in: how they are written."""
        return self._base._file.metadata

    def batches(
        self, group: int, *, columns: Sequence[str] | None = None, rows: int = ROWS_PER_BATCH
    ) -> Iterator[pa.RecordBatch]:
        """The records of a row group in order, in batches of at most `rows`; of all columns, or of these."""
        if self._full is None:
            try:
                with _read_of(self._path):
                    yield from row_group_batches(self._file, columns=columns, rows=rows, groups=[group])
            finally:  # who has read enough of them goes no further
                self._let_go(group)
            return
        first, count = self.spans[group]
        end = first + count
        if group >= len(self._full.spans):
            yield from self._further(first, end, columns, rows)
            return
        for batch in self._full.batches(group, columns=columns, rows=rows):
            whole = self._patched(batch.slice(0, end - first), first, columns)
            yield whole
            first += whole.num_rows
            if first >= end:
                return

    def at(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """The records of these rows, which ascend; of all columns, or of these. No more is read than need be."""
        found: list[pa.RecordBatch] = []
        for group, span in enumerate(self.spans):
            low, high = np.searchsorted(rows, [span.first, span.first + span.rows])
            if low < high:
                found += self._chosen(group, rows[low:high], columns)
        table = pa.Table.from_batches(found) if found else self.schema.empty_table()
        return table if columns is None else table.select(list(columns))

    def holds(self, group: int, other: Records) -> bool:
        """Whether a row group surely has the records of the same one of another snapshot: byte for byte, or in one file."""
        if group >= len(other.spans) or self.spans[group] != other.spans[group] or self.schema != other.schema:
            return False
        shared = self.shared(other, *self.spans[group])
        if shared is not None:
            return bool(shared.all())
        return self._full is None and other._full is None and self._bytes_equal(group, other)

    def is_same(self, other: Records) -> bool:
        """Whether both surely hold the same records in the same order: they rest on one file, and differ from it alike."""
        shared = self.shared(other, 0, 0)
        if shared is None or self.count != other.count or not np.array_equal(self._own, other._own):
            return False
        pieces = (self._own[first : first + rows] for first, rows in self._pieces if self._full is not None)
        return all(
            alike(one_batch(self.at(rows)), one_batch(other.at(rows)), self.schema.names).all() for rows in pieces
        )

    def shared(self, other: Records, first: int, count: int) -> Mask | None:
        """Which of the next `count` rows both snapshots have from one file, so that they are equal; None: they rest on
        different files, and nothing is known of any."""
        if self._base._path.resolve() != other._base._path.resolve():
            return None
        ends = np.arange(first, first + count) < min(self._base.count, self.count, other.count)
        shared: Mask = ends & ~self.own(first, count) & ~other.own(first, count)
        return shared

    def own(self, first: int, count: int) -> Mask:
        """Which of the next `count` records differ from those of the full snapshot."""
        mask = np.zeros(count, np.bool_)
        low, high = np.searchsorted(self._own, [first, first + count])
        mask[self._own[low:high] - first] = True
        return mask

    @property
    def _base(self) -> Records:
        return self if self._full is None else self._full

    def _all_spans(self, full: Records, count: int) -> list[Span]:
        """The full snapshot's, as far as the records go, and those of what comes after its last one."""
        spans = [Span(span.first, min(span.rows, count - span.first)) for span in full.spans if span.first < count]
        before = int(np.searchsorted(self._own, full.count))  # own records that stand in the place of others
        for piece in self._pieces:
            begin, end = max(piece.first, before), piece.first + piece.rows
            if begin < end:
                spans.append(Span(full.count + begin - before, end - begin))
        return spans

    def _chosen(self, group: int, rows: Rows, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        if self._full is not None:
            places = np.searchsorted(self._own, rows)
            if len(self._own) and bool((self._own[np.minimum(places, len(self._own) - 1)] == rows).all()):
                yield from self._read(places, columns)
                return
        first = self.spans[group].first
        for batch in self.batches(group, columns=columns, rows=PIECE_ROWS):
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            if low < high:
                yield taken(batch, rows[low:high] - first)
            first += batch.num_rows
            if high == len(rows):
                return

    def _further(self, first: int, end: int, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        low, high = np.searchsorted(self._own, [first, end]).tolist()
        for begin in range(low, high, rows):
            yield from self._read(np.arange(begin, min(begin + rows, high)), columns)

    def _patched(self, batch: pa.RecordBatch, first: int, columns: Sequence[str] | None) -> pa.RecordBatch:
        """A batch of the full snapshot, which begins at row `first`, with the own records in their places."""
        low, high = np.searchsorted(self._own, [first, first + batch.num_rows]).tolist()
        if low == high:
            return batch
        own = pa.concat_batches(list(self._read(np.arange(low, high), columns)))
        places = self._own[low:high] - first
        # What follows one another is taken together.
        starts = [0, *(np.flatnonzero(np.diff(places) > 1) + 1).tolist(), len(places)]
        pieces, done = [], 0
        for begin, end in itertools.pairwise(starts):
            place = int(places[begin])
            pieces += [batch.slice(done, place - done), own.slice(begin, end - begin)]
            done = place + end - begin
        pieces.append(batch.slice(done))
        return pa.concat_batches(pieces)

    def _read(self, numbers: Rows, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """Own records by their numbers, which ascend and count from the first of them."""
        for group, piece in enumerate(self._pieces):
            low, high = np.searchsorted(numbers, [piece.first, piece.first + piece.rows])
            if low == high:
                continue
            if self._held is None or self._held[:2] != (group, columns):
                with _read_of(self._path):
                    batches = row_group_batches(self._file, columns=columns, groups=[group])
                    self._held = group, columns, one_batch(pa.Table.from_batches(batches))
                let_go(self._path)
            yield taken(self._held[2], numbers[low:high] - piece.first)

    def _bytes_equal(self, group: int, other: Records) -> bool:
        own, its = self._place(group), other._place(group)
        if own[1] != its[1]:
            return False
        with self._path.open("rb") as mine, other._path.open("rb") as theirs:
            mine.seek(own[0])
            theirs.seek(its[0])
            left = own[1]
            while left > 0:
                piece = mine.read(min(left, READ_BYTES))
                if not piece or piece != theirs.read(len(piece)):
                    return False
                left -= len(piece)
        self._let_go(group)
        other._let_go(group)
        return True

    def _let_go(self, group: int) -> None:
        """A row group has been read. Its end stays with what the kernel has read ahead for the next one, until that was."""
        begin, size = self._place(group)
        let_go(self._path, count=begin + size if group + 1 < self._file.num_row_groups else 0)

    def _place(self, group: int) -> tuple[int, int]:
        """Where the pages of a row group begin, and how many bytes they take: its columns lie one after the other."""
        facts = self._file.metadata.row_group(group)
        columns = [facts.column(position) for position in range(facts.num_columns)]
        begins = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        return min(begins, default=0), sum(column.total_compressed_size for column in columns)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """Its rows in one piece."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def taken(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    """Those rows of a batch, ascending; without a copy where they follow one another, as they mostly do.

    A few of them are copied nevertheless, or they would keep the whole batch in memory.
    """
    first, count = int(rows[0]), len(rows)
    if count * 2 >= batch.num_rows and bool(np.all(np.diff(rows) == 1)):
        return batch.slice(first, count)
    return batch.take(pa.array(rows))


def _spans(file: pq.FileMetaData) -> list[Span]:
    spans, first = [], 0
    for group in range(file.num_row_groups):
        spans.append(Span(first, file.row_group(group).num_rows))
        first += spans[-1].rows
    return spans


def _opened(difference: Difference, path: Path, full: Path | None) -> Records:
    """The full snapshot. Raises LedgerDamaged."""
    place = path.with_name(difference.full) if full is None else full
    with _read_of(place):
        if footer_sha256(place) == difference.footer_sha256:
            return Records(place)
    raise LedgerDamaged(
        f"{place} is not what it was, and {path.name} holds only what differs from it; restore it from a backup"
    )


@contextmanager
def _read_of(path: Path) -> Iterator[None]:
    """Raises LedgerDamaged where the file is gone, cannot be read, or is not what was written."""
    try:
        yield
    except (OSError, ValueError, KeyError, zlib.error) as error:  # Arrow's are the first two
        raise LedgerDamaged(f"{path} cannot be read ({error}); restore it from a backup") from error
