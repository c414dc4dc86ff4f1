"""What the answers of a snapshot are like: a few aggregates by DuckDB over its merged rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from claude_pipeline.picture import LengthBin
from claude_pipeline.report_page.enum_leaf import Leaf
from claude_pipeline.report_page.fact import ANSWERED, CUT, REFUSED, UNFIT, Answers, EnumUse, Failure, Lengths, Rejected
from claude_pipeline.sql import literal

BINS = 30
FAILURES_MAX = 12
REJECTED_MAX = 50
MESSAGE_CHARACTERS = 300
SAME_CHARACTERS = 300
FENCE = 3.0  # times the middle half's width: what lies further out is an outlier (Tukey's far out)
LEAST_WIDTH_SHARE, LEAST_WIDTH = (
    0.1,
    5.0,
)  # of the middle half: where nearly all are equally long, one letter is nothing
TAIL = 1.5  # times the 99th percentile; what is longer is not drawn
UNUSED = 0

# One row's outcome, as people sort them.
KIND = f"""CASE WHEN outcome <> 'succeeded' THEN outcome WHEN stop_reason = 'refusal' THEN {literal(REFUSED)}
    WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded') THEN {literal(CUT)}
    WHEN error_type IS NOT NULL THEN {literal(UNFIT)} ELSE {literal(ANSWERED)} END"""


def read_answers(duck: Any, results: str, leaves: Sequence[Leaf], *, structured: bool) -> Answers:
    """From `results`, a relation of merged rows."""
    outcomes = duck.execute(f"SELECT {KIND} AS kind, count(*) FROM {results} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
    return Answers(
        outcomes=tuple(sorted(outcomes, key=lambda row: row[0] != ANSWERED)),
        failures=_failures(duck, results),
        rejected=_rejected(duck, results),
        lengths=_lengths(duck, results),
        enums=tuple(read_enum(duck, results, leaf) for leaf in leaves),
        same=None if structured else _same(duck, results),
    )


def read_enum(duck: Any, results: str, leaf: Leaf) -> EnumUse:
    """Every allowed value with its count, most frequent first."""
    found = dict(duck.execute(leaf.counts(results)).fetchall())
    unused = {value: UNUSED for value in leaf.values if value not in found}
    return EnumUse(leaf.name, tuple((found | unused).items()))


def _failures(duck: Any, results: str) -> tuple[Failure, ...]:
    # Each rejected record says its place: they have a table of their own.
    message = f"if(outcome = 'rejected', '', left(coalesce(error_message, ''), {MESSAGE_CHARACTERS}))"
    rows = duck.execute(
        f"""SELECT {KIND} AS kind, coalesce(error_type, stop_reason, ''), {message},
                count(*) FROM {results} WHERE {KIND} <> {literal(ANSWERED)}
            GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3 LIMIT {FAILURES_MAX}"""
    ).fetchall()
    return tuple(Failure(*row) for row in rows)


def _rejected(duck: Any, results: str) -> tuple[Rejected, ...]:
    rows = duck.execute(
        f"""SELECT record_id, error_type, left(error_message, {MESSAGE_CHARACTERS}) FROM {results}
            WHERE outcome = 'rejected' ORDER BY ALL LIMIT {REJECTED_MAX}"""
    ).fetchall()
    return tuple(Rejected(*row) for row in rows)


def _lengths(duck: Any, results: str) -> Lengths | None:
    # Quantiles by sketch: their exact form holds every value in memory.
    lengths = f"(SELECT length(answer) AS n FROM {results} WHERE outcome = 'succeeded' AND answer IS NOT NULL)"
    count, empty, low, high, marks = duck.execute(
        f"SELECT count(*), count(*) FILTER (n = 0), min(n), max(n), approx_quantile(n, [0.25, 0.5, 0.75, 0.99]) FROM {lengths}"
    ).fetchone()
    if not count:
        return None
    first, middle, third, nearly_all = marks
    width = max(third - first, middle * LEAST_WIDTH_SHARE, LEAST_WIDTH)
    below, above = max(first - FENCE * width, 0.0), third + FENCE * width
    top = high if high <= nearly_all * TAIL else nearly_all
    step = max(1, math.ceil((top + 1 - low) / BINS))
    rows = duck.execute(
        f"SELECT (n - {low}) // {step} AS bin, count(*) FROM {lengths} WHERE n <= {top} GROUP BY bin ORDER BY bin"
    ).fetchall()
    short, long = duck.execute(
        f"SELECT count(*) FILTER (n < {below}), count(*) FILTER (n > {above}) FROM {lengths}"
    ).fetchone()
    return Lengths(
        answers=count,
        empty=empty,
        low=low,
        median=middle,
        high=high,
        short=short,
        long=long,
        short_below=below,
        long_above=above,
        bins=tuple(LengthBin(low + bin_ * step, low + (bin_ + 1) * step, n) for bin_, n in rows),
    )


def _same(duck: Any, results: str) -> tuple[int, str] | None:
    """The answer given word for word most often, of those that were asked for themselves."""
    asked = "outcome = 'succeeded' AND answer IS NOT NULL AND answer_source NOT IN ('duplicate')"
    # Counted by digest, then looked up: a text of any length costs sixteen bytes.
    found = duck.execute(
        f"SELECT md5_number(answer) AS d, count(*) FROM {results} WHERE {asked} GROUP BY d ORDER BY 2 DESC, 1 LIMIT 1"
    ).fetchone()
    if found is None:
        return None
    digest, count = found
    (text,) = duck.execute(
        f"SELECT left(any_value(answer), {SAME_CHARACTERS}) FROM {results} WHERE {asked} AND md5_number(answer) = ?",
        [digest],
    ).fetchone()
    return count, text
