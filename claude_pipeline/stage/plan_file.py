"""The plan file: one row per record of a snapshot, with its question's fingerprint or why it cannot be asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from claude_pipeline.dataset import Origin, Records, one_batch
from claude_pipeline.errors import DatasetInvalid, PromptInvalid
from claude_pipeline.garbage import no_search
from claude_pipeline.parquet_file import footer_sha256
from claude_pipeline.progress import told
from claude_pipeline.request import Rejection, Request
from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline.stage.fit import Fit
from claude_pipeline.stage.known import RECORDS_KEY, Known, Unchanged, agree
from claude_pipeline.stage.question import metadata_of
from claude_pipeline.stage.render import BATCH_ROWS, Maker, columns_for, made_of
from claude_pipeline.stage.spool import Spool
from claude_pipeline.workload import Workload

PLAN = pa.schema(
    [
        ("row", pa.int64()),  # in the snapshot, from 0
        ("record_id", pa.string()),
        ("fingerprint", pa.binary(32)),  # null: rejected
        ("reject_code", pa.string()),
        ("reject_detail", pa.string()),
        ("size_bytes", pa.int64()),  # of the request's params; null: rejected
        ("model", pa.string()),  # that is asked first, as the workload names it; null: rejected
        ("further", pa.list_(pa.binary(32))),  # fingerprints of the same prompt for a cascade's later models
    ]
)
TEMPLATE_KEY = b"template"
SHOWN = 3  # rejected records that a refusal names
RUNAWAYS = 3  # records, where they are most of those seen so far, say that it is the template


def write_plan(
    records: Path,
    maker: Maker,
    path: Path,
    workload: Workload,
    *,
    fit: Fit,
    origin: Origin,
    spool: Spool | None = None,
    known: Known | None = None,
) -> int:
    """Write one row per record; returns how many cannot become a request. Their details say where they came from.

    With a `spool`, the params of all others go into it, or of those that are rendered: what is `known` of an earlier plan
    is taken from it, but with a spool of all. One that is not, of a plan that nothing is known for, is closed.

    Raises:
        PromptInvalid: the template does too much for the records; each may take a second, so it stops early.
    """
    options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": ["reject_code", "model"]}
    about = about_of(workload) | {RECORDS_KEY: footer_sha256(records).encode()}
    with (
        Records(records) as opened,
        pq.ParquetWriter(path, PLAN.with_metadata(about), **options) as writer,
    ):
        refusals = _Refusals(workload, fit, origin, total=opened.count)
        if origin.faults or (spool is not None and spool.is_of_all):
            known = None
        planner = _Planner(maker, refusals, origin, spool, known)
        for group, span in enumerate(opened.spans):
            if not span.rows:
                continue
            rows = pa.concat_tables(planner.rows(opened, group)).combine_chunks()
            writer.write_table(rows.cast(PLAN), row_group_size=span.rows)
            told("rendering", span.first + span.rows, total=opened.count, unit="records")
    return refusals.rejected


def about_of(workload: Workload) -> dict[bytes, bytes]:
    """A plan's metadata, but for what it says of its records.

    One with another max_tokens is another plan, though its questions are the same.
    """
    return {
        b"max_tokens": str(workload.max_tokens).encode(),
        TEMPLATE_KEY: template_digest(workload).encode(),
    } | metadata_of(workload)


class _Planner:
    """The rows of a plan, row group by row group of its snapshot."""

    def __init__(
        self, maker: Maker, refusals: _Refusals, origin: Origin, spool: Spool | None, known: Known | None
    ) -> None:
        self._maker, self._refusals, self._origin = maker, refusals, origin
        self._spool, self._known = spool, known
        self._close_spool_unless_known()
        self._is_confirmed = False  # what is known: some of it was rendered all the same, and is what it was

    def rows(self, records: Records, group: int) -> list[pa.Table]:
        """In the columns of PLAN. Raises as `write_plan`."""
        span = records.spans[group]
        plan = self._known.group(records, group) if self._known is not None and self._is_confirmed else None
        if plan is not None:
            self._refusals.seen += span.rows
            return [plan]
        unchanged = self._known.of_group(records, group) if self._known is not None and self._is_confirmed else None
        if unchanged is not None:
            return [self._mixed(records, span.first, unchanged)]
        first, tables = span.first, []
        for batch in records.batches(group, columns=columns_for(self._maker), rows=BATCH_ROWS):
            unchanged = self._known.of(batch, first) if self._known is not None else None
            if unchanged is None:
                tables.append(self._made(batch, range(first, first + batch.num_rows)))
            elif not self._is_confirmed:  # they are rendered all the same, to see that nothing else has changed
                tables.append(self._made(batch, range(first, first + batch.num_rows)))
                self._is_confirmed = agree(tables[-1], unchanged)
                if not self._is_confirmed:
                    self._known = None
                    self._close_spool_unless_known()
            else:
                tables.append(self._mixed(records, first, unchanged, batch))
            first += batch.num_rows
        return tables

    def _mixed(
        self, records: Records, first: int, unchanged: Unchanged, batch: pa.RecordBatch | None = None
    ) -> pa.Table:
        """What is known as it was, what is not made anew, each in its place; `batch` has their records, or they are read."""
        old, new = np.flatnonzero(unchanged.mask), np.flatnonzero(~unchanged.mask)
        self._refusals.seen += len(old)
        known = unchanged.plan.take(pa.array(old))
        made = []
        for some in (new[at : at + BATCH_ROWS] for at in range(0, len(new), BATCH_ROWS)):
            if batch is None:
                changed = one_batch(records.at(some + first, columns_for(self._maker)))
            else:
                changed = batch.take(pa.array(some))
            made.append(self._made(changed, (some + first).tolist()))
        if not made:
            return known
        return pa.concat_tables([known, *made]).take(pa.array(np.argsort(np.concatenate((old, new)))))

    def _made(self, batch: pa.RecordBatch, rows: Sequence[int]) -> pa.Table:
        if not batch.num_rows:
            return PLAN.empty_table()
        with no_search():
            made = made_of(self._maker, batch, rows)
            if isinstance(made, RequestTable) and self._refusals.passed(made):
                self._keep([made])
                return _all_asked(made)
            checked = self._refusals.checked(made.requests() if isinstance(made, RequestTable) else made)
            self._keep(tables_of(one for one in checked if isinstance(one, Request)))
            columns = zip(*(_row(one, self._origin) for one in checked), strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, PLAN.types, strict=True)]
        return pa.Table.from_arrays(arrays, schema=PLAN)

    def _close_spool_unless_known(self) -> None:
        """All would be rendered, and most of it for answers that are there."""
        if self._known is None and self._spool is not None and not self._spool.is_of_all:
            self._spool.close()

    def _keep(self, tables: Iterable[RequestTable]) -> None:
        if self._spool is not None:
            for table in tables:
                self._spool.add(table)


class _Refusals:
    """Says of each record whether it can be asked, and counts those that cannot."""

    def __init__(self, workload: Workload, fit: Fit, origin: Origin, *, total: int) -> None:
        self._workload, self._fit, self._origin, self._total = workload, fit, origin, total
        self._runaways = 0
        self.seen = self.rejected = 0

    def passed(self, requests: RequestTable) -> bool:
        """Whether the next records are all asked. They are then seen; else `checked` says which are not."""
        if self._origin.faults or int(requests.sizes.max(initial=0)) > self._fit.surely_bytes:
            return False
        self.seen += len(requests)
        return True

    def checked(self, batch: Iterable[Request | Rejection]) -> list[Request | Rejection]:
        """The requests and rejections of the next records. Raises as `write_plan`."""
        return [self._look_at(made) for made in batch]

    def _look_at(self, made: Request | Rejection) -> Request | Rejection:
        made = self._fit.checked(made)
        fault = self._origin.faults.get(made.row)
        if fault is not None:
            made = Rejection(made.row, made.record_id, *fault)
        self.seen += 1
        if isinstance(made, Rejection):
            self.rejected += 1
            if made.code == "too_much_work":
                self._runaways += 1
                self._refuse_runaway(made)
        return made

    def _refuse_runaway(self, made: Rejection) -> None:
        most = self._workload.max_reject_ratio * self._total
        if self._runaways > most or (self._runaways >= RUNAWAYS and self._runaways * 2 > self.seen):
            raise PromptInvalid(
                f"{self._workload.template_place}: {made.detail}; that was met in {self._runaways:,} of the first "
                f"{self.seen:,} records (the last: record number {made.row + 1:,}); nothing was sent"
            )


def _all_asked(requests: RequestTable) -> pa.Table:
    """The rows of a plan for records that are all asked."""
    count = len(requests)
    nothing = pa.nulls(count, pa.string())
    further = pa.repeat(pa.scalar([], PLAN.field("further").type), count)
    model = pa.repeat(requests.model, count)
    columns = [pa.array(requests.rows), requests.record_ids, requests.fingerprints, nothing, nothing]
    return pa.Table.from_arrays([*columns, pa.array(requests.sizes), model, further], schema=PLAN)


def _row(made: Request | Rejection, origin: Origin) -> tuple[object, ...]:
    row, record_id = made.row, made.record_id
    if isinstance(made, Rejection):
        return row, record_id, None, made.code, f"{origin.place_of(row)}: {made.detail}", None, None, ()
    return row, record_id, made.fingerprint, None, None, len(made.params), made.model, made.further


def refuse_too_many(plan: Path, rejected: int, records: int, workload: Workload) -> None:
    """Raises DatasetInvalid where more records are unusable than the workload bears."""
    if rejected > workload.max_reject_ratio * records:
        raise DatasetInvalid(_too_many(plan, rejected, records, workload), place=workload.place)


def template_digest(workload: Workload) -> str:
    """What shapes all questions and answers of a workload beside the record and the model."""
    parts = [workload.template(), workload.system, workload.params, workload.output]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _too_many(plan: Path, rejected: int, records: int, workload: Workload) -> str:
    codes = pq.read_table(plan, columns=["reject_code", "reject_detail"])
    refused = codes.filter(pc.is_valid(codes.column("reject_code")))
    counted = ", ".join(
        f"{c['values']} {c['counts']}" for c in refused.column("reject_code").value_counts().to_pylist()
    )
    shown = "; ".join(refused.column("reject_detail").slice(0, SHOWN).to_pylist())
    return (
        f"{rejected:,} of {records:,} records ({rejected / records:.1%}) cannot be asked ({counted}; "
        f"{'the first: ' if rejected > 1 else ''}{shown}), and max_reject_ratio is {workload.max_reject_ratio:g}; mend "
        "the records or the prompt, or raise max_reject_ratio; nothing was sent"
    )
