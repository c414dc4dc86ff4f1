"""Raw result lines, of a batch's download or of a journal -> one row per request of their chunk.

Lines come in any order and are joined on custom_id. They are split on newline bytes only: a text
may hold U+2028 or U+0085, at which other splitters cut. Lines that are not exactly the chunk's
requests are refused; a line that cannot be read costs its own record only.

A journal's lines have the shape of a batch's, and each tells when it came; a request may have several,
of which the first counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from claude_pipeline.catalog import Lane
from claude_pipeline.errors import ResultsIncomplete
from claude_pipeline.garbage import no_search
from claude_pipeline.result.output import OutputReader
from claude_pipeline.result.schema import attempts_schema

UNITS_PER_USD = 10_000_000_000
OUTCOMES = ("succeeded", "errored", "canceled", "expired")
TOKENS_MAX = 10**9  # of one request; more is no count of tokens, and sums of it would not fit the ledger
UNREADABLE = ("unreadable_result", "the API's result line cannot be read; its raw text is kept")
MISSING = ("missing_result", "the API's results hold no line, or no single one, that can be read as its answer")
UNKNOWN_TYPE = "unknown_result_type"
PAID_PERHAPS = frozenset({UNREADABLE[0], MISSING[0], UNKNOWN_TYPE})  # error types of lines that may have been billed
ID_CHARACTERS = 64  # of a custom_id at most
POSITION_DIGITS = 6  # of a custom_id's position at most

# Model of the answer, its usage, the moment whose prices hold (a batch's creation, else the answer's) -> 1e-10 USD.
CostUnits = Callable[[str, Mapping[str, Any], datetime | None], int | None]
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
        lines = _Lines(facts, index.num_rows, as_is)
        for line in raw:
            if not line.isspace():
                lines.take(line)
        lines.check()
        rows = _Rows(facts, reader, cost_units, verdict_of, as_is)
        for document in lines.by_position:
            rows.add(document)
        return rows.parsed(index, lines.unreadable)


class _Lines:
    """The lines of a download or a journal, by position."""

    def __init__(self, facts: AskedFacts, requests: int, as_is: bool) -> None:
        self._facts, self._requests, self._as_is = facts, requests, as_is
        self._prefix = f"{facts.tag}-"
        self._contradicted: set[int] = set()
        self.by_position: list[dict[str, Any] | None] = [None] * requests
        self.read = self.unreadable = 0

    def take(self, line: bytes) -> None:
        self.read += 1
        document = _load(line)
        custom_id = document.get("custom_id") if document else None
        if document is None or not isinstance(custom_id, str) or not isinstance(document.get("result"), dict):
            if not line.endswith(b"\n") and not self._as_is:
                raise ResultsIncomplete(f"{self._facts.source} end in the middle of a line; downloading again")
            self.unreadable += 1
            return
        position = self._position(custom_id)
        if position is None:
            if self._as_is:
                return
            raise ResultsIncomplete(
                f"{self._facts.source}: the id {custom_id[:ID_CHARACTERS]!r} is of no request of chunk "
                f"{self._facts.snapshot}|{self._facts.chunk}; nothing of it is used"
            )
        known = self.by_position[position]
        if known is not None:
            if self._facts.lane == "realtime":
                return
            if not _equal(known, document):
                if self._as_is:
                    self._contradicted.add(position)
                    return
                raise ResultsIncomplete(f"{self._facts.source} hold two different answers to {custom_id}")
            self.read -= 1
        self.by_position[position] = document

    def _position(self, custom_id: str) -> int | None:
        """The request that an id names: only as we write it, `<tag>-7` and not `<tag>-07`."""
        number = custom_id.removeprefix(self._prefix)
        ours = number != custom_id and number.isascii() and number.isdecimal() and len(number) <= POSITION_DIGITS
        if not ours or (number[0] == "0" and number != "0"):
            return None
        position = int(number)
        return position if position < self._requests else None

    def check(self) -> None:
        if self._facts.lane == "realtime":
            if missing := self.by_position.count(None):
                raise ResultsIncomplete(
                    f"{self._facts.source} has no end of {missing:,} of {self._requests:,} requests"
                )
            return
        if self._as_is:
            if self.by_position.count(None) == self._requests:
                raise ResultsIncomplete(f"{self._facts.source} hold no answer to any request of its chunk")
            for position in self._contradicted:
                self.by_position[position] = None
            return
        expected = sum(self._facts.counts.values())
        if self.read != expected or expected != self._requests:
            raise ResultsIncomplete(
                f"{self._facts.source}: {self.read:,} lines, the batch counts {expected:,}, the chunk has "
                f"{self._requests:,}; downloading again"
            )
        found = Counter(_type(document) for document in self.by_position if document is not None)
        # A line that nobody can read, or of a type that is new, may be any of those that the batch counts.
        untold = self.unreadable + sum(count for kind, count in found.items() if kind not in OUTCOMES)
        for outcome, count in self._facts.counts.items():
            if outcome in OUTCOMES and not count - untold <= found[outcome] <= count:
                raise ResultsIncomplete(
                    f"{self._facts.source}: {found[outcome]:,} {outcome}, the batch counts {count:,}"
                )


class _Rows:
    """Rows being made, one per request."""

    COLUMNS = (
        "outcome", "verdict", "answer", "model", "stop_reason", "message_id", "input_tokens", "output_tokens",
        "cache_write_tokens", "cache_read_tokens", "cost_usd", "error_type", "error_message",
    )  # fmt: skip

    def __init__(
        self, facts: AskedFacts, reader: OutputReader, cost_units: CostUnits, verdict_of: VerdictOf, as_is: bool
    ) -> None:
        self._facts, self._reader, self._cost_units, self._verdict_of = facts, reader, cost_units, verdict_of
        self._as_is = as_is
        self._rows: list[tuple[Any, ...]] = []  # values of COLUMNS
        self._output: list[list[Any]] = []
        self._moments: list[datetime | None] = []  # of a journal's lines
        self._billed_at = facts.billed_at
        self._nothing: list[Any] = [None] * len(reader.fields)
        self.invalid = 0
        self.stops: list[str] = []

    def add(self, document: dict[str, Any] | None) -> None:
        if document is None:
            self._error("errored", *(MISSING if self._as_is else UNREADABLE))
            return
        if self._facts.lane == "realtime":
            self._billed_at = _moment(document.get("answered_at"))
            self._moments.append(self._billed_at)
        result = document["result"]
        match result.get("type"):
            case "succeeded" if isinstance(result.get("message"), dict):
                self._answer(result["message"])
            case "errored":
                # Doubly nested, as the API sends it: result.error.error.type.
                outer = _mapping(result.get("error"))
                inner = outer.get("error")
                error = inner if isinstance(inner, dict) else outer
                self._error("errored", str(error.get("type", "api_error")), str(error.get("message", "")))
            case "expired":
                self._error("expired", "expired", "the batch ended before it was asked")
            case "canceled":
                what = "batch was canceled" if self._facts.lane == "batch" else "chunk was closed"
                self._error("canceled", "canceled", f"the {what} before it was asked")
            case unknown:
                self._error("errored", UNKNOWN_TYPE, f"the API sent a result of the unknown type {unknown!r}")

    def _answer(self, message: Mapping[str, Any]) -> None:
        get = message.get
        answer = _answer_text(get("content"))
        usage = _mapping(get("usage"))
        tokens = usage.get
        model = str(get("model") or self._facts.model)
        values, wrong = self._reader.read(answer)
        units = self._cost_units(model, usage, self._billed_at)
        if wrong is not None:
            self.invalid += 1
        self._output.append(values)
        self._rows.append((
            "succeeded", "answered", answer, model, _text(get("stop_reason")), _text(get("id")),
            tokens_of(tokens("input_tokens")), tokens_of(tokens("output_tokens")),
            tokens_of(tokens("cache_creation_input_tokens")) or 0, tokens_of(tokens("cache_read_input_tokens")) or 0,
            None if units is None else units / UNITS_PER_USD,
            None if wrong is None else "invalid_output", wrong,
        ))  # fmt: skip

    def _error(self, outcome: str, kind: str, message: str) -> None:
        verdict = self._verdict_of(kind, message)
        if verdict == "stop":
            self.stops.append(message)
        self._output.append(self._nothing)
        cost, tokens = (None, None) if kind in PAID_PERHAPS else (0.0, 0)  # unknown is not free
        billed = (tokens, tokens, tokens, tokens, cost)
        self._rows.append((outcome, verdict, None, self._facts.model, None, None, *billed, kind, message))

    def parsed(self, index: pa.Table, unreadable: int) -> Parsed:
        facts, count = self._facts, index.num_rows
        schema = attempts_schema(self._reader.fields)
        constants: dict[str, Any] = {
            "snapshot": facts.snapshot, "chunk": facts.chunk, "batch_id": facts.batch_id, "attempt": facts.attempt,
            "max_tokens": facts.max_tokens,
            "lane": facts.lane, "answered_at": facts.answered_at,
        }  # fmt: skip
        columns: dict[str, Any] = {
            name: pa.repeat(pa.scalar(value, schema.field(name).type), count) for name, value in constants.items()
        }
        for name in ("position", "row", "record_id", "fingerprint"):
            columns[name] = index.column(name)
        if facts.lane == "realtime":  # no custom_id ever left
            columns["custom_id"] = pa.nulls(count, pa.string())
            columns["answered_at"] = pa.array(self._moments, schema.field("answered_at").type)
        else:
            columns["custom_id"] = pa.array([f"{facts.tag}-{position}" for position in range(count)], pa.string())
        by_column = zip(*self._rows, strict=True) if self._rows else [()] * len(self.COLUMNS)
        values: dict[str, Sequence[Any]] = dict(zip(self.COLUMNS, by_column, strict=True))
        outcomes = values["outcome"]
        columns["answer_source"] = pa.array([facts.lane if o == "succeeded" else None for o in outcomes], pa.string())
        for name in self.COLUMNS:
            columns[name] = pa.array(values[name], schema.field(name).type)
        for number, output in enumerate(self._reader.fields):
            columns[output.name] = pa.array([row[number] for row in self._output], output.type)
        verdicts = Counter(values["verdict"])
        return Parsed(
            table=pa.Table.from_arrays([_plain(columns[name]) for name in schema.names], schema=schema),
            outcomes=Counter(outcomes),
            retryable=verdicts["retry"] + verdicts["stop"],
            invalid=self.invalid,
            unreadable=unreadable,
            stops=self.stops,
        )


def _plain(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _answer_text(content: Any) -> str | None:
    """The texts of a message's content, joined; None where there is none."""
    if type(content) is list and len(content) == 1:  # as nearly all are
        block = content[0]
        return str(block.get("text") or "") if type(block) is dict and block.get("type") == "text" else None
    blocks = [_mapping(block) for block in content] if isinstance(content, list) else []
    texts = [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    return "".join(texts) if texts else None


def _mapping(value: Any) -> Mapping[str, Any]:
    """Nothing where the API sent another shape than it documents: that costs no other record its answer."""
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None


def tokens_of(value: Any) -> int | None:
    """A count of tokens, or None where the API sent something that is none."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def _equal(known: Any, document: Any) -> bool:
    try:
        return bool(known == document)
    except RecursionError:  # nested too deeply to be compared; nothing of ours is
        return False


def _type(document: Mapping[str, Any]) -> str:
    return str(document["result"].get("type"))


def _load(line: bytes) -> dict[str, Any] | None:
    """A line as a JSON object; lone surrogates, which orjson refuses, become "?"."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            loose = json.loads(line)
            document = json.loads(json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return document if isinstance(document, dict) else None
