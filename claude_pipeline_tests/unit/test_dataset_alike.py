"""Records are the same only bit for bit."""

from __future__ import annotations

import math
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pipeline.dataset import alike, is_comparable

OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
A_DAY = pa.scalar((1, 2, 3), pa.month_day_nano_interval()).as_py()


def same(kind: pa.DataType, new: list[Any], old: list[Any]) -> list[bool]:
    """Compared as parts of longer columns, as records mostly are."""
    batches = []
    for values in (new, old):
        longer = pa.array([values[0], *values, values[-1]], kind)
        batches.append(pa.RecordBatch.from_arrays([longer.slice(1, len(values))], ["x"]))
    return list(alike(*batches, ["x"]))


@pytest.mark.parametrize(
    ("kind", "new", "old", "expected"),
    [
        pytest.param(pa.string(), ["a", "b", None, None], ["a", "c", None, ""], [1, 0, 1, 0], id="text"),
        pytest.param(pa.float64(), [0.0, 1.5, math.nan, None], [-0.0, 1.5, math.nan, 0.0], [0, 1, 1, 0], id="double"),
        pytest.param(pa.float64(), [math.nan, 1.0], [OTHER_NAN, 1.0], [0, 1], id="another-nan"),
        pytest.param(pa.float32(), [0.0, 2.0], [-0.0, 2.0], [0, 1], id="float"),
        pytest.param(pa.bool_(), [True, False, None], [True, True, False], [1, 0, 0], id="truth"),
        pytest.param(pa.decimal128(5, 2), [1, 2], [1, 3], [1, 0], id="decimal"),
        pytest.param(pa.timestamp("us", "UTC"), [1, 2], [1, 3], [1, 0], id="timestamp"),
        pytest.param(pa.binary(), [b"\0a", b"\0"], [b"\0a", b""], [1, 0], id="bytes"),
        pytest.param(
            pa.list_(pa.string()), [["a"], [], None, ["b", None], ["c"]], [["a"], None, None, ["b"], ["c"]],
            [1, 0, 1, 0, 1], id="list",
        ),
        pytest.param(
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
            [{"a": 1, "b": ["x"]}, {"a": 2, "b": ["x"]}, None], [{"a": 1, "b": ["x"]}, {"a": 2, "b": ["y"]}, None],
            [1, 0, 1], id="struct",
        ),
        pytest.param(pa.map_(pa.string(), pa.int64()), [[("k", 1)], []], [[("k", 2)], []], [0, 1], id="map"),
        pytest.param(pa.month_day_nano_interval(), [A_DAY, None], [A_DAY, A_DAY], [1, 0], id="interval"),
    ],
)  # fmt: skip
def test_values_are_the_same_bit_for_bit(
    kind: pa.DataType, new: list[Any], old: list[Any], expected: list[int]
) -> None:
    assert is_comparable(kind)
    assert same(kind, new, old) == same(kind, old, new) == [bool(one) for one in expected]


def test_values_of_another_type_are_others() -> None:
    new, old = (pa.RecordBatch.from_arrays([pa.array([1, 2], kind)], ["x"]) for kind in (pa.int64(), pa.int32()))
    assert not alike(new, old, ["x"]).any()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.struct([("a", pa.struct([("b", pa.float32())]))]),
        pa.map_(pa.string(), pa.list_(pa.float64())),
    ],
    ids=str,
)
def test_floating_numbers_within_others_are_not_compared(kind: pa.DataType) -> None:
    assert not is_comparable(kind)


LISTS = st.lists(st.none() | st.lists(st.integers(0, 2), max_size=2), min_size=1, max_size=40)


@given(LISTS, LISTS)
def test_lists_are_compared_as_python_compares_them(new: list[Any], old: list[Any]) -> None:
    count = min(len(new), len(old))
    expected = [mine == its for mine, its in zip(new, old, strict=False)]
    assert same(pa.list_(pa.int64()), new[:count], old[:count]) == expected
