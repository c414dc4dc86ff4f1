"""Parquet in: types kept, files compared, damage found; and the snapshot file that comes out."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import record_batches
from claude_pipeline.dataset.snapshot_file import row_groups, value_bytes
from claude_pipeline.errors import DatasetInvalid, LedgerDamaged
from claude_pipeline_tests.dataset_factory import records_in, records_of, snapshot_of

TYPES: list[Any] = [
    pytest.param(pa.array([1, None], pa.int32()), pa.int32(), id="integer"),
    pytest.param(pa.array([1.5, float("inf")]), pa.float64(), id="double"),
    pytest.param(pa.array([True, None]), pa.bool_(), id="boolean"),
    pytest.param(pa.array([Decimal("1.10"), None]), pa.decimal128(3, 2), id="decimal"),
    pytest.param(pa.array([dt.date(2024, 1, 1), None]), pa.date32(), id="date"),
    pytest.param(pa.array([0, None], pa.timestamp("us", "UTC")), pa.timestamp("us", "UTC"), id="moment"),
    pytest.param(pa.array([b"\xff", None]), pa.binary(), id="bytes"),
    pytest.param(pa.array(["a", None], pa.large_string()), pa.string(), id="large-text"),
    pytest.param(pa.array(["a", None], pa.string_view()), pa.string(), id="text-view"),
    pytest.param(pa.array(["a", "b"]).dictionary_encode(), pa.string(), id="dictionary"),
    pytest.param(pa.array([None, None], pa.null()), pa.string(), id="all-null"),
    pytest.param(
        pa.array([["a"], None], pa.large_list(pa.string())), pa.list_(pa.field("element", pa.string())), id="list"
    ),
    pytest.param(
        pa.array([{"a": "x"}, None], pa.struct([pa.field("a", pa.large_string(), nullable=False)])),
        pa.struct([("a", pa.string())]),
        id="struct",
    ),
]


@pytest.mark.parametrize(("array", "kept"), TYPES)
def test_a_column_keeps_its_type_and_values(tmp_path: Path, array: pa.Array, kept: pa.DataType) -> None:
    pq.write_table(pa.table({"id": ["1", "2"], "value": array}), tmp_path / "x.parquet")
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="id")
    batch = next(record_batches(snapshot.path))
    assert str(batch.schema.field("value").type) == str(kept)
    assert batch.column("value").to_pylist() == array.to_pylist()


def _as_text(values: list[bytes]) -> pa.Array:
    """Bytes that claim to be text."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


