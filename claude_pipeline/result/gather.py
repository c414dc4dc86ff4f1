"""The answers that a merge wants, out of the attempts files, in the order of the snapshot's rows.

Each file is read once from its beginning, in pieces, and what is wanted of it taken. Where that gives the order of
the rows, as it does for a dataset that was asked in that order, the pieces pass through. Otherwise they go to
scratch files by stretches of rows, each of which fits in memory to be put in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.dataset import taken
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.parquet_file import open_parquet
from claude_pipeline.result.place import ROW_BITS
from claude_pipeline.result.stretch import in_order

ROWS_PER_PIECE = 10_000
PIECE_BYTES = 16_000_000  # of an attempts file, decoded

Places = npt.NDArray[np.int64]
Piece = tuple[list[pa.Array], int, int]  # columns, and of which of the wanted rows: from the first to before the last


def gathered(places: Places, files: Sequence[Path], schema: pa.Schema, scratch: Path) -> Iterator[pa.Table]:
    """The answers at `places`, in their order: the columns of `schema`, in pieces.

    A column that an older file lacks is null.

    Raises:
        LedgerDamaged: a file cannot be read, or not as what was asked; says which.
    """
    if len(places) == 0 or bool(np.all(places[1:] >= places[:-1])):
        for columns, _, _ in _walk(places, files, schema):
            yield pa.table(columns, schema=schema)
        return
    order = np.argsort(places, kind="stable")
    numbered = schema.append(pa.field("number of the answer", pa.int64()))
    pieces = (
        pa.table([*columns, pa.array(order[low:high])], schema=numbered)
        for columns, low, high in _walk(places[order], files, schema)
    )
    for piece in in_order(pieces, len(places), scratch):
        yield piece.select(range(len(schema)))


def _walk(places: Places, files: Sequence[Path], schema: pa.Schema) -> Iterator[Piece]:
    """The answers at ascending places."""
    numbers, rows = places >> ROW_BITS, places & ((1 << ROW_BITS) - 1)
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(places)] if len(places) else []
    for begin, end in itertools.pairwise(borders):
        path = files[int(numbers[begin])]
        try:
            for columns, low, high in _pieces(path, rows[begin:end], schema):
                yield columns, begin + low, begin + high
        except OSError as error:
            raise LedgerDamaged(
                f"{path} cannot be read ({error}), so the answers in it are not merged; restore it from a backup"
            ) from error


def _pieces(path: Path, rows: Places, schema: pa.Schema) -> Iterator[Piece]:
    """Of a file the wanted rows, which ascend."""
    with open_parquet(path) as file:
        # Capitals do not count, as for DuckDB, which chose the rows.
        known = {name.lower(): name for name in reversed(file.schema_arrow.names)}
        names = [known.get(name.lower()) for name in schema.names]
        wanted = [name for name in names if name is not None]
        first = 0
        for group in range(file.metadata.num_row_groups):
            meta = file.metadata.row_group(group)
            start, first = first, first + meta.num_rows
            low, high = np.searchsorted(rows, [start, first])
            if low == high:
                continue
            size = max(100, min(ROWS_PER_PIECE, PIECE_BYTES * meta.num_rows // max(1, meta.total_byte_size)))
            for batch in file.iter_batches(size, row_groups=[group], columns=wanted, use_threads=False):
                low, high = np.searchsorted(rows, [start, start + batch.num_rows])
                for begin in range(int(low), int(high), size):  # one answer may be that of very many records
                    end = min(begin + size, int(high))
                    piece = taken(batch, rows[begin:end] - start)
                    columns = [_column(piece, name, field, path) for name, field in zip(names, schema, strict=True)]
                    yield columns, begin, end
                start += batch.num_rows


def _column(piece: pa.RecordBatch, name: str | None, field: pa.Field, path: Path) -> pa.Array:
    if name is None:
        return pa.nulls(len(piece), field.type)
    column = piece.column(name)
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LedgerDamaged(
            f"{path}: the column {name!r} is {column.type}, and its answers do not fit the {field.type} of today "
            f"({error}); set reuse: false to ask anew, or restore the file from a backup"
        ) from error
