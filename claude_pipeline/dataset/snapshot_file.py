"""How the records of a snapshot are written: all of them, or what differs from a full snapshot."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset.alike import Mask, alike, is_comparable
from claude_pipeline.dataset.differential import Difference, Rows
from claude_pipeline.dataset.records import Records
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged
from claude_pipeline.page_cache import let_go
from claude_pipeline.parquet_file import (
    PIECE_ROWS,
    begun,
    compression_for,
    compression_of,
    footer_sha256,
    in_pieces,
)
from claude_pipeline.progress import told

ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 64_000_000
COLUMNS_KEY = b"claude_pipeline.columns"
SHARE_OF_FULL = 10  # a differential snapshot holds at most one record for so many of the full one


@dataclass(frozen=True)
class Full:
    """A full snapshot that a new one may rest on. Where the partition's last one does (`is_needed`), nobody but it can tell
    whether these are the same records."""

    path: Path
    is_needed: bool = False


@dataclass(frozen=True)
class Written:
    """Records in a snapshot, and how many of them stand in its own file; None: all, it rests on no other."""

    records: int
    own: int | None = None


def write_records(
    path: Path,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    *,
    place: str,
    scratch: Path,
    full: Full | None = None,
) -> Written:
    """Write the records of a snapshot to `path`: what differs from the `full` one, if that is little.

    Which of both it is depends on the records alone. `scratch` is a folder of the caller's.

    Raises:
        DatasetInvalid: a column's type cannot be kept.
        LedgerDamaged: the full snapshot cannot be read, and is needed.
    """
    if full is not None:
        with Records(full.path) as before:
            if _is_worth_it(before, schema):
                return _write_difference(path, schema, batches, place, scratch, _Walk(before, full, batches))
    return Written(_write_all(path, schema, batches, place))


def _is_worth_it(full: Records, schema: pa.Schema) -> bool:
    return (
        schema.equals(full.schema)
        and schema.metadata[COLUMNS_KEY] == full.schema.metadata[COLUMNS_KEY]
        and all(is_comparable(field.type) for field in schema)
    )


def _write_difference(
    path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], place: str, scratch: Path, walk: _Walk
) -> Written:
    with _writer(path, schema, compression_of(walk.before.metadata), place) as writer:
        for group in row_groups(walk.own(), schema):
            writer.write_table(group, row_group_size=len(group))
        full = walk.full.path
        difference = Difference(full.name, footer_sha256(full), walk.seen, walk.rows())
        writer.add_key_value_metadata(difference.metadata())
    if walk.left is None:
        return Written(walk.seen, len(difference.rows))
    cut_off = scratch / "cut-off.parquet"
    shutil.move(path, cut_off)
    with Records(cut_off, full=full) as seen:
        again = (batch for group in range(len(seen.spans)) for batch in seen.batches(group, rows=PIECE_ROWS))
        return Written(_write_all(path, schema, itertools.chain(again, walk.left), place))


class _Walk:
    """New records along those of a full snapshot."""

    def __init__(self, before: Records, full: Full, batches: Iterator[pa.RecordBatch]) -> None:
        self.before, self.full, self._batches = before, full, batches
        self._pieces = (piece for group in range(len(before.spans)) for piece in before.batches(group, rows=PIECE_ROWS))
        self._piece: pa.RecordBatch | None = None  # what of one is left
        self._most = before.count // SHARE_OF_FULL
        self._rows: list[Rows] = []
        self._ends = np.array([span.first + span.rows for span in before.spans])
        self._sizes = np.zeros(
            len(self._ends) + 1, np.int64
        )  # bytes of what differs, by row group; the last: after them
        self.seen = self._count = 0  # records, and those of them that differ
        self.left: Iterator[pa.RecordBatch] | None = None  # what was not looked at: too many differ

    def rows(self) -> Rows:
        """Of the own records."""
        return np.concatenate([np.empty(0, np.int64), *self._rows])

    def own(self) -> Iterator[pa.RecordBatch]:
        """The records that differ. Raises LedgerDamaged."""
        for batch in self._batches:
            try:
                places: Rows | None = np.flatnonzero(self._differing(batch))
            except LedgerDamaged:  # a page is not what was written
                if self.full.is_needed:
                    raise
                places = None
            own = batch.take(pa.array(places)) if places is not None else batch
            if places is None or not self._has_room(own, places + self.seen):
                self.left = itertools.chain([batch], self._batches)
                return
            self._rows.append(places + self.seen)
            self.seen += batch.num_rows
            told("loading", self.seen, unit="records")
            if len(own):
                yield own

    def _has_room(self, own: pa.RecordBatch, rows: Rows) -> bool:
        """Whether so many more may differ: a tenth in all, and within a row group of the full snapshot no more bytes than a
        row group has. Counts them."""
        self._count += len(rows)
        sizes = value_bytes(pa.StructArray.from_arrays(own.columns, fields=list(own.schema)))
        np.add.at(self._sizes, np.searchsorted(self._ends, rows, side="right"), sizes)
        return self._count <= self._most and int(self._sizes[:-1].max(initial=0)) <= ROW_GROUP_BYTES

    def _differing(self, batch: pa.RecordBatch) -> Mask:
        mask = np.ones(batch.num_rows, np.bool_)
        at = 0
        while at < batch.num_rows and (old := self._next(batch.num_rows - at)) is not None:
            new = batch.slice(at, old.num_rows)
            mask[at : at + old.num_rows] = ~alike(new, old, batch.schema.names)
            at += old.num_rows
        return mask

    def _next(self, most: int) -> pa.RecordBatch | None:
        """The full snapshot's next records, at most so many; None: there are no more."""
        piece = self._piece if self._piece is not None else next(self._pieces, None)
        if piece is None:
            return None
        self._piece = piece.slice(most) if piece.num_rows > most else None
        return piece.slice(0, most)