def _bytes(table: pa.Table, folder: Path) -> bytes:
    pq.write_table(table, folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


def test_files_with_types_that_have_a_common_one_are_read_as_that(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": [None]}), tmp_path / "d" / "1.parquet")
    pq.write_table(pa.table({"b": ["x"], "a": [0.5]}), tmp_path / "d" / "2.parquet")
    assert records_in(tmp_path, path=f"{tmp_path}/d") == [{"a": 1.0, "b": None}, {"a": 0.5, "b": "x"}]


def test_folders_named_key_value_add_text_columns(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "day=1" / "x.parquet")
    assert records_in(tmp_path, path=f"{tmp_path}/day=*") == [{"a": 1, "day": "1"}, {"a": 2, "day": "1"}]


REFUSED: list[Any] = [
    pytest.param({"x": b""}, r"x\.parquet: is empty \(0 bytes\)", id="empty"),
    pytest.param({"x": b"PAR1 and no more"}, r"x\.parquet: is not complete \(no footer\); copy it again", id="cut"),
    pytest.param({"x": b"id,text\n1,a\n"}, r"x\.parquet: is no Parquet file", id="csv-inside"),
    pytest.param(
        {"1": pa.table({"a": [1], "text": ["x"]}), "2": pa.table({"a": [1], "body": ["x"]})},
        r"2\.parquet: column 'text' is missing; column 'body' is in no file before",
        id="columns-differ",
    ),
    pytest.param(
        {"1": pa.table({"a": [1]}), "2": pa.table({"a": ["x"]})},
        r"2\.parquet: column 'a' is string, but int64 before",
        id="types-differ",
    ),
    pytest.param({"x": pa.table({"a": [1]}).slice(1)}, r"x\.parquet: holds no records", id="no-records"),
    pytest.param({"x": pa.table([[1], [2]], names=["a", "a"])}, r"column 'a' occurs 2 times", id="repeated-name"),
    pytest.param(
        {"x": pa.table({"a": [_as_text([b"private \xff"])]}, schema=pa.schema([("a", pa.list_(pa.string()))]))},
        r"x\.parquet: column 'a' holds values that are not valid list<.*string>; text must be UTF-8",
        id="not-utf-8-in-a-list",
    ),
    pytest.param(
        {"x": pa.table({"a": pa.array([["ok"]]), "b": pa.array([[1]])}), "y": pa.table({"a": [[1]], "b": [[1]]})},
        r"y\.parquet: column 'a' is list<.*int64>, but list<.*string> before",
        id="list-types-differ",
    ),
]


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_what_is_wrong_is_named_and_never_quoted(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    (tmp_path / "d").mkdir()
    for name, content in files.items():
        data = content if isinstance(content, bytes) else _bytes(content, tmp_path)
        (tmp_path / "d" / f"{name}.parquet").write_bytes(data)
    with pytest.raises(DatasetInvalid, match=message) as caught:
        snapshot_of(tmp_path, path=f"{tmp_path}/d")
    assert "private" not in str(caught.value)


def test_a_text_that_is_no_utf_8_is_the_fault_of_its_record_alone(tmp_path: Path) -> None:
    for name, values in (("1", [b"good"]), ("2", [b"fine", b"private \xff", b"last"])):
        pq.write_table(pa.table({"text": _as_text(values)}), tmp_path / f"{name}.parquet")
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/*.parquet")
    assert [record["text"] for record in records_of(snapshot)] == ["good", "fine", None, "last"]
    assert snapshot.origin.faults == {2: ("bad_unicode", "column text is not UTF-8 (byte 0xFF at 9)")}
    assert snapshot.origin.place_of(2) == "2.parquet, record 2"


def test_text_that_becomes_bytes_is_looked_at_as_text(tmp_path: Path) -> None:
    """Of two files with a column of one name, of which one holds bytes."""
    pq.write_table(pa.table({"text": _as_text([b"good", b"\xff"])}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": pa.array([b"\xff"], pa.binary())}), tmp_path / "2.parquet")
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/*.parquet")
    assert snapshot.origin.faults == {1: ("bad_unicode", "column text is not UTF-8 (byte 0xFF at 1)")}


def test_a_flipped_bit_in_a_snapshot_is_noticed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(5_000)]}), tmp_path / "x.parquet")
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet")
    data = bytearray(snapshot.path.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match=r"cannot be read .*; restore it from a backup"):
        list(record_batches(snapshot.path))


def test_a_damaged_page_of_a_source_with_checksums_is_named(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {number}" for number in range(5_000)]})
    pq.write_table(table, tmp_path / "x.parquet", write_page_checksum=True, use_dictionary=False)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(DatasetInvalid, match=r"x\.parquet: is damaged: a page cannot be read"):
        snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet")


def test_wide_records_make_small_row_groups(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{number}" * 300_000 for number in range(10, 350)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=50)
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet")
    metadata = pq.read_metadata(snapshot.path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [101, 71, 71, 71, 26]


def test_groups_end_at_the_same_rows_however_the_batches_fall() -> None:
    table = pa.table({"text": ["x" * (number % 9_000) for number in range(30_000)]})
    ends = []
    for size in (1_000, 7_777, 30_000):
        groups = row_groups(iter(table.to_batches(max_chunksize=size)), table.schema)
        ends.append([len(group) for group in groups])
    assert ends[0] == ends[1] == ends[2]
    assert sum(ends[0]) == 30_000
    assert max(ends[0]) <= 10_000


SIZES: list[Any] = [
    pytest.param(pa.array(["a", None, "é", ""]), [1, 0, 2, 0], id="text"),
    pytest.param(pa.array([1, None]), [8, 8], id="number"),
    pytest.param(pa.array([["a", "bb"], [], None, ["ccc"]]), [3, 0, 0, 3], id="list"),
    pytest.param(pa.array([["skipped"], ["a"], None, ["bb"]])[1:], [1, 0, 2], id="slice-of-lists"),
    pytest.param(pa.array([{"a": "xy", "b": 1}, None, {"a": None, "b": None}]), [10, 8, 8], id="struct"),
    pytest.param(pa.array([{"a": ["x", "yz"]}, {"a": None}]), [3, 0], id="nested"),
    pytest.param(pa.array([], pa.list_(pa.string())), [], id="nothing"),
]


@pytest.mark.parametrize(("array", "expected"), SIZES)
def test_the_size_of_a_record_is_that_of_its_values(array: pa.Array, expected: list[int]) -> None:
    assert value_bytes(array).tolist() == np.array(expected).tolist()
