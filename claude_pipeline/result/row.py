"""Result lines -> rows, many at a time and by column: a tuple of values for each line took half as long again, and those of
ten thousand fell out of the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from claude_pipeline.catalog import Rates
from claude_pipeline.result.asked import AskedFacts
from claude_pipeline.result.cost import Usages
from claude_pipeline.result.line import NO_ERROR, NO_USAGE, Line, Message, Reported, Unsound
from claude_pipeline.result.output import OutputReader
from claude_pipeline.result.schema import MOMENT, attempts_schema

UNREADABLE = ("unreadable_result", "the API's result line cannot be read; its raw text is kept")
MISSING = ("missing_result", "the API's results hold no line, or no single one, that can be read as its answer")
UNKNOWN_TYPE = "unknown_result_type"
PAID_PERHAPS = frozenset({UNREADABLE[0], MISSING[0], UNKNOWN_TYPE})  # error types of lines that may have been billed

# The answer's model, where it was made, the day whose prices hold -> prices.
RatesOf = Callable[[str, str | None, date], Rates]
Kind = tuple[str, str | None, date | None]  # of price
VerdictOf = Callable[[str, str], str]  # error type, message -> retry, permanent or stop

TOLD = (
    "position", "outcome", "verdict", "answer", "answer_source", "model", "stop_reason", "message_id", "input_tokens",
    "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd", "error_type", "error_message", "answered_at",
)  # fmt: skip


class RowMaker:
    """Makes the rows of a chunk's lines: columns of `TOLD` and of the output, with the types of `schema`."""

    def __init__(self, facts: AskedFacts, reader: OutputReader, rates_of: RatesOf, verdict_of: VerdictOf) -> None:
        self._facts, self._reader, self._rates_of, self._verdict_of = facts, reader, rates_of, verdict_of
        attempts = attempts_schema(reader.fields)
        self.schema = pa.schema([*(attempts.field(name) for name in TOLD), *reader.fields])

    def rows(self, positions: Sequence[int], lines: Sequence[Line]) -> list[pa.RecordBatch]:
        """The rows of lines, each with the position of its request in the chunk; errors may stand after all answers."""
        results = [line.result for line in lines]
        messages = [result.message if result.type == "succeeded" else None for result in results]
        answers = [message for message in messages if message is not None]
        if answers and len(answers) == len(lines):  # as most are
            return [self._answers(positions, lines, answers)]
        is_answer = [message is not None for message in messages]
        made = []
        if answers:
            own = list(compress(positions, is_answer)), list(compress(lines, is_answer))
            made.append(self._answers(*own, answers))
        if len(answers) < len(lines):
            is_other = [message is None for message in messages]
            made.append(self._others(list(compress(positions, is_other)), list(compress(lines, is_other))))
        return made

    def errors(self, positions: Sequence[int], kind: str, message: str) -> pa.RecordBatch:
        """The same error for each of these requests, at the moment of the batch's end."""
        count = len(positions)
        moments = pa.repeat(pa.scalar(self._facts.answered_at, MOMENT), count)
        return self._errors(positions, [("errored", kind, message)] * count, moments)

    def _answers(self, positions: Sequence[int], lines: Sequence[Line], messages: Sequence[Message]) -> pa.RecordBatch:
        facts, count = self._facts, len(messages)
        answers = [message.text() for message in messages]
        models = [message.model or facts.model for message in messages]
        usages = [message.usage or NO_USAGE for message in messages]
        tokens, moments = _tokens(usages), self._moments(lines)
        columns: dict[str, Any] = {
            "position": positions,
            "outcome": pa.repeat("succeeded", count),
            "verdict": pa.repeat("answered", count),
            "answer": answers,
            "answer_source": pa.repeat(facts.lane, count),
            "model": models,
            "stop_reason": [message.stop_reason for message in messages],
            "message_id": [message.id for message in messages],
            **tokens,
            "cost_usd": self._costs(usages, tokens, models, moments),
            "answered_at": moments,
        }
        if self._reader.reads:
            values, wrong = self._reader.read_all(answers)
            columns["error_type"] = [None if why is None else "invalid_output" for why in wrong]
            columns["error_message"] = wrong
            columns |= zip((field.name for field in self._reader.fields), values, strict=True)
        return self._batch(columns, count)

    def _costs(
        self, usages: Sequence[Reported], tokens: Mapping[str, pa.Array], models: Sequence[str], moments: pa.Array
    ) -> pa.Array:
        """In USD; null where nobody can tell: unknown is not free."""
        creations = [usage.cache_creation for usage in usages]
        hour = np.array([0 if made is None else made.ephemeral_1h_input_tokens or 0 for made in creations], np.int64)
        fresh, out, writes, reads = map(_numbers, tokens.values())
        is_priced = _is_told(tokens["input_tokens"]) & _is_told(tokens["output_tokens"]) & (hour <= writes)
        if Unsound in set(map(type, usages)):
            is_priced &= [not isinstance(usage, Unsound) for usage in usages]
        billed = Usages(fresh, out, writes - hour, hour, reads)
        kinds = list(zip(models, [usage.inference_geo for usage in usages], self._days(moments), strict=True))
        costs = np.zeros(len(usages))
        for (model, geo, day), places in _grouped(kinds).items():
            priced = places[is_priced[places]]
            if day is None:
                is_priced[priced] = False
            elif len(priced):
                costs[priced] = billed.at(priced).cost_usd(self._rates_of(model, geo, day))
        return pa.array(costs, mask=~is_priced)

    def _others(self, positions: Sequence[int], lines: Sequence[Line]) -> pa.RecordBatch:
        told = [self._error(line) for line in lines]
        return self._errors(positions, told, self._moments(lines))

    def _error(self, line: Line) -> tuple[str, str, str]:
        """What a line without an answer says: its outcome, the error's type, and its message."""
        result = line.result
        match result.type:
            case "errored":
                error = result.error.inner() if result.error is not None else NO_ERROR
                return "errored", error.type, error.message
            case "expired":
                return "expired", "expired", "the batch ended before it was asked"
            case "canceled":
                what = "chunk was closed" if self._facts.is_journal else "batch was canceled"
                return "canceled", "canceled", f"the {what} before it was asked"
            case unknown:
                return "errored", UNKNOWN_TYPE, f"the API sent a result of the unknown type {unknown!r}"

    def _errors(
        self, positions: Sequence[int], told: Sequence[tuple[str, str, str]], moments: pa.Array
    ) -> pa.RecordBatch:
        outcomes, kinds, messages = zip(*told, strict=True)
        tokens = [None if kind in PAID_PERHAPS else 0 for kind in kinds]  # unknown is not free
        columns: dict[str, Any] = {
            "position": positions,
            "outcome": outcomes,
            "verdict": [self._verdict_of(kind, message) for kind, message in zip(kinds, messages, strict=True)],
            "model": [self._facts.model] * len(told),
            **dict.fromkeys(
                ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd"), tokens
            ),
            "error_type": kinds,
            "error_message": messages,
            "answered_at": moments,
        }
        return self._batch(columns, len(told))

    def _moments(self, lines: Sequence[Line]) -> pa.Array:
        """When their answers came."""
        if self._facts.is_journal:
            return pa.array([_moment(line.answered_at) for line in lines], MOMENT)
        return pa.repeat(pa.scalar(self._facts.answered_at, MOMENT), len(lines))

    def _days(self, moments: pa.Array) -> Sequence[date | None]:
        """Whose prices hold for answers that came at these moments."""
        if self._facts.is_journal:
            return [None if moment is None else moment.date() for moment in moments.to_pylist()]
        billed_at = self._facts.billed_at
        return [None if billed_at is None else billed_at.astimezone(UTC).date()] * len(moments)

    def _batch(self, columns: Mapping[str, Any], count: int) -> pa.RecordBatch:
        """Columns that are left out are null."""
        arrays = []
        for field in self.schema:
            values = columns.get(field.name)
            if values is None:
                values = pa.nulls(count, field.type)
            arrays.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _tokens(usages: Sequence[Reported]) -> dict[str, pa.Array]:
    """Their columns in the order of the API's counts; of caches it may send none."""
    return {
        "input_tokens": pa.array([usage.input_tokens for usage in usages], pa.int64()),
        "output_tokens": pa.array([usage.output_tokens for usage in usages], pa.int64()),
        "cache_write_tokens": pa.array([usage.cache_creation_input_tokens or 0 for usage in usages], pa.int64()),
        "cache_read_tokens": pa.array([usage.cache_read_input_tokens or 0 for usage in usages], pa.int64()),
    }


def _grouped(kinds: Sequence[Kind]) -> dict[Kind, npt.NDArray[np.int64]]:
    """The places of each kind, which come in the order of the kinds' first."""
    if len(set(kinds)) == 1:  # as of nearly all batches
        return {kinds[0]: np.arange(len(kinds))}
    places: dict[Kind, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return {kind: np.array(found, np.int64) for kind, found in places.items()}


def _numbers(column: pa.Array) -> npt.NDArray[np.int64]:
    """Null is 0."""
    return np.asarray(column.fill_null(0) if column.null_count else column, np.int64)


def _is_told(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid())


def _moment(value: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
