"""Of an append-only source the records that no earlier snapshot holds, told by the dataset's watermark.

The base of a snapshot holds every record up to its mark. New are the records above it, and at the mark itself those
whose ids the base and the snapshots it rests on do not hold: what arrives late with an equal value is not lost, and
nothing is taken twice. Sources leave unread what they can; what they give all the same is filtered here, so that
they may give too much and never too little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset.differential import difference_of
from claude_pipeline.dataset.identity import as_text
from claude_pipeline.dataset.origin import KeptOrigin, Origin
from claude_pipeline.dataset.records import Records
from claude_pipeline.dataset.row_group import old_groups
from claude_pipeline.dataset.source import SourceFile
from claude_pipeline.dataset.table import RECORD_ID, Table, listed
from claude_pipeline.dataset.watermark import Kind, Mark, above, at, form_of, highest, keys_of, kind_of
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged
from claude_pipeline.parquet_file import open_parquet
from claude_pipeline.workload import Dataset

_TYPES = "whole numbers, dates, timestamps or text"


@dataclass(frozen=True)
class Base:
    """What earlier snapshots hold: every record up to `mark`. `newest` is the file of `snapshot`; `tied` are those
    of all snapshots with that mark, this one included."""

    snapshot: str
    mark: Mark
    newest: Path
    tied: Sequence[Path]

    def schema(self) -> pa.Schema:
        """Of the file of `snapshot`.

        Raises:
            LedgerDamaged: its file is gone.
        """
        try:
            return pq.read_schema(self.newest)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.newest, error) from None

    def held(self, column: str) -> frozenset[str]:
        """Ids of the records at the mark; some hundred bytes of memory each."""
        return frozenset(found for file in self.tied for found in _ids_at(file, column, self.mark))


@dataclass
class Highest:
    """Grows as the rows are read: what the snapshot's mark will be."""

    mark: Mark | None


def newer(table: Table, dataset: Dataset, base: Base | None) -> tuple[Table, Highest]:
    """The table with the records that the base does not hold, and the highest value of base and records.

    Raises:
        DatasetInvalid: there is no such column, or, while it is read: its type is none that grows, another one
            than the base's, a value is missing, or text has several forms.
    """
    column = dataset.watermark
    assert column is not None
    if table.schema.names and column not in table.schema.names:
        raise DatasetInvalid(
            f"watermark: there is no column {column!r}; there are: {listed(table.schema.names, near=column)}",
            place=table.place,
        )
    filtering = _Filter(table, column, dataset.id or RECORD_ID, base)
    return Table(table.schema, filtering.batches(), table.place, filtering.origin), filtering.highest


def newer_files(files: Sequence[SourceFile], column: str, mark: Mark) -> list[SourceFile]:
    """Without those that lie in folders of an older value (`day=2026-11-22`); never none, as one tells the columns."""

    def is_old(file: SourceFile) -> bool:
        value = file.partitions.get(column)
        if value is None or not isinstance(mark.value, str):
            return False
        return form_of(value) == form_of(mark.value) and value < mark.value

    return [file for file in files if not is_old(file)] or list(files[-1:])


