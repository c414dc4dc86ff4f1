"""How Parquet files are read and written here.

Records are written twice (the snapshot, the merged rows) and read three times. Of texts of 1.4 KB snappy takes 1.4 to 3.5 us to
write one and 1.3 to 2.2 to read it, checksums included (2026-11-27): a tenth of all that a record costs. Prose becomes 0.6
of its size, JSON and logs 0.4, and what is packed or encoded already hardly less.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SNAPPY, NONE = "snappy", "none"  # as pyarrow names them
WORTH_IT = 1 / 2  # of the size: snappy saves so much, or is left out
SAMPLE_ROWS = 200
SAMPLE_BYTES = 4_000_000  # of wide records fewer are tried
REPEAT_ROWS = 1_000  # that are asked whether values repeat
# Read at once: memory that is used again, where ten thousand rows of a text take new memory, twice.
PIECE_ROWS = 1_000
READ_AHEAD_BYTES = 1 << 18
TAIL_BYTES = 8  # of each Parquet file: the length of its footer, and a mark


def open_parquet(path: Path) -> pq.ParquetFile:
    """To be read a piece at a time, and checked by page, since neither pyarrow nor DuckDB does so unasked."""
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_AHEAD_BYTES, page_checksum_verification=True)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Its columns, or those named, at once: without pandas, which `pyarrow.parquet.read_table` imports for its data sets."""
    with pq.ParquetFile(path) as file:
        return file.read(None if columns is None else list(columns))


def footer_sha256(path: Path) -> str:
    """Of what a file says of itself: columns, counts, where each page lies, how long it is, least and greatest values.

    A file of the same footer whose page checksums hold is the same file, unless somebody wrote one anew with values of the
    same lengths and extremes; it is read in a hundredth of the time of the whole. Raises OSError where it is no Parquet file.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - TAIL_BYTES
        file.seek(max(0, end))
        tail = file.read(TAIL_BYTES)
        start = end - int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or start < 0:
            raise OSError(f"{path} is no Parquet file")
        file.seek(start)
        return hashlib.sha256(file.read(end - start)).hexdigest()


def only_value(file: pq.FileMetaData, name: str) -> Any | None:
    """The one value that a column at the top has in all rows, none of which is null, as the file's footer says.

    None: it has several, or the footer does not say.
    """
    found = set()
    for number in range(file.num_row_groups):
        group = file.row_group(number)
        columns = (group.column(place) for place in range(group.num_columns))
        facts = next((column.statistics for column in columns if column.path_in_schema == name), None)
        if facts is None or not facts.has_min_max or not facts.has_null_count or facts.null_count:
            return None
        found |= {facts.min, facts.max}
    return found.pop() if len(found) == 1 else None


def in_pieces(table: pa.Table) -> pa.Table:
    """The same rows, each column in pieces of `PIECE_ROWS`: where the pages of a file end depends on them."""
    pieces: list[pa.RecordBatch] = []
    for first in range(0, len(table), PIECE_ROWS):
        pieces += table.slice(first, PIECE_ROWS).combine_chunks().to_batches()
    return pa.Table.from_batches(pieces, table.schema)


def options_for(rows: pa.Table, compression: str) -> dict[str, Any]:
    """How `pyarrow.parquet` writes a file whose first rows these are: page checksums, and dictionaries where they pay."""
    return {"compression": compression, "write_page_checksum": True, "use_dictionary": repeating(rows)}


def begun(groups: Iterator[pa.Table], schema: pa.Schema) -> tuple[pa.Table, Iterator[pa.Table]]:
    """The first of row groups, empty where there is none, and all of them."""
    first = next(groups, None)
    if first is None:
        return schema.empty_table(), iter(())
    return first, itertools.chain([first], groups)


def repeating(rows: pa.Table) -> list[str]:
    """The columns whose values repeat, as their paths in a file: at most half as many values as rows, of the first thousand.

    A dictionary of values that are all different is made in vain, and is larger than they are: of merged rows it took up
    to a tenth of their time, of attempts a fifth (2026-11-28).
    """
    first = rows.slice(0, REPEAT_ROWS).combine_chunks()
    leaves = [leaf for name in first.schema.names for leaf in _leaves(first.column(name).combine_chunks(), name)]
    return [path for path, values in leaves if _do_repeat(values)]


def _do_repeat(values: pa.Array) -> bool:
    try:
        return bool(2 * pc.count_distinct(values, mode="all").as_py() <= len(values))
    except pa.ArrowNotImplementedError:  # of few types; Arrow would write them so
        return True


def _leaves(array: pa.Array, path: str) -> Iterator[tuple[str, pa.Array]]:
    """What Parquet has a column of, with its path."""
    kind = array.type
    if pa.types.is_struct(kind):
        for field, inner in zip(kind.fields, array.flatten(), strict=True):
            yield from _leaves(inner, f"{path}.{field.name}")
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys, f"{path}.key_value.key")
        yield from _leaves(array.items, f"{path}.key_value.value")
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten(), f"{path}.list.element")
    else:
        yield path, array


def compression_for(records: pa.Table) -> str:
    """By a sample of them, evenly spread: the same records are always compressed alike."""
    rows = len(records)
    if not rows:
        return SNAPPY
    most = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES * rows // max(1, records.nbytes)))
    sample = records
    if rows > most:
        sample = records.take(pa.array(np.linspace(0, rows - 1, most).astype(np.int64)))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, sample.schema, compression=SNAPPY) as writer:
        writer.write_table(sample)
    with pq.ParquetFile(pa.BufferReader(sink.getvalue())) as file:
        columns = _columns(file.metadata)
    plain = sum(column.total_uncompressed_size for column in columns)
    small = sum(column.total_compressed_size for column in columns)
    return SNAPPY if small <= plain * (1 - WORTH_IT) else NONE


def compression_of(file: pq.FileMetaData) -> str:
    """How the records of such a file are compressed: what is made of them goes the same way."""
    columns = _columns(file)
    return NONE if columns and all(column.compression == "UNCOMPRESSED" for column in columns) else SNAPPY


def _columns(file: pq.FileMetaData) -> list[pq.ColumnChunkMetaData]:
    """Of the first row group."""
    if not file.num_row_groups:
        return []
    group = file.row_group(0)
    return [group.column(number) for number in range(group.num_columns)]
