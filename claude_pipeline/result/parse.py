"""Raw result lines, of a batch's download or of a journal -> one row per request of their chunk.

Lines come in any order and are joined on custom_id. They are split on newline bytes only: a text
may hold U+2028 or U+0085, at which other splitters cut. Lines that are not exactly the chunk's
requests are refused; a line that cannot be read costs its own record only.

A journal's lines have the shape of a batch's, and each tells when it came; a request may have several,
of which the first counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from claude_pipeline.catalog import Lane, Usage
from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.garbage import no_search
from claude_pipeline.result.line import NO_ERROR, Line, Message, Reported, read_line
from claude_pipeline.result.output import OutputReader
from claude_pipeline.result.schema import attempts_schema

UNITS_PER_USD = 10_000_000_000
OUTCOMES = ("succeeded", "errored", "canceled", "expired")
UNREADABLE = ("unreadable_result", "the API's result line cannot be read; its raw text is kept")
MISSING = ("missing_result", "the API's results hold no line, or no single one, that can be read as its answer")
UNKNOWN_TYPE = "unknown_result_type"
PAID_PERHAPS = frozenset({UNREADABLE[0], MISSING[0], UNKNOWN_TYPE})  # error types of lines that may have been billed
ID_CHARACTERS = 64  # of a custom_id at most

# Model of the answer, its usage, where it was made, the moment whose prices hold (a batch's creation, else the
# answer's) -> 1e-10 USD.
CostUnits = Callable[[str, Usage, str | None, datetime | None], int | None]
VerdictOf = Callable[[str, str], str]  # error type, message -> retry, permanent or stop


@dataclass(frozen=True)
class AskedFacts:
    """What all rows of a chunk share that was asked, as a batch or in real time."""

    snapshot: str
    chunk: str
    attempt: int
    tag: str  # what its custom_ids begin with: of a journal, the chunk's key
    batch_id: str | None
    model: str
    max_tokens: int | None  # as they were asked
    answered_at: datetime | None = None  # of a batch; a journal's lines have their own
    counts: Mapping[str, int] = field(default_factory=dict)  # of a batch, by the API: outcome -> lines
    billed_at: datetime | None = None  # of a batch: its creation
    lane: Lane = "batch"

    @property
    def source(self) -> str:
        """What the lines are, for people."""
        if self.lane == "realtime":
            return f"the journal of chunk {self.snapshot}|{self.chunk}"
        return f"results of {self.batch_id}"


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
    cost_units: CostUnits,
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
        lines = _Lines(facts, index.num_rows, _Rows(facts, reader, cost_units, verdict_of), as_is)
        for line in raw:
            if not line.isspace():
                lines.take(line)
        lines.check()
        return _parsed(lines, index, facts, reader)


COLUMNS = (
    "outcome", "verdict", "answer", "model", "stop_reason", "message_id", "input_tokens", "output_tokens",
    "cache_write_tokens", "cache_read_tokens", "cost_usd", "error_type", "error_message",
)  # fmt: skip
OUTCOME, ERROR_TYPE = COLUMNS.index("outcome"), COLUMNS.index("error_type")
OUTPUT, MOMENT = len(COLUMNS), len(COLUMNS) + 1  # the output's values; when a journal's line came
Row = tuple[Any, ...]  # values of COLUMNS, then these two


class _Lines:
    """The rows of a download's or a journal's lines, by position."""

    def __init__(self, facts: AskedFacts, requests: int, rows: _Rows, as_is: bool) -> None:
        self._facts, self._requests, self._rows, self._as_is = facts, requests, rows, as_is
        self.custom_ids = [f"{facts.tag}-{position}" for position in range(requests)]
        self._position_of = {custom_id: position for position, custom_id in enumerate(self.custom_ids)}
        self._contradicted: set[int] = set()
        self.by_position: list[Row | None] = [None] * requests
        self.read = self.unreadable = 0

    def take(self, raw: bytes) -> None:
        self.read += 1
        line = read_line(raw)
        if line is None:
            if not raw.endswith(b"\n") and not self._as_is:
                raise ResultsIncomplete(f"{self._facts.source} end in the middle of a line; downloading again")
            self.unreadable += 1
            return
        position = self._position_of.get(line.custom_id)  # only as we write it, `<tag>-7` and not `<tag>-07`
        if position is None:
            if self._as_is:
                return
            raise ResultsIncomplete(
                f"{self._facts.source}: the id {line.custom_id[:ID_CHARACTERS]!r} is of no request of chunk "
                f"{self._facts.snapshot}|{self._facts.chunk}; nothing of it is used"
            )
        known = self.by_position[position]
        if known is None:
            self.by_position[position] = self._rows.of(line)
        elif self._facts.lane == "batch":
            self._seen_before(position, known, line)

    def _seen_before(self, position: int, known: Row, line: Line) -> None:
        """A request's second line: the same once more, or nobody knows which one holds."""
        if known == self._rows.of(line):
            self.read -= 1
        elif self._as_is:
            self._contradicted.add(position)
        else:
            raise ResultsIncomplete(f"{self._facts.source} hold two different answers to {line.custom_id}")

    def check(self) -> None:
        """That each request has its line; then there is a row for each."""
        untold = self.by_position.count(None)
        if self._facts.lane == "realtime":
            if untold:
                raise ResultsIncomplete(f"{self._facts.source} has no end of {untold:,} of {self._requests:,} requests")
        elif self._as_is:
            if untold == self._requests:
                raise ResultsIncomplete(f"{self._facts.source} hold no answer to any request of its chunk")
            for position in self._contradicted:
                self.by_position[position] = None
        else:
            self._check_counts()
        if None in self.by_position:
            nothing = self._rows.error("errored", *(MISSING if self._as_is else UNREADABLE))
            self.by_position = [nothing if row is None else row for row in self.by_position]

    def _check_counts(self) -> None:
        expected = sum(self._facts.counts.values())
        if self.read != expected or expected != self._requests:
            raise ResultsIncomplete(
                f"{self._facts.source}: {self.read:,} lines, the batch counts {expected:,}, the chunk has "
                f"{self._requests:,}; downloading again"
            )
        rows = [row for row in self.by_position if row is not None]
        found = Counter([row[OUTCOME] for row in rows if row[ERROR_TYPE] != UNKNOWN_TYPE])
        # A line that nobody can read, or of a type that is new, may be any of those that the batch counts.
        untold = self.unreadable + len(rows) - found.total()
        for outcome, count in self._facts.counts.items():
            if outcome in OUTCOMES and not count - untold <= found[outcome] <= count:
                raise ResultsIncomplete(
                    f"{self._facts.source}: {found[outcome]:,} {outcome}, the batch counts {count:,}"
                )


