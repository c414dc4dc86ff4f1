"""What an earlier plan knows of records that have not changed since: their rows in it hold for a new plan too.

A nightly snapshot of a table that hardly changes would else be rendered anew each night for the same fingerprints. A
record counts as unchanged where it stands in the same row as in the newest planned snapshot, and its id and all columns
that the prompt prints are equal. The plans must be of the same question (`shape_of`), and what nothing here could
foresee is noticed all the same: the first records are always rendered, and where a fingerprint of one that has not
changed differs, nothing is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import Records
from claude_pipeline.home import sha256_of
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

SHAPE_KEY = b"shape"  # in a plan's metadata


@dataclass(frozen=True)
class Unchanged:
    """Which of a batch of records are known, and the rows of the earlier plan in their places."""

    mask: npt.NDArray[np.bool_]
    plan: pa.Table


def agree(plan: pa.Table, unchanged: Unchanged) -> bool:
    """Whether records that have not changed ask what they asked, where they were rendered anew."""
    rows = pa.array(np.flatnonzero(unchanged.mask))
    fingerprints: pa.ChunkedArray = plan.column("fingerprint").take(rows)
    return bool(fingerprints.equals(unchanged.plan.column("fingerprint").take(rows)))


class Known:
    """An earlier snapshot with its plan, walked along with a new one."""

    def __init__(self, earlier: Records, plan: Path, columns: Sequence[str]) -> None:
        self._earlier, self._columns = earlier, list(columns)
        self._plan = _Rows(plan)
        self._group, self._table = -1, pa.table({})

    def group(self, records: Records, group: int) -> pa.Table | None:
        """The plan's rows of a whole row group of the new snapshot; None where any of its records is not known."""
        if not records.holds(group, self._earlier):
            return None
        span = records.spans[group]
        plan = self._plan.slice(span.first, span.rows)
        return None if plan.column("fingerprint").null_count else plan

    def of(self, batch: pa.RecordBatch, first: int) -> Unchanged | None:
        """Of records of the new snapshot that begin at row `first`; None where none is known."""
        before = self._before(first, batch.num_rows)
        if before is None:
            return None
        count = before.num_rows
        plan = self._plan.slice(first, count)
        mask = np.zeros(batch.num_rows, np.bool_)
        mask[:count] = np.asarray(pc.is_valid(plan.column("fingerprint")))
        for name in self._columns:
            mask[:count] &= _same(batch.column(name).slice(0, count), before.column(name).combine_chunks())
        return Unchanged(mask, plan) if mask.any() else None

    def _before(self, first: int, rows: int) -> pa.Table | None:
        """Those rows of the earlier snapshot, as far as it goes."""
        pieces = []
        for group, span in enumerate(self._earlier.spans):
            begin, end = max(first, span.first), min(first + rows, span.first + span.rows)
            if begin < end:
                if self._group != group:
                    self._group = group
                    self._table = pa.Table.from_batches(self._earlier.batches(group, columns=self._columns))
                pieces.append(self._table.slice(begin - span.first, end - begin))
        return pa.concat_tables(pieces) if pieces else None


def _same(new: pa.Array, old: pa.Array) -> npt.NDArray[np.bool_]:
    """Where two columns hold what prints alike."""
    if new.type != old.type:
        return np.zeros(len(new), np.bool_)
    if pa.types.is_floating(new.type):  # by their bits: 0.0 and -0.0 are equal, and print otherwise
        bits = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[new.type.bit_width]
        new, old = new.view(bits), old.view(bits)
    equal = pc.or_(pc.fill_null(pc.equal(new, old), False), pc.and_(pc.is_null(new), pc.is_null(old)))
    return np.asarray(equal)


class _Rows:
    """A plan's rows, in order."""

    def __init__(self, path: Path) -> None:
        self._batches = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True).iter_batches(5_000)
        self._held: list[pa.RecordBatch] = []
        self._first = 0  # row of the first one held

    def slice(self, first: int, count: int) -> pa.Table:
        """Rows are asked for in ascending order."""
        while self._held and self._first + self._held[0].num_rows <= first:
            self._first += self._held.pop(0).num_rows
        while self._first + sum(batch.num_rows for batch in self._held) < first + count:
            batch = next(self._batches)
            if not self._held and self._first + batch.num_rows <= first:
                self._first += batch.num_rows
                continue
            self._held.append(batch)
        return pa.Table.from_batches(self._held).slice(first - self._first, count)


def shape_of(workload: Workload, columns: Sequence[str], limits: object) -> str:
    """Changes with whatever else than a record may decide on its row in a plan: any field of the workload, its template,
    the columns that are printed, the `limits` that a request must keep."""
    parts = [workload.model_dump_json(), workload.template(), list(columns), repr(limits)]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:16]


@contextmanager
def known_of(desk: Desk, workload: Workload, columns: Sequence[str], shape: str) -> Iterator[Known | None]:
    """What the newest planned snapshot knows; None where its plan is of another shape, or a file is not what it was."""
    earlier = next((s for s in reversed(desk.ledger.snapshots(workload.name)) if s.plan_path is not None), None)
    if earlier is None or earlier.plan_path is None or workload.route is not None:  # a route may look at any column
        yield None
        return
    records, plan = desk.path(earlier.path), desk.path(earlier.plan_path)
    if not _has_shape(plan, shape) or sha256_of(plan) != earlier.plan_sha256:
        yield None
        return
    if not records.exists() or sha256_of(records) != earlier.digest:
        yield None
        return
    with Records(records) as opened:
        names = ["record_id", *(name for name in columns if name != "record_id")]
        comparable = all(
            name in opened.schema.names and not pa.types.is_nested(opened.schema.field(name).type) for name in names
        )
        yield Known(opened, plan, names) if comparable else None


def _has_shape(plan: Path, shape: str) -> bool:
    if not plan.exists():
        return False
    return (pq.read_schema(plan).metadata or {}).get(SHAPE_KEY) == shape.encode()
