"""Record ids: a column of the dataset, or a digest of the record's content.

The digest is the first 32 hex digits of
    sha256(canonical JSON of the sorted column names + LF + canonical JSON of their values)
so it is the same in every snapshot that holds the same record. Equal contents are numbered in
their order: `<digest>`, `<digest>-2`, `<digest>-3`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset.duck import in_order, reader
from claude_pipeline.dataset.table import RECORD_ID
from claude_pipeline.errors import DatasetInvalid, DuplicateIds
from claude_pipeline.sql import file_literal, literal

DIGEST_CHARACTERS = 32
FEW_IDS, FEW_BYTES = 50_000, 8_000_000  # of ids that are compared in memory
FEW_OWN_IDS = 10_000  # of which a table is made for each batch of all ids
IDS_PER_BATCH = 10_000
_MEMORY_MB = 128  # millions of ids spill into scratch at hardly any cost
_SHOWN_CHARACTERS = 80
_SHOWN_IDS = 3
_SHOWN_ROWS = 3
_JSON_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


PlaceOf = Callable[[int], str]  # a row of the snapshot, from 0 -> file and line


def column_ids(
    batches: Iterable[pa.RecordBatch], column: str, *, place: str, place_of: PlaceOf
) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """Each batch with its ids, the column as text.

    Raises:
        DatasetInvalid: at the end, if records have no id, how many and which is the first.
    """
    missing = seen = first = 0
    for batch in batches:
        ids = as_text(batch.column(column), column, place)
        blank = pc.fill_null(pc.equal(ids, ""), True)
        if count := pc.sum(blank).as_py() or 0:
            if not missing:
                first = seen + pc.index(blank, pa.scalar(True)).as_py()
            missing += count
        seen += len(batch)
        yield ids, batch
    if missing:
        have = "record has" if missing == 1 else "records have"
        raise DatasetInvalid(
            f"{missing:,} {have} no {column} (first: {place_of(first)}); fill it, or leave out id: "
            "so that the content names the record",
            place=place,
        )


def as_text(array: pa.Array, column: str, place: str) -> pa.Array:
    try:
        return array.cast(pa.string())
    except pa.ArrowException:
        raise DatasetInvalid(
            f"id: column {column!r} is {array.type}; name a column of text or numbers", place=place
        ) from None


def content_ids(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """Each batch with the digests of its records, not numbered yet."""
    order = sorted(schema.names)
    names = hashlib.sha256(orjson.dumps(order) + b"\n")
    dumps, copy = orjson.dumps, names.copy
    plain = all(pa.types.is_string(field.type) for field in schema)
    options = None if plain else _JSON_OPTIONS
    for batch in batches:
        digests = []
        for row in zip(*(_values(batch.column(name)) for name in order), strict=True):
            digest = copy()
            digest.update(dumps(row, _json_value, options))
            digests.append(digest.hexdigest()[:DIGEST_CHARACTERS])
        yield pa.array(digests, pa.string()), batch


def _values(array: pa.Array) -> list[Any]:
    # As Python objects these would depend on pandas (nanoseconds) or have no JSON form.
    if pa.types.is_temporal(array.type):
        array = array.cast(pa.int64() if pa.types.is_duration(array.type) else pa.string())
    # For text numpy's way to the same objects is the quicker one.
    values: list[Any] = array.to_numpy(False).tolist() if pa.types.is_string(array.type) else array.to_pylist()
    return values


def _json_value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def check_unique(snapshot: Path, column: str, *, place: str, place_of: PlaceOf, scratch: Path) -> None:
    """Refuse a written snapshot in which an id stands twice, found out of core.

    Raises:
        DuplicateIds: with the first three such ids and where their records stand.
    """
    if _are_unique(snapshot):
        return
    rows = f"read_parquet({file_literal(snapshot)}, file_row_number = true)"
    with in_order(scratch, memory_mb=_MEMORY_MB) as connection:
        repeated = connection.sql(
            f"SELECT record_id, count(*) FROM {rows} GROUP BY record_id HAVING count(*) > 1 "
            f"ORDER BY min(file_row_number) LIMIT {_SHOWN_IDS}"
        ).fetchall()
        if not repeated:
            return
        said = []
        for record_id, times in repeated:
            numbers = connection.sql(
                f"SELECT file_row_number FROM {rows} WHERE record_id = {_matching(record_id)} "
                f"ORDER BY file_row_number LIMIT {_SHOWN_ROWS}"
            ).fetchall()
            listed = " and ".join(place_of(number) for (number,) in numbers) + (" …" if times > _SHOWN_ROWS else "")
            said.append(f"{record_id[:_SHOWN_CHARACTERS]!r} occurs {times:,} times ({listed})")
    ids = tuple(str(record_id) for record_id, _ in repeated)
    raise DuplicateIds(
        f"{column}: {'; '.join(said)}; make the ids unique, or leave out id: so that the content names the record",
        place=place,
        ids=ids,
    )


def _are_unique(snapshot: Path) -> bool:
    """Whether surely each id stands once, seen without a database: they ascend, or are few. False: not looked at."""
    with pq.ParquetFile(snapshot) as file:
        if not _are_few(file.metadata, FEW_IDS):
            return _ascend(batch.column(0) for batch in file.iter_batches(IDS_PER_BATCH, columns=[RECORD_ID]))
        return bool(len(file.read([RECORD_ID]).column(0).unique()) == file.metadata.num_rows)


def are_new(snapshot: Path, every: Callable[[], Iterable[pa.Array]]) -> bool:
    """Whether surely each id of a differential snapshot's file stands once among all ids of the snapshot, of which the others
    are known to be unique. False of many own ones: not looked at."""
    with pq.ParquetFile(snapshot) as file:
        if not _are_few(file.metadata, FEW_OWN_IDS):
            return False
        own = file.read([RECORD_ID]).column(0).combine_chunks()
    if len(own.unique()) < len(own):
        return False
    found = sum(pc.sum(pc.is_in(ids, value_set=own)).as_py() or 0 for ids in every())
    return bool(found == len(own))


def _are_few(facts: pq.FileMetaData, most: int) -> bool:
    """Of the ids, which have no dictionary: their sizes add up to that of their column."""
    size = sum(facts.row_group(group).column(0).total_uncompressed_size for group in range(facts.num_row_groups))
    return bool(facts.num_rows <= most and size <= FEW_BYTES)


def _ascend(columns: Iterator[pa.Array]) -> bool:
    """Whether each id is greater than the one before it, as those of an export often are; looked at as far as that holds."""
    last: pa.Array = pa.array([], pa.string())
    for ids in columns:
        joined = pa.concat_arrays([last, ids])
        if not pc.all(pc.less(joined.slice(0, max(0, len(joined) - 1)), joined.slice(1)), min_count=0).as_py():
            return False
        last = joined.slice(max(0, len(joined) - 1))
    return True


def _matching(record_id: str) -> str:
    """The id in a query, also where it holds a NUL, which no literal can."""
    return " || chr(0) || ".join(literal(part) for part in record_id.split("\0"))


def numbering(snapshot: Path, *, scratch: Path) -> Iterator[tuple[int, int]]:
    """(row, occurrence) of every record after the first of its content, by row; rows count from 0.

    Found out of core; nothing at all where every content stands once.
    """
    if _are_unique(snapshot):
        return
    rows = f"read_parquet({file_literal(snapshot)}, file_row_number = true)"
    query = f"""
        SELECT file_row_number AS row, row_number() OVER (PARTITION BY record_id ORDER BY file_row_number) AS occurrence
        FROM {rows}
        WHERE record_id IN (SELECT record_id FROM {rows} GROUP BY record_id HAVING count(*) > 1)
        QUALIFY occurrence > 1 ORDER BY row"""
    with in_order(scratch, memory_mb=_MEMORY_MB) as connection:
        for batch in reader(connection.sql(query)):
            yield from zip(batch.column("row").to_pylist(), batch.column("occurrence").to_pylist(), strict=True)


def numbered(batches: Iterable[pa.RecordBatch], occurrences: Iterator[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    """The written batches again, with `-2`, `-3` … put to the ids of repeated contents."""
    upcoming = next(occurrences, None)
    start = 0
    for batch in batches:
        end = start + len(batch)
        position = batch.schema.get_field_index(RECORD_ID)
        if upcoming is not None and upcoming[0] < end:
            ids = np.asarray(batch.column(position).to_pylist(), dtype=object)
            while upcoming is not None and upcoming[0] < end:
                row, occurrence = upcoming
                ids[row - start] += f"-{occurrence}"
                upcoming = next(occurrences, None)
            batch = batch.set_column(position, batch.schema.field(position), pa.array(ids, pa.string()))
        yield batch
        start = end
