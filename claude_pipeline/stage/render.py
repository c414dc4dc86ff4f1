"""Records of a snapshot -> requests, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from claude_pipeline.dataset import Records
from claude_pipeline.request import NoMoment, Prompt, Rejection, Request, RequestMaker
from claude_pipeline.request_table import RequestTable, texts_made
from claude_pipeline.stage.ascending import Ascending, Rows
from claude_pipeline.template import Unusable

BATCH_ROWS = 5_000
# Prompts that are rendered at once. So few stay in the processor's cache, and their memory is used again for the next:
# 4.0 us a record where 5,000 at once take 5.3 (2026-11-27, 1.4 KB of prompt).
PROMPTS = 500


class Maker(Protocol):
    """Makes the request of a record; rows come in ascending order."""

    @property
    def prompt(self) -> Prompt: ...

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection: ...


def requests_of(records: Path, maker: Maker, rows: Iterable[pa.Array]) -> Iterator[Request]:
    """The requests of chosen rows, given in ascending order, in pieces."""
    wanted = Ascending(rows)
    with Records(records) as opened:
        for group, span in enumerate(opened.spans):
            chosen = wanted.below(span.first + span.rows)
            if len(chosen):  # else the group is not even read
                yield from _of_group(opened, group, maker, chosen)
            if wanted.over:
                return


def _of_group(records: Records, group: int, maker: Maker, chosen: Rows) -> Iterator[Request]:
    """The requests of chosen rows of a row group."""
    first = records.spans[group].first
    for batch in records.batches(group, columns=columns_for(maker), rows=BATCH_ROWS):
        begin, end = np.searchsorted(chosen, [first, first + batch.num_rows])
        numbers = chosen[begin:end]
        if len(numbers):
            picked = batch if len(numbers) == batch.num_rows else batch.take(pa.array(numbers - first))
            for number, (record_id, record) in zip(numbers.tolist(), _rows(picked), strict=True):
                made = maker.make(number, record_id, record)
                if isinstance(made, Request):
                    yield made
        first += batch.num_rows


def made_of(maker: Maker, batch: pa.RecordBatch, rows: Sequence[int]) -> RequestTable | Iterable[Request | Rejection]:
    """What became of each record of a batch with the maker's columns, whose `rows` in the snapshot are given: a table
    where all are requests of one model. Where one may take a second, they come as they are made. What is refused is
    rendered twice: once among others, and once to say why."""
    if not isinstance(maker, RequestMaker):
        return _each_made(maker, batch, rows)
    pieces = (batch.slice(first, PROMPTS) for first in range(0, len(rows), PROMPTS))
    try:
        table, odd = texts_made(
            maker, rows, batch.column("record_id"), (_prompts(maker.prompt, piece) for piece in pieces)
        )
    except Unusable:
        return _each_made(maker, batch, rows)
    if not odd:
        return table
    alone = _each_made(maker, batch.take(pa.array(odd)), [rows[at] for at in odd])
    return sorted([*table.requests(), *alone])


def _each_made(maker: Maker, batch: pa.RecordBatch, rows: Sequence[int]) -> Iterator[Request | Rejection]:
    for row, (record_id, record) in zip(rows, _rows(batch), strict=True):
        yield maker.make(row, record_id, record)


def _prompts(prompt: Prompt, batch: pa.RecordBatch) -> Sequence[str | None]:
    """The prompt of each record; None where there may be none. Raises as `Prompt.text`."""
    columns = [batch.column(name) for name in prompt.columns]
    if all(map(_is_printed, columns)):
        printed = {name: column.to_pylist() for name, column in zip(prompt.columns, columns, strict=True)}
        texts = prompt.render_texts(printed)
        if texts is not None:
            return texts
    return [prompt.text(record) for _, record in _rows(batch)]


def _is_printed(array: pa.Array) -> bool:
    """Whether a prompt takes each value as Python prints it: text, numbers, truth values, and none that is refused."""
    kind = array.type
    if array.null_count:
        return False
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return bool(np.isfinite(array.to_numpy()).all())
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def columns_for(maker: Maker) -> list[str]:
    """What of the records it takes."""
    return ["record_id", *(name for name in maker.prompt.columns if name != "record_id")]


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, dict[str, object]]]:
    """(record_id, the columns that the prompt asks for) of each row."""
    names = batch.schema.names
    ids = batch.column("record_id").to_pylist()
    columns = [_values(batch.column(name)) for name in names]
    for record_id, *values in zip(ids, *columns, strict=True):
        yield record_id, dict(zip(names, values, strict=True))


def _values(array: pa.Array) -> list[Any]:
    try:
        values: list[Any] = array.to_pylist()
    except (OverflowError, ValueError, LookupError):  # of one date among many
        values = [_value(scalar) for scalar in array]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError, LookupError):
        return NoMoment()
