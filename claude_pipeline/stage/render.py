"""Records of a snapshot -> requests, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from claude_pipeline.dataset import record_batches
from claude_pipeline.garbage import no_search
from claude_pipeline.progress import told
from claude_pipeline.request import NoMoment, Prompt, Rejection, Request

BATCH_ROWS = 5_000


class Maker(Protocol):
    """Makes the request of a record; rows come in ascending order."""

    @property
    def prompt(self) -> Prompt: ...

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection: ...


def all_made(records: Path, maker: Maker) -> Iterator[list[Request | Rejection]]:
    """Every record's request or rejection, a batch at a time."""
    row, total = 0, pq.read_metadata(records).num_rows
    for batch in record_batches(records, columns=_columns(maker), rows=BATCH_ROWS):
        with no_search():
            made = [maker.make(row + i, record_id, record) for i, (record_id, record) in enumerate(_rows(batch))]
        row += batch.num_rows
        yield made
        told("rendering", row, total=total, unit="records")


def requests_of(records: Path, maker: Maker, rows: Iterable[pa.Array]) -> Iterator[Request]:
    """The requests of chosen rows, given in ascending order, in pieces."""
    wanted = _Ascending(rows)
    row = 0
    for batch in record_batches(records, columns=_columns(maker), rows=BATCH_ROWS):
        chosen = wanted.below(row + batch.num_rows)
        if chosen:
            every = chosen == list(range(row, row + batch.num_rows))
            picked = batch if every else batch.take(pa.array([r - row for r in chosen], pa.int64()))
            for number, (record_id, record) in zip(chosen, _rows(picked), strict=True):
                made = maker.make(number, record_id, record)
                if isinstance(made, Request):
                    yield made
        row += batch.num_rows
        if wanted.over:
            return


class _Ascending:
    """Ascending row numbers that arrive in pieces, taken up to a bound."""

    def __init__(self, pieces: Iterable[pa.Array]) -> None:
        self._pieces = iter(pieces)
        self._held: list[int] = []
        self.over = False

    def below(self, bound: int) -> list[int]:
        taken: list[int] = []
        while not self.over:
            if not self._held:
                piece = next(self._pieces, None)
                if piece is None:
                    self.over = True
                    break
                self._held = piece.to_pylist()
                continue
            if self._held[-1] < bound:
                taken += self._held
                self._held = []
                continue
            split = next(i for i, value in enumerate(self._held) if value >= bound)
            taken += self._held[:split]
            self._held = self._held[split:]
            break
        return taken


def _columns(maker: Maker) -> list[str]:
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
