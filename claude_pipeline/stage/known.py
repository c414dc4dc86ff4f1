"""What an earlier plan knows of records that have not changed since: their rows in it hold for a new plan too.

A nightly snapshot of a table that hardly changes would else be rendered anew each night for the same fingerprints. A
record counts as unchanged where it stands in the same row as in the newest planned snapshot, and its id and all columns
that the prompt prints are equal. The plans must be about the same question, of the same model, and of records with the
same columns; and what nothing here could foresee is noticed all the same: the first batch that holds some of them is
rendered, and where a fingerprint of one that has not changed differs, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import Mask, Records, alike, columns_of, is_comparable, one_batch
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.home import sha256_of
from claude_pipeline.ledger import SnapshotRow
from claude_pipeline.parquet_file import footer_sha256, open_parquet
from claude_pipeline.stage.desk import Desk
from claude_pipeline.workload import Workload

RECORDS_KEY = b"records"  # in a plan's metadata: `footer_sha256` of the snapshot's file


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

    def __init__(self, earlier: Records, plan: Path, columns: Sequence[str], *, model: str, most_bytes: int) -> None:
        """`model` is asked first now, and a request of at most `most_bytes` surely fits."""
        self._earlier, self._columns = earlier, list(columns)
        self._model, self._most_bytes = model, most_bytes
        self._plan = _Rows(plan)
        self._group, self._table = -1, pa.table({})
        self._is_whole = True  # the earlier snapshot, as far as it was read

    def group(self, records: Records, group: int) -> pa.Table | None:
        """The plan's rows of a whole row group of the new snapshot; None where any of its records is not known."""
        if not records.holds(group, self._earlier):
            return None
        span = records.spans[group]
        plan = self._plan.slice(span.first, span.rows)
        return plan if self._holds(plan).all() else None

    def of(self, batch: pa.RecordBatch, first: int) -> Unchanged | None:
        """Of records of the new snapshot that begin at row `first`; None where none is known."""
        try:
            before = self._before(first, batch.num_rows) if self._is_whole else None
        except LedgerDamaged:  # a page is not what was written: the records tell what they ask
            self._is_whole, before = False, None
        if before is None:
            return None
        count = before.num_rows
        same = alike(batch.slice(0, count), before, self._columns)
        return self._unchanged(same, self._plan.slice(first, count), batch.num_rows)

    def of_group(self, records: Records, group: int) -> Unchanged | None:
        """Of a row group of the new snapshot, where it rests on the same file as the earlier one: only records that neither
        has from there are compared, as what one alone has not differs. None where it does not, or none is known."""
        first, rows = records.spans[group]
        count = min(rows, self._earlier.count - first)
        same = records.shared(self._earlier, first, count) if count > 0 and self._is_whole else None
        if same is None:
            return None
        unsure = np.flatnonzero(records.own(first, count) & self._earlier.own(first, count))
        try:
            before = one_batch(self._earlier.at(unsure + first, self._columns))
        except LedgerDamaged:
            self._is_whole = False
            return None
        same[unsure] = alike(one_batch(records.at(unsure + first, self._columns)), before, self._columns)
        return self._unchanged(same, self._plan.slice(first, count), rows)

    def _unchanged(self, same: Mask, plan: pa.Table, rows: int) -> Unchanged | None:
        """Of `rows` records the first are the `same`, or not, and had these rows of the plan."""
        mask = np.zeros(rows, np.bool_)
        mask[: len(same)] = same & self._holds(plan)
        return Unchanged(mask, plan) if mask.any() else None

    def _holds(self, plan: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows of the earlier plan hold still, where their records have not changed: those that were asked."""
        asks = pc.equal(plan.column("model"), self._model)
        fits = pc.less_equal(plan.column("size_bytes"), self._most_bytes)
        return np.asarray(pc.fill_null(pc.and_(asks, fits), False))

    def _before(self, first: int, rows: int) -> pa.RecordBatch | None:
        """Those rows of the earlier snapshot, as far as it goes."""
        pieces = []
        for group, span in enumerate(self._earlier.spans):
            begin, end = max(first, span.first), min(first + rows, span.first + span.rows)
            if begin < end:
                if self._group != group:
                    self._group = group
                    self._table = pa.Table.from_batches(self._earlier.batches(group, columns=self._columns))
                pieces.append(self._table.slice(begin - span.first, end - begin))
        return one_batch(pa.concat_tables(pieces)) if pieces else None


def _footer_of(records: Path) -> str | None:
    """None: it is no Parquet file any more."""
    try:
        return footer_sha256(records)
    except OSError:
        return None


class _Rows:
    """A plan's rows, in order."""

    def __init__(self, path: Path) -> None:
        self._batches = open_parquet(path).iter_batches(5_000)
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


@contextmanager
def known_of(
    desk: Desk,
    workload: Workload,
    records: Path,
    columns: Sequence[str],
    *,
    about: Mapping[bytes, bytes],
    most_bytes: int,
) -> Iterator[Known | None]:
    """What the newest planned snapshot knows of `records`, whose `columns` are printed.

    None where its plan is `about` another question, its records have other columns, or a file is not what it was.
    """
    earlier = next((s for s in reversed(desk.ledger.snapshots(workload.name)) if s.plan_path is not None), None)
    if earlier is None or earlier.plan_path is None or workload.route is not None:  # a route may look at any column
        yield None
        return
    before, plan = desk.path(earlier.path), desk.path(earlier.plan_path)
    if planned_about(desk, earlier) != about:
        yield None
        return
    try:
        opened = Records(before)
    except LedgerDamaged:  # the full snapshot that it rests on
        yield None
        return
    with opened:
        names = ["record_id", *(name for name in columns if name != "record_id")]
        printed = [opened.schema.field(name).type for name in names if name in opened.schema.names]
        comparable = columns_of(before) == columns_of(records) and all(map(is_comparable, printed))
        yield Known(opened, plan, names, model=workload.models[0], most_bytes=most_bytes) if comparable else None


def planned_about(desk: Desk, snapshot: SnapshotRow) -> Mapping[bytes, bytes] | None:
    """What a snapshot's plan is about, where both files are what was written; None: it has no plan, or one of them is not."""
    if snapshot.plan_path is None:
        return None
    records, plan = desk.path(snapshot.path), desk.path(snapshot.plan_path)
    if not plan.exists() or not records.exists() or sha256_of(plan) != snapshot.plan_sha256:
        return None
    about: dict[bytes, bytes] = pq.read_schema(plan).metadata
    return about if about.pop(RECORDS_KEY, b"").decode() == _footer_of(records) else None
