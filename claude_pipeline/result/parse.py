"""Raw result lines, of a batch's download or of a journal -> one row per request of their chunk.

Lines come in any order and are joined on custom_id. They are split on newline bytes only: a text
may hold U+2028 or U+0085, at which other splitters cut. Lines that are not exactly the chunk's
requests are refused; a line that cannot be read costs its own record only.

A journal's lines have the shape of a batch's, and each tells when it came; a request may have several,
of which the first counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.garbage import no_search
from claude_pipeline.result.asked import AskedFacts
from claude_pipeline.result.line import Line, read_lines
from claude_pipeline.result.output import OutputReader
from claude_pipeline.result.row import MISSING, UNKNOWN_TYPE, UNREADABLE, RatesOf, RowMaker, VerdictOf
from claude_pipeline.result.schema import attempts_schema

OUTCOMES = ("succeeded", "errored", "canceled", "expired")
ID_CHARACTERS = 64  # of a custom_id at most
LINES, BYTES = 2_000, 1_500_000  # that become rows at once, or a few lines more
STEP = 50  # lines that are taken at once: of the longest answers 25 MB


@dataclass
class Parsed:
    """Rows of a chunk, by position; see `result.schema.attempts_schema`."""

    table: pa.Table
    outcomes: Counter[str]
    retryable: int
    invalid: int
    unreadable: int
    stops: list[str] = field(default_factory=list)  # messages that mean the account, not the request


def parse_results(
    raw: Iterable[bytes],
    index: pa.Table,
    facts: AskedFacts,
    reader: OutputReader,
    *,
    rates_of: RatesOf,
    verdict_of: VerdictOf,
    as_is: bool = False,
) -> Parsed:
    """One row per request of the chunk, in the order of its index. `raw` is a download's lines, or `journal.results`.

    `as_is`: a person's word that no better lines will come. What they do not tell, or tell twice, becomes an error of
    its request, which may have been paid.

    Raises:
        ResultsIncomplete: lines are missing, foreign or contradictory; download again. Or, `as_is`, none is the chunk's.
    """
    with no_search():
        lines = _Lines(facts, index.num_rows, RowMaker(facts, reader, rates_of, verdict_of), as_is)
        for block in _blocks(raw):
            lines.take(block)
        return _parsed(lines.rows(), lines, index, facts, reader)


def _blocks(raw: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines, as many at a time as become rows at once."""
    lines = iter(raw)
    block: list[bytes] = []
    size = 0
    while taken := list(islice(lines, STEP)):
        block += taken
        size += sum(map(len, taken))
        if len(block) >= LINES or size > BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


