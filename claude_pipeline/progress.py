"""How far long work in this process is: stages tell, whoever shows it listens; without a listener it costs a comparison.

told("rendering", 1_200_000, total=3_000_000, unit="records")   ->   rendering: 1,200,000 of 3,000,000 records, 45,000/s, 40 s left
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SAID_EVERY_SECONDS = 0.5
RATE_FROM_SECONDS = 1.0  # before that a rate says little


@dataclass
class _Board:
    """What was told last; one listener at a time."""

    listener: Callable[[str], None] | None = None
    stage: str = ""
    begun_at: float = 0.0
    begun_with: int = 0
    done: int = 0
    said_at: float = 0.0


_board = _Board()


def told(stage: str, done: int, *, unit: str, total: int | None = None) -> None:
    """So much of a stage is done; counts rise while it lasts."""
    if _board.listener is None:
        return
    now = time.monotonic()
    if stage != _board.stage or done < _board.done:
        _board.stage, _board.begun_at, _board.begun_with = stage, now, done
    _board.done = done
    if now - _board.said_at >= SAID_EVERY_SECONDS:
        _board.said_at = now
        _board.listener(sentence(stage, done, total, unit, now - _board.begun_at, done - _board.begun_with))


def sentence(stage: str, done: int, total: int | None, unit: str, seconds: float, since: int) -> str:
    """`since` of them were done in these seconds: the rate, and what it means for the rest."""
    amount = f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"
    if seconds < RATE_FROM_SECONDS or since <= 0:
        return f"{stage}: {amount}"
    rate = since / seconds
    said = f"{rate:,.0f}/s" if rate >= 10 else f"{rate * 60:,.0f}/min"
    left = f", {_span((total - done) / rate)} left" if total is not None and total > done else ""
    return f"{stage}: {amount}, {said}{left}"


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """What stages tell is said to `listener`, twice a second at most, from whatever thread they work in."""
    _board.listener, _board.stage, _board.said_at = listener, "", 0.0
    try:
        yield
    finally:
        _board.listener = None


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
