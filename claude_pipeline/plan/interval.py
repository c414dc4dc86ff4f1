"""How far an estimate may be off: 90 % intervals from sums over a sample, without holding the sample.

Tokens t of a request are taken as a + b x, where x is the bytes of its params and the variance of
what remains grows with x (weighted least squares with weights 1/x). The line goes through the
sample's mean, so that for requests like the sampled ones it is the ratio of sums; for longer or
shorter ones it knows what part of a request is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

# Two-sided: 2.1 is 96 %, labelled 90 %. Token counts are skewed, so the normal law holds the truth too rarely.
QUANTILE = 2.1
LEAST_FOR_A_LINE = 8  # requests; with fewer only the ratio is taken
LEAST_SPREAD = 1e-3  # relative, of sizes; with less no slope can be told
UNSEEN_BELOW = 100  # answers
MISSED_ONCE_IN_TEN = 2.3  # -ln(0.1)
LEAST_GROUPS = 5  # chunks from which on their differences are measured


@dataclass(frozen=True)
class Interval:
    """An expected value, and the bounds between which it lies 9 times in 10."""

    expected: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Self:
        return cls(value, value, value)

    @classmethod
    def around(cls, expected: float, half_width: float) -> Self:
        return cls(expected, max(0.0, expected - half_width), expected + half_width)

    def times(self, factor: float) -> Interval:
        return Interval(self.expected * factor, self.low * factor, self.high * factor)

    def plus(self, other: Interval) -> Interval:
        """The sum of two independent quantities: half-widths add in quadrature, each side by itself."""
        expected = self.expected + other.expected
        return Interval(
            expected,
            max(0.0, expected - math.hypot(self.expected - self.low, other.expected - other.low)),
            expected + math.hypot(self.high - self.expected, other.high - other.expected),
        )

    def widened(self, share: float) -> Interval:
        """With a further, independent doubt of `share` of the expected value to each side."""
        return self.plus(Interval(0.0, -share * self.expected, share * self.expected))

    def within(self, least: float, most: float) -> Interval:
        """No value outside what is possible."""
        return Interval(*(min(max(value, least), most) for value in (self.expected, self.low, self.high)))

    def __str__(self) -> str:
        return f"{self.expected:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


class Moments(NamedTuple):
    """Sums over sampled requests: x bytes of params, t tokens."""

    n: int
    x: float
    x2: float
    inverse_x: float  # sum of 1/x
    inverse_x2: float
    t: float
    tx: float
    t2: float
    t_over_x: float
    t2_over_x: float
    t_over_x2: float
    t2_over_x2: float

    def plus(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, *(a + b for a, b in zip(self[1:], other[1:], strict=True)))

    def minus(self, other: Moments) -> Moments:
        return Moments(self.n - other.n, *(a - b for a, b in zip(self[1:], other[1:], strict=True)))

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Moments:
        """From (bytes, tokens) of each request; bytes are positive."""
        total = EMPTY
        for x, t in pairs:
            total = total.plus(
                cls(1, x, x * x, 1 / x, x**-2, t, t * x, t * t, t / x, t * t / x, t / x**2, (t / x) ** 2)
            )
        return total


# The same sums in SQL over columns x and t.
TERMS = (
    "count(*)", "sum(x)", "sum(x * x)", "sum(1 / x)", "sum(1 / (x * x))", "sum({t})", "sum({t} * x)", "sum({t} * {t})",
    "sum({t} / x)", "sum({t} * {t} / x)", "sum({t} / (x * x))", "sum({t} * {t} / (x * x))",
)  # fmt: skip
EMPTY = Moments(0, *[0.0] * 11)


class Line(NamedTuple):
    """Tokens of a request: `constant` + `per_byte` x its bytes. `variance` is that of what remains, per byte."""

    constant: float
    per_byte: float
    variance: float

    def total(self, requests: float, size_bytes: float) -> float:
        return self.constant * requests + self.per_byte * size_bytes


def total_of(groups: Sequence[Moments]) -> Moments:
    total = EMPTY
    for group in groups:
        total = total.plus(group)
    return total


def fit(m: Moments) -> Line:
    """The line through a sample of at least one request."""
    determinant = _determinant(m)
    if determinant is None:
        line = Line(0.0, m.t / m.x, 0.0)
        return line._replace(variance=_left(line, m).per_byte / max(m.n - 1, 1))
    constant = (m.t_over_x * m.x - m.n * m.t) / determinant
    per_byte = (m.inverse_x * m.t - m.n * m.t_over_x) / determinant
    line = Line(constant, per_byte, 0.0)
    return line._replace(variance=_left(line, m).per_byte / (m.n - 2))


def predict(groups: Sequence[Moments], requests: int, size_bytes: int) -> tuple[Line, Interval]:
    """The total of `requests` requests with `size_bytes` of params together.

    `groups` are the sample's parts (chunks): where there are five or more, the differences between
    them are measured as well (a jackknife), since records beside each other are often alike.
    """
    m = total_of(groups)
    line = fit(m)
    left = _left(line, m)
    expected = line.total(requests, size_bytes)
    own = max(line.variance * size_bytes, left.plain / m.n * requests)  # of the requests to be predicted
    error = math.sqrt(max(_by_model(m, line, requests, size_bytes), _by_sample(m, left, requests, size_bytes)) + own)
    if len(groups) >= LEAST_GROUPS:
        without = [fit(m.minus(group)).total(requests, size_bytes) for group in groups if m.n > group.n]
        mean = sum(without) / len(without)
        spread = (len(without) - 1) / len(without) * sum((value - mean) ** 2 for value in without)
        error = max(error, math.sqrt(spread))
    return line, Interval.around(max(expected, 0.0), quantile(m.n - 2) * error)


class _Left(NamedTuple):
    """Sums of squares of what the line leaves: as they are, over x, and over x squared."""

    plain: float
    per_byte: float
    per_byte2: float


def _left(line: Line, m: Moments) -> _Left:
    a, b, _ = line

    def squares(one: float, x: float, x2: float, t: float, tx: float, t2: float) -> float:
        return max(t2 + a * a * one + b * b * x2 - 2 * a * t - 2 * b * tx + 2 * a * b * x, 0.0)

    return _Left(
        squares(m.n, m.x, m.x2, m.t, m.tx, m.t2),
        squares(m.inverse_x, m.n, m.x, m.t_over_x, m.t, m.t2_over_x),
        squares(m.inverse_x2, m.inverse_x, m.n, m.t_over_x2, m.t_over_x, m.t2_over_x2),
    )


def _determinant(m: Moments) -> float | None:
    """None: too few requests, or all of one size: only the ratio can be told."""
    determinant = m.inverse_x * m.x - m.n**2
    return None if m.n < LEAST_FOR_A_LINE or determinant < LEAST_SPREAD * m.n**2 else determinant


def _by_model(m: Moments, line: Line, requests: int, size_bytes: int) -> float:
    """Variance of the predicted total from the line's uncertainty, if what remains grows as it is taken to."""
    determinant = _determinant(m)
    if determinant is None:
        return line.variance * size_bytes**2 / m.x
    quadratic = requests**2 * m.x - 2 * requests * size_bytes * m.n + size_bytes**2 * m.inverse_x
    return line.variance * max(quadratic, 0.0) / determinant


