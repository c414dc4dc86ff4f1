"""Watermarks: the highest value of a column that only grows, by which new records are told from old ones.

Whole numbers, dates and timestamps are compared as such, text by its code points. That is the order in which
text grows only where all of it has one form, so text of several forms is refused instead of skipped:
ISO 8601 dates or times of one offset, or letters and digits of one width (zero-padded numbers, ULIDs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Kind", "Mark", "above", "at", "form_of", "highest", "keys_of", "kind_of", "lies_ahead"]

Kind = Literal["whole number", "timestamp", "timestamp with time zone", "date", "text"]
NS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_NS = NS_PER_UNIT["s"]
_EPOCH, _FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)
_FIRST_NS = (date.min - _FIRST_DAY).days * 86_400 * _NS
_AHEAD = timedelta(days=1)  # clocks without a zone are up to 14 h ahead of UTC

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:([T ])\d\d:\d\d(:\d\d(?:(\.\d+))?)?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)  # fmt: skip
_ONE_WIDTH = re.compile(r"[A-Za-z0-9_-]+")
# Such text has one width and yet does not grow: 22-11-2026, 22-Nov-2026, and UUIDs made of chance.
_DAY_FIRST = re.compile(r"\d{1,2}-(?:\d{1,2}|[A-Za-z]{3,9})-\d{2,4}(?!\d)")
_RANDOM_UUID = re.compile(r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-4[0-9A-Fa-f]{3}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True)
class Mark:
    """A value of a watermark column. `value`: the number, days or nanoseconds since 1970 (in UTC, or as the
    clock stood), or the text."""

    kind: Kind
    value: int | str

    @classmethod
    def parse(cls, kind: str, text: str) -> Mark:
        """What `text` wrote.

        >>> Mark.parse("date", Mark("date", 20779).text).value
        20779
        """
        if kind not in get_args(Kind):
            raise ValueError(f"{kind!r} is no kind of watermark")
        known = cast(Kind, kind)
        match known:
            case "whole number":
                return cls(known, int(text))
            case "text":
                return cls(known, text)
            case "date":
                return cls(known, (date.fromisoformat(text) - _FIRST_DAY).days)
            case "timestamp" | "timestamp with time zone":
                whole, _, fraction = text.removesuffix("+00:00").partition(".")
                since = datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH
                return cls(known, (since.days * 86_400 + since.seconds) * _NS + int(fraction.ljust(9, "0")))

    @property
    def text(self) -> str:
        """One text for each value: `2026-11-22 14:30:00.000000000`, with `+00:00` where it has a time zone.

        Raises:
            OverflowError: a moment outside the years 1 to 9999.
        """
        match self.kind:
            case "whole number" | "text":
                return str(self.value)
            case "date":
                return (_FIRST_DAY + timedelta(days=self.number)).isoformat()
            case "timestamp":
                return self._moment
            case "timestamp with time zone":
                return f"{self._moment}+00:00"

    @property
    def number(self) -> int:
        assert isinstance(self.value, int)
        return self.value

    @property
    def _moment(self) -> str:
        seconds, nanoseconds = divmod(self.number, _NS)
        return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}".rjust(19, "0") + f".{nanoseconds:09d}"


def kind_of(column: pa.DataType) -> Kind | None:
    """What a column of this type can be a watermark as; None: it cannot."""
    whole = pa.types.is_integer(column) or (pa.types.is_decimal(column) and column.scale == 0)
    if whole:
        return "whole number"
    if pa.types.is_timestamp(column):
        return "timestamp" if column.tz is None else "timestamp with time zone"
    if pa.types.is_date(column):
        return "date"
    return "text" if pa.types.is_string(column) or pa.types.is_large_string(column) else None


def keys_of(array: pa.Array) -> tuple[pa.Array, int]:
    """The values in an order that Arrow compares, and how many of a mark's units one of theirs is.

    Raises:
        pa.ArrowException: a whole number is too large for 64 bits.
    """
    column = array.type
    if pa.types.is_timestamp(column):
        return array.cast(pa.int64()), NS_PER_UNIT[column.unit]
    if pa.types.is_date(column):
        return array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()), 1
    if pa.types.is_unsigned_integer(column):
        return array.cast(pa.uint64()), 1
    if pa.types.is_string(column) or pa.types.is_large_string(column):
        return array, 1
    return array.cast(pa.int64()), 1


def highest(keys: pa.Array, unit: int, kind: Kind) -> Mark | None:
    """Of values as `keys_of` gives them; None where there is none."""
    found = pc.max(keys).as_py()
    return None if found is None else Mark(kind, found if kind == "text" else found * unit)


def above(keys: pa.Array, unit: int, mark: Mark) -> pa.Array:
    """Where the value is higher than the mark."""
    # As whole units of the column, which nanoseconds may not fit: v · unit > mark where v > ⌊mark / unit⌋.
    bound = mark.value if isinstance(mark.value, str) else mark.value // unit
    return _compared(keys, bound, pc.greater)


def at(keys: pa.Array, unit: int, mark: Mark) -> pa.Array:
    """Where the value is the mark."""
    if isinstance(mark.value, str):
        return _compared(keys, mark.value, pc.equal)
    bound, rest = divmod(mark.value, unit)
    return pa.repeat(False, len(keys)) if rest else _compared(keys, bound, pc.equal)


def _compared(keys: pa.Array, bound: int | str, compare: object) -> pa.Array:
    if isinstance(bound, int):
        unsigned = pa.types.is_unsigned_integer(keys.type)
        least, most = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
        if not least <= bound <= most:
            return pa.repeat(compare is pc.greater and bound < least, len(keys))
    return compare(keys, pa.scalar(bound, keys.type))  # type: ignore[operator]


def form_of(text: str) -> str | None:
    """What two texts must share so that the later one is the greater: a picture of it, without its digits.

    None: text of this form grows in no order of code points.
    """
    if iso := _ISO.fullmatch(text):
        between, seconds, fraction, offset = iso.groups()
        picture = "YYYY-MM-DD"
        if between is not None:
            picture += f"{between}hh:mm" + (":ss" if seconds else "")
        # `Z` sorts behind digits and the point: 14:30:00Z would be greater than 14:30:00.5Z.
        return picture + (f".{'f' * (len(fraction) - 1)}" if fraction and offset == "Z" else "") + (offset or "")
    if not _ONE_WIDTH.fullmatch(text) or _DAY_FIRST.match(text) or _RANDOM_UUID.fullmatch(text):
        return None
    return re.sub("[A-Za-z0-9]", "x", text)


def is_iso(text: str) -> bool:
    return _ISO.fullmatch(text) is not None


def lies_ahead(mark: Mark, now: datetime) -> bool:
    """Whether it is a day or more in the future, so that what comes with the true time would be older; or no time."""
    latest = now.astimezone(UTC) + _AHEAD
    match mark.kind:
        case "whole number":
            return False
        case "date":
            return mark.number > (latest.date() - _FIRST_DAY).days
        case "text":
            return is_iso(str(mark.value)) and str(mark.value)[:10] > latest.date().isoformat()
        case "timestamp" | "timestamp with time zone":  # -infinity as well is what no time of ours is compared with
            return not _FIRST_NS <= mark.number <= (latest - _EPOCH) // timedelta(microseconds=1) * 1_000