class _Lines:
    """The lines of a download or a journal: which request each is about, and their rows."""

    def __init__(self, facts: AskedFacts, requests: int, maker: RowMaker, as_is: bool) -> None:
        self._facts, self._requests, self._maker, self._as_is = facts, requests, maker, as_is
        self.custom_ids = [f"{facts.tag}-{position}" for position in range(requests)]
        self._position_of = {custom_id: position for position, custom_id in enumerate(self.custom_ids)}
        self._is_told = np.zeros(requests, np.bool_)
        self._batches: list[pa.RecordBatch] = []
        self._further: list[pa.RecordBatch] = []  # rows of a request's further lines
        self.read = self.unreadable = 0

    def take(self, block: Sequence[bytes]) -> None:
        """The next lines. Raises as `parse_results`."""
        self.read += len(block)
        lines = read_lines(block)
        told = [line for line in lines if line is not None]
        if len(told) < len(lines):
            self._unread(raw for raw, line in zip(block, lines, strict=True) if line is None)
        # Only as we write it, `<tag>-7` and not `<tag>-07`.
        positions = [self._position_of.get(line.custom_id) for line in told]
        known = [position for position in positions if position is not None]
        if len(known) < len(told):
            told = self._without_foreign(told, positions)
        is_first = self._are_first(np.array(known, np.int64))
        if is_first.all():
            self._batches += self._maker.rows(known, told)
            return
        first, further = is_first.tolist(), (~is_first).tolist()
        self._batches += self._maker.rows(list(compress(known, first)), list(compress(told, first)))
        if not self._facts.is_journal:
            self._further += self._maker.rows(list(compress(known, further)), list(compress(told, further)))

    def _are_first(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each is the first line of its request; they are told from here on."""
        is_first = np.zeros(len(positions), np.bool_)
        is_first[np.unique(positions, return_index=True)[1]] = True
        is_first &= ~self._is_told[positions]
        self._is_told[positions] = True
        return is_first

    def _unread(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line.isspace():
                self.read -= 1
                continue
            if not line.endswith(b"\n") and not self._as_is:
                raise ResultsIncomplete(f"{self._facts.source} end in the middle of a line; downloading again")
            self.unreadable += 1

    def _without_foreign(self, lines: Sequence[Line], positions: Sequence[int | None]) -> list[Line]:
        """The lines of requests of this chunk: `as_is` others are no word about it."""
        if not self._as_is:
            foreign = lines[positions.index(None)].custom_id
            raise ResultsIncomplete(
                f"{self._facts.source}: the id {foreign[:ID_CHARACTERS]!r} is of no request of chunk "
                f"{self._facts.snapshot}|{self._facts.chunk}; nothing of it is used"
            )
        return [line for line, position in zip(lines, positions, strict=True) if position is not None]

    def rows(self) -> pa.Table:
        """A row for each request, in order: columns as `RowMaker` has them. Raises as `parse_results`."""
        table = pa.Table.from_batches(self._batches, self._maker.schema)
        self._batches = []
        contradicted = self._contradicted(table)
        untold = self._requests - int(self._is_told.sum())
        if self._facts.is_journal:
            if untold:
                raise ResultsIncomplete(f"{self._facts.source} has no end of {untold:,} of {self._requests:,} requests")
        elif not self._as_is:
            self._check_counts(table)
        elif untold == self._requests:
            raise ResultsIncomplete(f"{self._facts.source} hold no answer to any request of its chunk")
        if contradicted:
            table = table.filter(pc.invert(pc.is_in(table.column("position"), pa.array(contradicted, pa.int32()))))
        missing = [*contradicted, *np.flatnonzero(~self._is_told).tolist()]
        if missing:
            nothing = self._maker.errors(missing, *(MISSING if self._as_is else UNREADABLE))
            table = pa.concat_tables([table, pa.Table.from_batches([nothing])])
        return _ordered(table)

    def _contradicted(self, table: pa.Table) -> list[int]:
        """Requests whose further lines say something else than the first: nobody knows which one holds. `as_is` they are
        as good as without a line; an equal line does not count."""
        contradicted: dict[int, None] = {}
        if self._further:
            place = np.empty(self._requests, np.int64)
            place[table.column("position").to_numpy()] = np.arange(len(table))
        for further in self._further:
            first = table.take(pa.array(place[further.column("position").to_numpy()]))
            for one, other in zip(first.to_pylist(), further.to_pylist(), strict=True):
                if one == other:
                    self.read -= 1
                elif self._as_is:
                    contradicted[other["position"]] = None
                else:
                    custom_id = self.custom_ids[other["position"]]
                    raise ResultsIncomplete(f"{self._facts.source} hold two different answers to {custom_id}")
        return list(contradicted)

    def _check_counts(self, table: pa.Table) -> None:
        """That the lines are as many, and tell the same outcomes, as the API says of the batch."""
        expected = sum(self._facts.counts.values())
        if self.read != expected or expected != self._requests:
            raise ResultsIncomplete(
                f"{self._facts.source}: {self.read:,} lines, the batch counts {expected:,}, the chunk has "
                f"{self._requests:,}; downloading again"
            )
        is_new = pc.equal(table.column("error_type"), UNKNOWN_TYPE).fill_null(False)
        found = _counted(table.column("outcome").filter(pc.invert(is_new)))
        # A line that nobody can read, or of a type that is new, may be any of those that the batch counts.
        untold = self.unreadable + len(table) - found.total()
        for outcome, count in self._facts.counts.items():
            if outcome in OUTCOMES and not count - untold <= found[outcome] <= count:
                raise ResultsIncomplete(
                    f"{self._facts.source}: {found[outcome]:,} {outcome}, the batch counts {count:,}"
                )


def _ordered(table: pa.Table) -> pa.Table:
    """By position, each column in one piece."""
    table = table.combine_chunks()
    positions = table.column("position").to_numpy()
    if bool(np.all(positions[1:] > positions[:-1])):
        return table
    return table.take(pa.array(np.argsort(positions)))


def _counted(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({counted["values"]: counted["counts"] for counted in column.value_counts().to_pylist()})


def _parsed(told: pa.Table, lines: _Lines, index: pa.Table, facts: AskedFacts, reader: OutputReader) -> Parsed:
    count = index.num_rows
    schema = attempts_schema(reader.fields)
    constants: dict[str, Any] = {
        "snapshot": facts.snapshot, "chunk": facts.chunk, "batch_id": facts.batch_id, "attempt": facts.attempt,
        "max_tokens": facts.max_tokens, "lane": facts.lane,
    }  # fmt: skip
    columns: dict[str, Any] = {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), count) for name, value in constants.items()
    }
    columns |= {name: index.column(name) for name in ("row", "record_id", "fingerprint")}
    if facts.is_journal:  # none ever left
        columns["custom_id"] = pa.nulls(count, pa.string())
    else:
        columns["custom_id"] = pa.array(lines.custom_ids, pa.string())
    columns |= {name: told.column(name) for name in told.schema.names}
    outcomes, verdicts = _counted(told.column("outcome")), _counted(told.column("verdict"))
    is_invalid = pc.and_(pc.equal(told.column("outcome"), "succeeded"), told.column("error_type").is_valid())
    stopped = told.filter(pc.equal(told.column("verdict"), "stop")) if verdicts["stop"] else None
    return Parsed(
        table=pa.Table.from_arrays([_whole(columns[name]) for name in schema.names], schema=schema),
        outcomes=outcomes,
        retryable=verdicts["retry"] + verdicts["stop"],
        invalid=pc.sum(is_invalid).as_py() or 0,
        unreadable=lines.unreadable,
        stops=stopped.column("error_message").to_pylist() if stopped is not None else [],
    )


def _whole(column: Any) -> Any:
    """In one piece; it is copied only where it is in several."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column
