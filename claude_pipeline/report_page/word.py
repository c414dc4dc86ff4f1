"""Numbers and foreign texts as a page shows them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.money import dollars, same_digits
from claude_pipeline.picture.outcome import share
from claude_pipeline.report import duration
from claude_pipeline.report import rate as spell_rate

FOLD_CHARACTERS = 600  # of a text; what is longer is folded
# What HTML cannot hold, or a reader cannot see: a mark stands in its place.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(value: Any) -> Any:
    """A text without the characters that no page may hold; our own markup and everything else as it is."""
    return _CONTROLS.sub("\ufffd", value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def usd(amount: float) -> str:
    return dollars(round(amount * UNITS_PER_USD))


def usd_range(low: float, high: float) -> str:
    return " to ".join(same_digits(round(low * UNITS_PER_USD), round(high * UNITS_PER_USD)))


def number(value: float) -> str:
    return f"{value:,.0f}"


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at is not None else "not yet"


def rate(amount: float, minutes: float | None) -> str:
    return spell_rate(amount / minutes) if minutes else "not known"


def span(minutes: float | None) -> str:
    return duration(minutes * 60) if minutes is not None else "not known"


def hours(value: float) -> str:
    return duration(value * 3600)


def change(now: float, before: float) -> str:
    """`12 % less`, `1.5 times as much`; empty where there is nothing to compare with."""
    if not before:
        return ""
    ratio = now / before
    if abs(ratio - 1) < 0.005:
        return "the same"
    if ratio >= 2:
        return f"{ratio:.1f} times as much"
    return f"{abs(ratio - 1):.0%}".replace("%", " %") + (" more" if ratio > 1 else " less")


__all__ = [
    "FOLD_CHARACTERS",
    "change",
    "clean",
    "hours",
    "moment",
    "number",
    "rate",
    "share",
    "span",
    "usd",
    "usd_range",
]
