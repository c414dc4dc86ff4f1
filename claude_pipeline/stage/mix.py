"""Several models in one workload: which request asks which, and chunks of one model each.

A mix is the workload once for each model (`Workload.variants`). The first pass over a snapshot renders each
record for the model that is asked first; the second renders the chosen rows of one model after the other, so
that memory stays flat and each chunk holds one model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from claude_pipeline.cache import CacheChoice
from claude_pipeline.dataset import Records, columns_of, first_true
from claude_pipeline.errors import PromptInvalid
from claude_pipeline.ledger import NewChunk, SnapshotRow
from claude_pipeline.request import Prompt, Rejection, Request, RequestMaker
from claude_pipeline.request_table import RequestTable, tables_of
from claude_pipeline.segment import Segment, in_tables
from claude_pipeline.stage.check import check_model
from claude_pipeline.stage.cut import cut
from claude_pipeline.stage.desk import Desk
from claude_pipeline.stage.render import Maker, requests_of
from claude_pipeline.workload import Workload

RowsOf = Callable[[str], Iterable[pa.Array]]  # a model -> the rows to ask of it, ascending, in pieces
Rendered = Callable[[Iterable[pa.Array]], Iterable[RequestTable | Segment]]  # such rows -> their requests


def maker_of(desk: Desk, workload: Workload, records: Path) -> Maker:
    """The maker of a workload over a snapshot's file. Raises as `RequestMaker.of` and `first_true`; PromptInvalid where all
    records would be one question."""
    columns = columns_of(records)
    makers = {variant.model: RequestMaker.of(variant, columns) for variant in workload.variants}
    if not any(maker.prompt.columns for maker in makers.values()) and (count := _count(records)) > 1:
        raise PromptInvalid(
            f"{workload.template_place}: names no column, so all {count:,} records would be one question; put a column "
            f"into it, as {{{{ {columns[-1]} }}}}"
        )
    if workload.route is not None:
        conditions = [entry.when for entry in workload.route if entry.when is not None]
        choices = first_true(
            records,
            conditions,
            fields=[f"route.{number}.when" for number in range(len(conditions))],
            place=workload.place,
            scratch=desk.home.scratch(),
        )
        return _Routed([makers[entry.model] for entry in workload.route], choices)
    first, *further = makers.values()
    return _Cascading(first, further) if further else first


def _count(records: Path) -> int:
    with Records(records) as opened:
        return opened.count


class _Routed:
    """Each record by the maker of its route."""

    def __init__(self, makers: list[RequestMaker], choices: Iterator[pa.Array]) -> None:
        self._makers, self._choices = makers, choices
        self._first = 0
        self._held: list[int] = []

    @property
    def prompt(self) -> Prompt:
        return self._makers[0].prompt

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        while row >= self._first + len(self._held):
            self._first += len(self._held)
            self._held = next(self._choices).to_pylist()
        maker = self._makers[self._held[row - self._first]]
        return maker.make(row, record_id, record)


class _Cascading:
    """Each record by the first maker, with its fingerprints for the later ones."""

    def __init__(self, first: RequestMaker, further: list[RequestMaker]) -> None:
        self._first, self._further = first, further

    @property
    def prompt(self) -> Prompt:
        return self._first.prompt

    def make(self, row: int, record_id: str, record: Mapping[str, Any]) -> Request | Rejection:
        made = self._first.make(row, record_id, record)
        if isinstance(made, Rejection):
            return made
        quoted = self._first.quoted(made)
        return made._replace(further=tuple(maker.fingerprint(quoted) for maker in self._further))


def cut_each(
    desk: Desk,
    workload: Workload,
    snapshot: SnapshotRow,
    rows_of: RowsOf,
    *,
    round_number: int,
    plan_number: int,
    rounds_before: int = 0,
    wanted: Collection[bytes] | None = None,
    caches: Mapping[str, CacheChoice] | None = None,
    rendered: Rendered | None = None,
) -> list[NewChunk]:
    """Cut the chosen rows of each model into chunks of its own; nothing is registered yet. They are rendered, unless
    `rendered` has them as they were planned.

    With `wanted`, only those fingerprints: what a workload changed since asks otherwise is left out. Raises as
    `check_model` and `RequestMaker.of`.
    """
    records = desk.path(snapshot.path)
    columns = columns_of(records)
    chunks: list[NewChunk] = []
    for variant in workload.variants:
        price = check_model(desk, variant)
        rows = iter(rows_of(variant.model))
        requests: Iterable[RequestTable | Segment]
        if rendered is not None:
            requests = rendered(rows)
        else:
            requests = tables_of(requests_of(records, RequestMaker.of(variant, columns), rows), alike=True)
        chunks += cut(
            desk,
            variant,
            snapshot,
            requests if wanted is None else (table.filtered(wanted.__contains__) for table in in_tables(requests)),
            price,
            round_number=round_number,
            plan_number=plan_number,
            cache=None if caches is None else caches[variant.model],
            first_number=chunks[-1].number + 1 if chunks else None,
            rounds_before=rounds_before,
        )
        deque(rows, maxlen=0)  # a query of which a row is left would stand in the way of the next model's
    return chunks


__all__ = ["cut_each", "maker_of"]
