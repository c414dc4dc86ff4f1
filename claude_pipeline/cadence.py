"""How long one snapshot partition is: read off a cron line, and which partition holds a moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Cadence = Literal["hourly", "daily", "weekly", "monthly"]
FINENESS: tuple[Cadence, ...] = ("hourly", "daily", "weekly", "monthly")
_CRON_BOUNDS = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    (0, 7, "SUN MON TUE WED THU FRI SAT"),
)
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cadence_of(cron: str) -> Cadence | None:
    """The coarsest cadence that gives each tick a partition of its own; None for no cron line.

    Read off the fields: a fixed month day is monthly, a fixed week day weekly, a fixed hour daily,
    all else hourly.
    """
    fields = cron.split()
    if not is_cron(fields):
        return None
    _minute, hour, day, _month, week_day = fields
    if re.fullmatch(r"\d+|L", day):
        return "monthly" if re.fullmatch(r"\d+", hour) else "hourly"
    if not re.fullmatch(r"\d+", hour):
        return "hourly"
    return "weekly" if re.fullmatch(r"\d|[A-Za-z]{3}", week_day) else "daily"


def partition_of(cadence: Cadence, timezone: str, at: datetime) -> str:
    """The snapshot partition that holds a moment, as Dagster names it: 2026-11-22, 2026-11-22-14:00, …"""
    local = at.astimezone(ZoneInfo(timezone))
    match cadence:
        case "hourly":
            return local.strftime("%Y-%m-%d-%H:00")
        case "daily":
            return local.strftime("%Y-%m-%d")
        case "weekly":  # begins on Sunday
            return (local - timedelta(days=(local.weekday() + 1) % 7)).strftime("%Y-%m-%d")
        case "monthly":
            return local.strftime("%Y-%m-01")


def is_cron(fields: Sequence[str]) -> bool:
    """Whether five fields name moments that exist: minute, hour, day, month, week day."""
    if len(fields) != 5 or not all(_in_range(f, *bounds) for f, bounds in zip(fields, _CRON_BOUNDS, strict=True)):
        return False
    _, _, day, month, _ = fields
    if not re.fullmatch(r"\d+(,\d+)*", day) or not re.fullmatch(r"\d+(,\d+)*", month):
        return True
    longest = max(_DAYS_OF_MONTH[int(m) - 1] for m in month.split(","))
    return any(int(d) <= longest for d in day.split(","))


def _in_range(text: str, least: int, most: int, names: str) -> bool:
    """Whether a cron field is a list of `*`, numbers, names or ranges of them, each with an optional step."""
    known = {name: least + n for n, name in enumerate(names.split())}
    for item in text.upper().split(","):
        whole, _, step = item.partition("/")
        if (step and not (step.isdecimal() and int(step) > 0)) or item.endswith("/"):
            return False
        if whole == "*" or (whole == "L" and most == 31):
            continue
        ends = [known.get(end, int(end) if end.isdecimal() else -1) for end in whole.split("-")]
        if len(ends) > 2 or not all(least <= end <= most for end in ends) or ends != sorted(ends):
            return False
    return True
