"""What became of each record of the rest, in the order of the snapshot's rows, as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from claude_pipeline.result.answer_index import AnswerIndex, Mask, answered_rows, fingerprint_file
from claude_pipeline.result.gather import gathered
from claude_pipeline.result.level import PAID
from claude_pipeline.result.place import DUPLICATE, MINE, REUSE, MergeInput, places_query, unanswered_query
from claude_pipeline.result.schema import AFTER_OUTPUT

ROWS_PER_READ = 50_000  # of a query's answer
_SOURCES = (None, "duplicate", "reuse")  # by MINE, DUPLICATE, REUSE

Connect = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]


class Outcomes:
    """Rows of results, each given once: what is asked for must ascend. Columns: `row` in the snapshot, `outcome`, and
    those of the result that are not null for all (of what was paid: 0)."""

    def __init__(self, merge: MergeInput, files: Sequence[Path], connect: Connect, scratch: Path, rows: int) -> None:
        self._merge, self._files, self._connect, self._scratch = merge, files, connect, scratch
        self._rows = rows  # whose places are held at once
        after = [pa.field(*field) for field in AFTER_OUTPUT if not (merge.cascade and field[0] in PAID)]
        self._wanted = pa.schema([("answer", pa.string()), *merge.output, *after])
        self._without = 0  # records without an answer, of the places read so far
        self._answered = _Ordered(self._all_answered())
        self._unanswered = _Ordered(self._all_unanswered())

    def before(self, row: int) -> list[pa.Table]:
        """What became of the records before that row: those with an answer, those without; neither is empty."""
        found = [self._answered.before(row)]
        if self._without:  # as is rare: else the second query is never run
            found.append(self._unanswered.before(row))
        return [results for results in found if len(results)]

    def _all_answered(self) -> Iterator[pa.Table]:
        for places in self._all_places():
            known = places.filter(places.column("place").is_valid())
            self._without += len(places) - len(known)
            at, first = known.column("place").to_numpy(), 0
            for answers in gathered(at, self._files, self._wanted_of(known), self._scratch):
                yield _answered(known.slice(first, len(answers)), answers, self._wanted)
                first += len(answers)

    def _wanted_of(self, known: pa.Table) -> pa.Schema:
        """Without what was paid, where nothing was paid for these very records."""
        if pc.any(pc.equal(known.column("whose"), MINE)).as_py():
            return self._wanted
        return pa.schema([field for field in self._wanted if field.name not in PAID])

    def _all_places(self) -> Iterator[pa.Table]:
        """Columns row, place, whose, as `places_query` has them, and in its order."""
        with fingerprint_file(self._merge.plan) as plan:
            count = plan.metadata.num_rows
        if not self._merge.cascade:
            is_own = answered_rows(self._merge.own_attempts, count)
            if is_own.all():
                return
            index = AnswerIndex.read(self._files, self._merge.snapshot_id)
            if index is not None:
                yield from self._looked_up(index, is_own)
                return
        for row in range(0, count, self._rows):
            yield self._places(row, row + self._rows)

    def _looked_up(self, index: AnswerIndex, is_own: Mask) -> Iterator[pa.Table]:
        with fingerprint_file(self._merge.plan) as plan:
            for batch in plan.iter_batches(self._rows, columns=["row", "fingerprint"], use_threads=False):
                left = batch.filter(pa.array(~is_own[batch.column("row").to_numpy()]))
                if not len(left):
                    continue
                rows = left.column("row").to_numpy()
                at = index.of_each(left.column("fingerprint"), rows)
                is_mine = index.is_here[at] & (index.rows[at] == rows)
                whose = np.where(is_mine, MINE, np.where(index.is_here[at], DUPLICATE, REUSE)).astype(np.int8)
                yield pa.table({"row": rows, "place": pa.array(index.places[at], mask=at < 0), "whose": whose})

    def _places(self, first: int, end: int) -> pa.Table:
        pa.default_memory_pool().release_unused()  # of the texts that came before; and what DuckDB holds goes before more come
        with self._connect() as duck:
            query = places_query(duck, self._merge, self._files, (first, end))
            return pa.concat_tables(_first_of_each_row(_read(duck, query))).combine_chunks()

    def _all_unanswered(self) -> Iterator[pa.Table]:
        with self._connect() as duck:
            yield from _read(duck, unanswered_query(duck, self._merge, self._files))


def _answered(places: pa.Table, answers: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The answers as results of the records at whose rows they are wanted; 0 where what was paid is not among them."""
    whose = places.column("whose")
    mine = pc.equal(whose, MINE)
    count = len(answers)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "row": places.column("row"),
        "outcome": pa.repeat("succeeded", count),
    }
    for field in wanted:
        is_there = field.name in answers.schema.names
        columns[field.name] = answers.column(field.name) if is_there else pa.repeat(pa.scalar(0, field.type), count)
    columns["answer_source"] = pc.if_else(
        mine, columns["answer_source"], pc.take(pa.array(_SOURCES, pa.string()), whose)
    )
    for name in PAID:  # for this very record, not what the answer cost where it was asked
        if name in places.schema.names:
            columns[name] = places.column(name)
        elif name in answers.schema.names:
            paid = columns[name]
            columns[name] = pc.if_else(mine, paid, pa.scalar(0, paid.type))
    return pa.table(columns)


def _read(duck: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.Table]:
    reader = duck.sql(query).to_arrow_reader(ROWS_PER_READ)
    yield reader.schema.empty_table()
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _first_of_each_row(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Lines of a row follow one another, the one that counts first."""
    last = -1
    for table in tables:
        rows = table.column("row").to_numpy()
        is_first = np.diff(rows, prepend=last) != 0
        yield table if bool(is_first.all()) else table.filter(pa.array(is_first))
        last = int(rows[-1]) if len(rows) else last


class _Ordered:
    """Tables in the order of their `row`, taken piece by piece."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._left: pa.Table | None = None

    def before(self, row: int) -> pa.Table:
        """The rows before that one which were not yet taken."""
        found: list[pa.Table] = []
        while True:
            table = self._left if self._left is not None else next(self._tables, None)
            self._left = None
            if table is None:
                break
            count = int(np.searchsorted(table.column("row").to_numpy(), row))
            found.append(table.slice(0, count))
            if count < len(table):
                self._left = table.slice(count)
                break
        return pa.concat_tables(found) if found else pa.table({"row": pa.array([], pa.int64())})