class _Rows:
    """Makes the row of a line."""

    def __init__(self, facts: AskedFacts, reader: OutputReader, cost_units: CostUnits, verdict_of: VerdictOf) -> None:
        self._facts, self._reader, self._cost_units, self._verdict_of = facts, reader, cost_units, verdict_of
        self._nothing: list[Any] = [None] * len(reader.fields)
        self._is_journal = facts.lane == "realtime"

    def of(self, line: Line) -> Row:
        result, moment = line.result, _moment(line.answered_at) if self._is_journal else None
        match result.type:
            case "succeeded" if result.message is not None:
                return self._answer(result.message, moment)
            case "errored":
                error = result.error.inner() if result.error is not None else NO_ERROR
                return self.error("errored", error.type, error.message, moment)
            case "expired":
                return self.error("expired", "expired", "the batch ended before it was asked", moment)
            case "canceled":
                what = "chunk was closed" if self._is_journal else "batch was canceled"
                return self.error("canceled", "canceled", f"the {what} before it was asked", moment)
            case unknown:
                said = f"the API sent a result of the unknown type {unknown!r}"
                return self.error("errored", UNKNOWN_TYPE, said, moment)

    def _answer(self, message: Message, moment: datetime | None) -> Row:
        answer = message.text()
        usage = message.usage or _NO_USAGE
        model = message.model or self._facts.model
        values, wrong = self._reader.read(answer)
        billed = usage.billed()
        units = None
        if billed is not None:
            billed_at = moment if self._is_journal else self._facts.billed_at
            units = self._cost_units(model, billed, usage.inference_geo, billed_at)
        return (
            "succeeded", "answered", answer, model, message.stop_reason, message.id,
            usage.input_tokens, usage.output_tokens,
            usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0,
            None if units is None else units / UNITS_PER_USD,
            None if wrong is None else "invalid_output", wrong,
            values, moment,
        )  # fmt: skip

    def error(self, outcome: str, kind: str, message: str, moment: datetime | None = None) -> Row:
        cost, tokens = (None, None) if kind in PAID_PERHAPS else (0.0, 0)  # unknown is not free
        billed = (tokens, tokens, tokens, tokens, cost)
        verdict = self._verdict_of(kind, message)
        return (outcome, verdict, None, self._facts.model, None, None, *billed, kind, message, self._nothing, moment)


_NO_USAGE = Reported()


def _parsed(lines: _Lines, index: pa.Table, facts: AskedFacts, reader: OutputReader) -> Parsed:
    count = index.num_rows
    schema = attempts_schema(reader.fields)
    constants: dict[str, Any] = {
        "snapshot": facts.snapshot, "chunk": facts.chunk, "batch_id": facts.batch_id, "attempt": facts.attempt,
        "max_tokens": facts.max_tokens, "lane": facts.lane, "answered_at": facts.answered_at,
    }  # fmt: skip
    columns: dict[str, Any] = {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), count) for name, value in constants.items()
    }
    for name in ("position", "row", "record_id", "fingerprint"):
        columns[name] = index.column(name)
    by_column: Sequence[Sequence[Any]] = (
        list(zip(*lines.by_position, strict=True)) if count else [()] * (len(COLUMNS) + 2)
    )
    values = dict(zip(COLUMNS, by_column, strict=False))
    if facts.lane == "realtime":  # no custom_id ever left
        columns["custom_id"] = pa.nulls(count, pa.string())
        columns["answered_at"] = pa.array(by_column[MOMENT], schema.field("answered_at").type)
    else:
        columns["custom_id"] = pa.array(lines.custom_ids, pa.string())
    outcomes, verdicts = values["outcome"], values["verdict"]
    columns["answer_source"] = pa.array([facts.lane if o == "succeeded" else None for o in outcomes], pa.string())
    for name in COLUMNS:
        columns[name] = pa.array(values[name], schema.field(name).type)
    for number, output in enumerate(reader.fields):
        columns[output.name] = pa.array([row[number] for row in by_column[OUTPUT]], output.type)
    said = Counter(verdicts)
    return Parsed(
        table=pa.Table.from_arrays([_plain(columns[name]) for name in schema.names], schema=schema),
        outcomes=Counter(outcomes),
        retryable=said["retry"] + said["stop"],
        invalid=sum(
            o == "succeeded" and wrong is not None for o, wrong in zip(outcomes, values["error_type"], strict=True)
        ),
        unreadable=lines.unreadable,
        stops=[m for verdict, m in zip(verdicts, values["error_message"], strict=True) if verdict == "stop"],
    )


def _plain(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _moment(value: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