def _write_all(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], place: str) -> int:
    first, groups = begun(row_groups(batches, schema), schema)
    records = 0
    with _writer(path, schema, compression_for(first), place) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=len(group))
            let_go(path)
            records += len(group)
            told("loading", records, unit="records")
    return records


def _writer(path: Path, schema: pa.Schema, compression: str, place: str) -> pq.ParquetWriter:
    # All but the ids may have a dictionary, whatever they hold: the same records are the same bytes in each version of this
    # package, and with `reuse: false` those of another digest would be asked again.
    try:
        return pq.ParquetWriter(
            path, schema, compression=compression, write_page_checksum=True, use_dictionary=schema.names[1:]
        )
    except pa.ArrowException as error:
        raise DatasetInvalid(f"a column's type cannot be kept ({error}); cast it to text", place=place) from None


def row_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in groups within both limits; where a group ends depends on the rows alone."""
    held: list[pa.RecordBatch] = []
    rows = size = 0

    def group() -> pa.Table:
        table = pa.Table.from_batches(held, schema)
        held.clear()
        return in_pieces(table)

    for batch in batches:
        ends = np.cumsum(value_bytes(pa.StructArray.from_arrays(batch.columns, fields=list(schema))))
        start = 0
        while start < len(batch):
            before = int(ends[start - 1]) if start else 0
            fit = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - size, side="right")) - start
            take = min(fit, ROW_GROUP_ROWS - rows, len(batch) - start)
            if take == 0 and rows:
                yield group()
                rows = size = 0
                continue
            take = max(take, 1)  # a row larger than the limit is a group of its own
            held.append(batch.slice(start, take))
            rows += take
            start += take
            size += int(ends[start - 1]) - before
    if held:
        yield group()


def value_bytes(array: pa.Array) -> np.ndarray:
    """Bytes of each element: the length of text, 8 for a number, the sum of what is nested."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0), dtype=np.int64)
    if pa.types.is_struct(kind):
        total = np.zeros(len(array), dtype=np.int64)
        for child in array.flatten():
            total += value_bytes(child)
        return total
    if pa.types.is_list(kind):
        ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64))
        inner = np.concatenate(([0], np.cumsum(value_bytes(array.flatten()))))
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        return inner[ends] - inner[starts]
    return np.full(len(array), 8, dtype=np.int64)