def _by_sample(m: Moments, left: _Left, requests: int, size_bytes: int) -> float:
    """The same however it grows (White): each sampled request by its own distance from the line and its weight."""
    determinant = _determinant(m)
    if determinant is None:
        return (size_bytes / m.x) ** 2 * left.plain * m.n / max(m.n - 1, 1)
    alpha = (requests * m.x - size_bytes * m.n) / determinant
    beta = (size_bytes * m.inverse_x - requests * m.n) / determinant
    squares = alpha**2 * left.per_byte2 + 2 * alpha * beta * left.per_byte + beta**2 * left.plain
    return max(squares, 0.0) * (m.n / (m.n - 2)) ** 2  # twice: few requests far from the others pull the line to them


def with_unseen(tokens: Interval, answers: int, requests: int, most_each: float) -> Interval:
    """Room for long answers so rare that a small sample met none: a kind with a share of 2.3 in `answers` is missed
    once in ten samples, and each of it may reach `most_each` tokens. From UNSEEN_BELOW answers on nothing is added."""
    if answers >= UNSEEN_BELOW or not requests:
        return tokens
    more = MISSED_ONCE_IN_TEN / answers * max(most_each * requests - tokens.expected, 0.0)
    return Interval(tokens.expected, tokens.low, max(tokens.high, tokens.expected + more))


def quantile(degrees: int) -> float:
    """Of Student's law at the level of QUANTILE (Cornish-Fisher; within 2 % from 4 degrees on)."""
    n, z = max(degrees, 2), QUANTILE
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