@dataclass
class _Filter:
    table: Table
    column: str
    id_column: str
    base: Base | None
    origin: Origin = field(init=False)
    highest: Highest = field(init=False)
    _form: str | None = None
    _ties: frozenset[str] | None = None
    _missing: int = 0
    _first_missing: int = 0  # row of the source

    def __post_init__(self) -> None:
        self.origin = KeptOrigin(self.table.origin) if self.base is not None else self.table.origin
        self.highest = Highest(self.base.mark if self.base is not None else None)
        if self.base is not None and isinstance(self.base.mark.value, str):
            self._form = form_of(self.base.mark.value)

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.table.batches:
            if len(batch):
                yield self._kept(batch)
        if self._missing:
            have = "record has" if self._missing == 1 else "records have"
            first = self.table.origin.place_of(self._first_missing)
            raise DatasetInvalid(
                f"{self._missing:,} {have} no {self.column} (first: {first}), so nobody could say whether they are new; "
                "fill it, or leave them out in sql:",
                place=self.table.place,
            )
        if isinstance(self.origin, KeptOrigin):
            self.origin.settle()

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = batch.column(self.column)
        kind = self._kind(values.type)
        absent = pc.is_null(values)
        if kind == "text":
            absent = pc.or_(absent, pc.fill_null(pc.equal(values, ""), True))
        if count := pc.sum(absent).as_py():
            if not self._missing:
                self._first_missing = self.table.origin.rows + pc.index(absent, pa.scalar(True)).as_py()
            self._missing += count
            return batch.slice(0, 0)  # on to the end, to count them all; then it is refused
        keys, unit = self._keys(values)
        if kind == "text":
            self._check_form(keys)
        most = highest(keys, unit, kind)
        known = self.highest.mark
        if most is not None and (known is None or most.value > known.value):  # type: ignore[operator]
            self.highest.mark = most
        if self.base is None:
            return batch
        new = self._is_new(batch, keys, unit, self.base)
        assert isinstance(self.origin, KeptOrigin)
        self.origin.took(np.flatnonzero(new))
        return batch.filter(new)

    def _is_new(self, batch: pa.RecordBatch, keys: pa.Array, unit: int, base: Base) -> pa.Array:
        new, tied = above(keys, unit, base.mark), at(keys, unit, base.mark)
        if not pc.any(tied).as_py():
            return new
        held = self._ties = base.held(self.column) if self._ties is None else self._ties
        rows = np.flatnonzero(tied)
        ids = as_text(batch.column(self.id_column).take(pa.array(rows)), self.id_column, self.table.place)
        late = [row for row, found in zip(rows.tolist(), ids.to_pylist(), strict=True) if found not in held]
        kept = np.array(new)
        kept[late] = True
        return pa.array(kept)

    def _kind(self, column: pa.DataType) -> Kind:
        kind = kind_of(column)
        if kind is None:
            raise DatasetInvalid(
                f"watermark: column {self.column!r} is {column}; name one of {_TYPES}, or cast it in sql:",
                place=self.table.place,
            )
        if self.base is not None and kind != self.base.mark.kind:
            raise DatasetInvalid(
                f"watermark: column {self.column!r} is {kind} now, and was {self.base.mark.kind} in snapshot "
                f"{self.base.snapshot}, so they cannot be compared; cast it back in sql:, or give it another name there: "
                "under that everything is read once more",
                place=self.table.place,
            )
        return kind

    def _keys(self, values: pa.Array) -> tuple[pa.Array, int]:
        try:
            return keys_of(values)
        except pa.ArrowException:
            raise DatasetInvalid(
                f"watermark: column {self.column!r} holds whole numbers beyond 64 bits; name another column",
                place=self.table.place,
            ) from None

    def _check_form(self, keys: pa.Array) -> None:
        """Refuse text whose code points do not grow with it: it would be skipped without a word."""
        forms = {form_of(text) for text in pc.unique(keys).to_pylist()}
        known = self._form if self._form is not None else form_of(keys[0].as_py())
        if known is not None and forms == {known}:
            self._form = known
            return
        row = next(row for row, text in enumerate(keys.to_pylist()) if known is None or form_of(text) != known)
        other = form_of(keys[row].as_py())
        what = (
            "holds text that does not grow in the order of its characters"
            if other is None
            else f"holds text of several forms, here as {other} and before as {known}, as numbers of more digits have it"
        )
        raise DatasetInvalid(
            f"watermark: column {self.column!r} {what} ({self.table.origin.place_of(self.table.origin.rows + row)}), "
            "so a new record could pass for an old one; write ISO 8601 of one offset or one width, or cast the column "
            "in sql:, as in CAST(created_at AS TIMESTAMP) or CAST(id AS BIGINT)",
            place=self.table.place,
        )


def _ids_at(snapshot: Path, column: str, mark: Mark) -> Iterator[str]:
    """Ids of a snapshot's records whose value is the mark; reads the row groups that may hold one."""
    try:
        with open_parquet(snapshot) as parquet, Records(snapshot) as records:
            differs = difference_of(parquet.metadata) is not None  # its statistics tell of its own records alone
            old = set() if differs else old_groups(parquet, column, mark)
            for group in (group for group in range(len(records.spans)) if group not in old):
                for batch in records.batches(group, columns=[RECORD_ID, column]):
                    tied = at(*keys_of(batch.column(column)), mark)
                    yield from batch.column(RECORD_ID).filter(tied).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(snapshot, error) from None
    except LedgerDamaged as error:
        raise _unreadable(snapshot, error.__cause__ or error) from None


def _unreadable(snapshot: Path, error: BaseException) -> LedgerDamaged:
    return LedgerDamaged(
        f"{snapshot} cannot be read ({type(error).__name__}), and says which records are old; restore it from a backup"
    )
