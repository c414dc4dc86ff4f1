"""How long one snapshot partition is: read off a cron line, and which partition holds a moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
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
_FIRST_DAY, _YEARS_OF_DAYS = date(2024, 1, 1), 9 * 366  # any nine years hold two leap days and their gap
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


def longest_gap(cron: str) -> timedelta:
    """The longest time between two ticks of a cron line: three days for one that rests at weekends.

    A day that the clocks change on is taken as 24 h.
    """
    minute, hour, day, month, week_day = (
        _expanded(field, *bounds) for field, bounds in zip(cron.split(), _CRON_BOUNDS, strict=True)
    )
    times = sorted(h * 60 + m for h in hour for m in minute)
    ticks = [
        d for n in range(_YEARS_OF_DAYS) if _ticks_on(d := _FIRST_DAY + timedelta(days=n), cron, day, month, week_day)
    ]
    within = max((b - a for a, b in pairwise(times)), default=0)
    days = max((b - a for a, b in pairwise(ticks)), default=timedelta(days=366))
    between = days - timedelta(minutes=times[-1] - times[0])
    return max(between, timedelta(minutes=within))


def _ticks_on(date: date, cron: str, days: set[int], months: set[int], week_days: set[int]) -> bool:
    """Whether a day has ticks. As in every cron: with both a month day and a week day given, either will do."""
    fields = cron.split()
    last = fields[2].upper() == "L"
    of_month = (date + timedelta(days=1)).day == 1 if last else date.day in days
    of_week = date.isoweekday() % 7 in {day % 7 for day in week_days}
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return date.month in months and (of_month or of_week if either else of_month and of_week)


def _expanded(text: str, least: int, most: int, names: str) -> set[int]:
    """The numbers that a field of a valid cron line names."""
    known = {name: least + n for n, name in enumerate(names.split())}
    found: set[int] = set()
    for item in text.upper().split(","):
        whole, _, step = item.partition("/")
        ends = (
            [least, most]
            if whole in ("*", "L")
            else [known.get(e, int(e) if e.isdecimal() else 0) for e in whole.split("-")]
        )
        begin, end = ends[0], most if step and len(ends) == 1 else ends[-1]
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


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
