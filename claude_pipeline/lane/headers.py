"""What the headers of an answer tell: how long to wait, and the limits as they stand."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from claude_pipeline.lane.reply import RateTold

RETRY_AFTER_MAX = 86_400.0  # a day: beyond it a header is a fault, not a wish
_RATE = re.compile(r"anthropic-ratelimit-(requests|input-tokens|output-tokens)-(limit|remaining)")


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds, 0 to a day; None where nothing is told, or what cannot be read (nan, "soon").

    `retry-after-ms` goes before `retry-after`, which is seconds or a date. A date is read against the
    server's own `date`, else against `now`. `headers` has its names in small letters, or does not mind.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            seconds = _until(text, headers.get("date"), now)
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), RETRY_AFTER_MAX)
    return None


def rates_told(headers: Mapping[str, str]) -> dict[str, RateTold]:
    """Limits by `requests`, `input-tokens`, `output-tokens`; those that are not told are not there."""
    told: dict[str, dict[str, int]] = {}
    for name, text in headers.items():
        if name.startswith("anthropic-ratelimit-") and (match := _RATE.fullmatch(name)) and text.isdecimal():
            told.setdefault(match[1], {})[match[2]] = int(text)
    return {name: RateTold(figures.get("limit"), figures.get("remaining")) for name, figures in told.items()}


def _until(text: str, date: str | None, now: datetime | None) -> float:
    """Seconds until a date; nan where it is none."""
    then = _moment(text)
    since = (_moment(date) if date is not None else None) or now
    return math.nan if then is None or since is None else (then - since).total_seconds()


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
