"""What a watermark is: kinds, order, the text that the ledger keeps, and which text grows at all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from claude_pipeline.dataset.bound import duckdb_bound, postgresql_bound, sqlite_bound
from claude_pipeline.dataset.watermark import (
    Kind,
    Mark,
    above,
    at,
    form_of,
    highest,
    keys_of,
    kind_of,
    lies_ahead,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9

MARKS: list[Any] = [
    pytest.param(Mark("whole number", -7), "-7", id="negative"),
    pytest.param(Mark("whole number", 2**64 - 1), "18446744073709551615", id="64-bits"),
    pytest.param(Mark("date", 0), "1970-01-01", id="first-day"),
    pytest.param(Mark("date", -1), "1969-12-31", id="before-1970"),
    pytest.param(Mark("timestamp", NOON_NS), "2026-11-22 12:00:00.000000000", id="whole-second"),
    pytest.param(Mark("timestamp", NOON_NS + 1), "2026-11-22 12:00:00.000000001", id="nanosecond"),
    pytest.param(Mark("timestamp", -1), "1969-12-31 23:59:59.999999999", id="just-before-1970"),
    pytest.param(
        Mark("timestamp", -58_000_000_000 * 10**9), "0132-01-20 16:53:20.000000000", id="year-of-three-digits"
    ),
    pytest.param(Mark("timestamp with time zone", NOON_NS), "2026-11-22 12:00:00.000000000+00:00", id="zone"),
    pytest.param(Mark("text", "2026-11-22"), "2026-11-22", id="text"),
]


@pytest.mark.parametrize(("mark", "text"), MARKS)
def test_a_mark_is_read_back_as_it_was_written(mark: Mark, text: str) -> None:
    assert mark.text == text
    assert Mark.parse(mark.kind, text) == mark


def test_a_kind_of_a_later_version_is_none() -> None:
    with pytest.raises(ValueError, match="'colour' is no kind"):
        Mark.parse("colour", "1")


KINDS: list[Any] = [
    pytest.param(pa.int8(), "whole number", id="int8"),
    pytest.param(pa.uint64(), "whole number", id="uint64"),
    pytest.param(pa.decimal128(38, 0), "whole number", id="decimal-without-fraction"),
    pytest.param(pa.decimal128(9, 2), None, id="decimal"),
    pytest.param(pa.timestamp("ms"), "timestamp", id="timestamp"),
    pytest.param(pa.timestamp("ns", "Europe/Berlin"), "timestamp with time zone", id="timestamp-with-zone"),
    pytest.param(pa.date32(), "date", id="date32"),
    pytest.param(pa.date64(), "date", id="date64"),
    pytest.param(pa.string(), "text", id="text"),
    *(
        pytest.param(kind, None, id=str(kind))
        for kind in (pa.float64(), pa.float32(), pa.bool_(), pa.list_(pa.int64()), pa.binary(), pa.time64("us"))
    ),
]


@pytest.mark.parametrize(("column", "kind"), KINDS)
def test_only_what_grows_in_one_order_is_a_watermark(column: pa.DataType, kind: Kind | None) -> None:
    assert kind_of(column) == kind


ORDERED: list[Any] = [
    pytest.param(pa.array([1, 2, 3], pa.int32()), Mark("whole number", 2), id="int32"),
    pytest.param(pa.array([1, 2**63, 2**64 - 1], pa.uint64()), Mark("whole number", 2**63), id="uint64"),
    pytest.param(pa.array([Decimal(1), Decimal(2), Decimal(3)], pa.decimal128(38, 0)), Mark("whole number", 2), id="decimal"),
    pytest.param(pa.array([1, 2, 3], pa.int64()).cast(pa.timestamp("us")), Mark("timestamp", 2_000), id="microseconds"),
    pytest.param(pa.array([1, 2, 3], pa.int64()).cast(pa.timestamp("s", "UTC")), Mark("timestamp with time zone", 2 * 10**9), id="seconds"),
    pytest.param(pa.array([date(1970, 1, n) for n in (2, 3, 4)], pa.date64()), Mark("date", 2), id="date64"),
    pytest.param(pa.array(["A", "B", "a"]), Mark("text", "B"), id="text-by-code-points"),
    pytest.param(pa.array(["é", "\uffff", "\U0001f600"]), Mark("text", "\uffff"), id="text-beyond-16-bits"),
]  # fmt: skip


@pytest.mark.parametrize(("array", "mark"), ORDERED)
def test_values_lie_below_at_and_above_a_mark(array: pa.Array, mark: Mark) -> None:
    keys, unit = keys_of(array)
    assert at(keys, unit, mark).to_pylist() == [False, True, False]
    assert above(keys, unit, mark).to_pylist() == [False, False, True]
    top = highest(keys, unit, mark.kind)
    assert top is not None
    assert above(keys, unit, top).to_pylist() == [False] * 3
    assert at(keys, unit, top).to_pylist() == [False, False, True]


BETWEEN: list[Any] = [
    pytest.param(pa.array([2, 3], pa.int64()).cast(pa.timestamp("us")), Mark("timestamp", 2_500), [False, True], id="finer-mark"),
    pytest.param(pa.array([-3, -2], pa.int64()).cast(pa.timestamp("s")), Mark("timestamp", -25 * 10**8), [False, True], id="negative"),
    pytest.param(pa.array([1, 127], pa.int8()), Mark("whole number", 300), [False, False], id="mark-beyond-the-type"),
    pytest.param(pa.array([0, 1], pa.uint8()), Mark("whole number", -1), [True, True], id="mark-below-the-type"),
    pytest.param(pa.array([0, 2**62]), Mark("whole number", 2**64 - 1), [False, False], id="mark-of-64-bits"),
]  # fmt: skip


@pytest.mark.parametrize(("array", "mark", "higher"), BETWEEN)
def test_a_mark_that_the_column_cannot_hold_is_compared_exactly(
    array: pa.Array, mark: Mark, higher: list[bool]
) -> None:
    keys, unit = keys_of(array)
    assert above(keys, unit, mark).to_pylist() == higher
    assert at(keys, unit, mark).to_pylist() == [False, False]


GROWING: list[Any] = [
    pytest.param(["2026-09-30", "2026-10-01"], id="dates"),
    pytest.param(["2026-09-30T10:00:00Z", "2026-10-01T09:00:00Z"], id="utc"),
    pytest.param(["2026-09-30T10:00:00.25Z", "2026-10-01T09:00:00.50Z"], id="utc-with-fractions"),
    pytest.param(["2026-09-30 10:00:00", "2026-09-30 10:00:00.5", "2026-09-30 10:00:01"], id="fractions-left-out"),
    pytest.param(["2026-09-30T10:00:00+00:00", "2026-09-30T10:00:00.5+00:00"], id="as-python-writes-it"),
    pytest.param(["000009", "000010"], id="padded"),
    pytest.param(["order-0009", "order-0010"], id="padded-with-a-prefix"),
    pytest.param(["01KA8XQ7D5W0V0T0ZQ2B1C3D4E", "01KA8XQ7D6W0V0T0ZQ2B1C3D4E"], id="ulid"),
    pytest.param(["019aab7e-0000-7000-8000-000000000000", "019aab7f-0000-7000-8000-000000000000"], id="uuid-7"),
]
NOT_GROWING: list[Any] = [
    pytest.param(["9", "10"], id="numbers"),
    pytest.param(["order-9", "order-10"], id="numbers-with-a-prefix"),
    pytest.param(["2026-9-30", "2026-10-01"], id="months-of-one-digit"),
    pytest.param(["2026-10-25T02:30:00+02:00", "2026-10-25T02:15:00+01:00"], id="clocks-set-back"),
    pytest.param(["2026-09-30T10:00:00Z", "2026-09-30T10:00:00.5Z"], id="fractions-left-out-before-Z"),
    pytest.param(["2026-09-30T10:00:00", "2026-09-30 11:00:00"], id="T-and-blank"),
    pytest.param(["2026-09-30T10:00:00Z", "1790762400"], id="another-way"),
]
HOPELESS = ["30.09.2026", "09/30/2026", "30-09-2026", "30-Sep-2026", "Sep 30 2026", "1.5", "", "it's", "a\0b", "٣",
            "x' OR '1'='1", "3b241101-e2bb-4255-8caf-4136c566a962", "2026-11-22T10:00:00 UTC", "2026-11-22\n"]  # fmt: skip


@pytest.mark.parametrize("texts", GROWING)
def test_texts_of_one_form_grow_by_their_code_points(texts: list[str]) -> None:
    assert len({form_of(text) for text in texts}) == 1
    assert form_of(texts[0]) is not None
    assert texts == sorted(texts)


@pytest.mark.parametrize("texts", NOT_GROWING)
def test_texts_that_would_sort_wrongly_have_two_forms(texts: list[str]) -> None:
    assert len({form_of(text) for text in texts}) == 2


@pytest.mark.parametrize("text", HOPELESS)
def test_other_text_has_no_form(text: str) -> None:
    assert form_of(text) is None


DAYS: list[Any] = [
    pytest.param("date", "2026-11-23", False, id="tomorrow"),
    pytest.param("date", "2026-11-24", True, id="the-day-after"),
    pytest.param("timestamp", "2026-11-23 11:59:59.000000000", False, id="within-a-day"),
    pytest.param("timestamp with time zone", "2026-11-23 12:00:01.000000000+00:00", True, id="more-than-a-day"),
    pytest.param("text", "9999-12-31T00:00:00Z", True, id="text"),
    pytest.param("text", "2026-11-23T23:00:00+05:00", False, id="text-of-tomorrow"),
    pytest.param("text", "9999999999", False, id="digits"),
    pytest.param("whole number", "9999999999", False, id="number"),
]


@pytest.mark.parametrize(("kind", "text", "ahead"), DAYS)
def test_a_value_for_never_is_told_from_the_clock(kind: str, text: str, ahead: bool) -> None:
    assert lies_ahead(Mark.parse(kind, text), NOON) is ahead


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)], ids=["infinity", "minus-infinity"])
def test_no_time_at_all_is_never_a_mark(value: int) -> None:
    assert lies_ahead(Mark("timestamp", value * 1_000), NOON)


def test_conditions_let_by_what_somebody_must_see() -> None:
    moment, number, code = (
        Mark("timestamp with time zone", NOON_NS + 1_999),
        Mark("whole number", 9),
        Mark("text", "x-9"),
    )
    assert duckdb_bound('"at"', moment) == (
        '"at" >= CAST(\'2026-11-22 12:00:00.000001+00:00\' AS TIMESTAMPTZ) OR "at" IS NULL'
    )
    assert postgresql_bound('"n"', number) == '"n" >= 9 OR "n" IS NULL'
    assert sqlite_bound('"c"', code) == (
        '"c" COLLATE BINARY >= \'x-9\' OR "c" < \'\' OR "c" IS NULL OR length("c") <> 3'
    )
    assert sqlite_bound('"at"', moment) is None
