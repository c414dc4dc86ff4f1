"""A differential snapshot has the records that a full one would have, and no chain of files under it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pipeline.dataset import Full, Records
from claude_pipeline.dataset.differential import difference_of
from claude_pipeline.dataset.snapshot_file import COLUMNS_KEY, ROW_GROUP_BYTES, SHARE_OF_FULL, Written, write_records
from claude_pipeline.errors import LedgerDamaged
from claude_pipeline.home import sha256_of
from claude_pipeline_tests.dataset_factory import all_records, write_differential

SCHEMA = pa.schema(
    [("record_id", pa.string()), ("text", pa.string()), ("tags", pa.list_(pa.string()))],
    metadata={COLUMNS_KEY: json.dumps(["text", "tags"])},
)
COUNT = 12_345  # two row groups
Record = dict[str, Any]


def record(number: int, text: str | None = None) -> Record:
    return {"record_id": f"r{number}", "text": f"text {number}" if text is None else text, "tags": [str(number % 7)]}


RECORDS = [record(number) for number in range(COUNT)]


def batches(records: list[Record], rows: int = 10_000, schema: pa.Schema = SCHEMA) -> Iterator[pa.RecordBatch]:
    for first in range(0, len(records), rows):
        yield pa.RecordBatch.from_pylist(records[first : first + rows], schema=schema)


def write(path: Path, records: list[Record], full: Full | None = None, *, rows: int = 10_000) -> Written:
    schema = SCHEMA
    return write_records(path, schema, batches(records, rows), place="notes", scratch=path.parent, full=full)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "full.parquet"
    assert write(path, RECORDS) == Written(COUNT)
    return path


@pytest.fixture
def beside(full: Path, tmp_path: Path) -> Path:
    """A copy of the full snapshot, to be damaged."""
    path = tmp_path / "full.parquet"
    path.write_bytes(full.read_bytes())
    return path


def changed(*numbers: int) -> list[Record]:
    return [record(number, "changed") if number in numbers else one for number, one in enumerate(RECORDS)]


@pytest.mark.parametrize(
    ("records", "own"),
    [
        pytest.param(RECORDS, 0, id="the-same"),
        pytest.param(changed(0, 5_000, COUNT - 1), 3, id="some-changed"),
        pytest.param([*RECORDS, record(COUNT)], 1, id="one-more"),
        pytest.param(RECORDS[:9_990], 0, id="fewer"),
        pytest.param(RECORDS[:3], 0, id="hardly-any"),
        pytest.param([], 0, id="none"),
        pytest.param([*RECORDS[:-1], record(COUNT)], 1, id="the-last-one-another"),
    ],
)
def test_a_differential_snapshot_holds_what_differs(
    full: Path, tmp_path: Path, records: list[Record], own: int
) -> None:
    (tmp_path / full.name).symlink_to(full)
    path = tmp_path / "notes.parquet"
    assert write(path, records, Full(full), rows=777) == Written(len(records), own)
    assert pq.read_metadata(path).num_rows == own
    assert all_records(path, rows=1_000) == records
    difference = difference_of(pq.read_metadata(path))
    assert difference is not None
    assert (difference.full, difference.count, len(difference.rows)) == (full.name, len(records), own)
    assert difference_of(pq.read_metadata(full)) is None


@pytest.mark.parametrize("records", [changed(4), changed(*range(2_000)), [*RECORDS, record(COUNT)]])
def test_equal_records_make_equal_bytes_however_they_come(full: Path, tmp_path: Path, records: list[Record]) -> None:
    digests = set()
    for rows in (10_000, 333):
        write(tmp_path / f"{rows}.parquet", records, Full(full), rows=rows)
        digests.add(sha256_of(tmp_path / f"{rows}.parquet"))
    assert len(digests) == 1


def test_where_much_differs_all_is_written_as_if_there_were_no_full_one(full: Path, tmp_path: Path) -> None:
    most = COUNT // SHARE_OF_FULL
    numbers = range(0, COUNT, COUNT // most)[:most]
    assert write(tmp_path / "a.parquet", changed(*numbers), Full(full)) == Written(COUNT, most)
    more = changed(*numbers, 1)
    assert write(tmp_path / "b.parquet", more, Full(full)) == Written(COUNT)
    write(tmp_path / "c.parquet", more)
    assert sha256_of(tmp_path / "b.parquet") == sha256_of(tmp_path / "c.parquet")


def test_where_few_records_are_wide_all_is_written(tmp_path: Path) -> None:
    """A row group that is read has no more of them than one of a full snapshot: of narrow records it could be any number."""
    full, wide = tmp_path / "full.parquet", "x" * 80_000
    fit = ROW_GROUP_BYTES // 80_100
    write(full, [record(number, "") for number in range(20_000)])

    def own(many: int, *, of: int) -> int | None:
        rows = [record(number, wide if number % of < many else "") for number in range(20_000)]
        return write(tmp_path / "notes.parquet", rows, Full(full)).own

    assert own(fit, of=20_000) == fit
    assert own(fit + 2, of=20_000) is None
    assert own(fit, of=10_000) == 2 * fit  # as many in each


def test_records_with_other_columns_are_written_in_full(full: Path, tmp_path: Path) -> None:
    for schema in (
        SCHEMA.set(1, pa.field("text", pa.binary())),
        SCHEMA.append(pa.field("new", pa.string())),
        SCHEMA.with_metadata({COLUMNS_KEY: json.dumps(["record_id", "text", "tags"])}),
        SCHEMA.set(2, pa.field("tags", pa.list_(pa.float64()))),
    ):
        none = (batch for batch in ())
        assert write_records(
            tmp_path / "a.parquet", schema, none, place="notes", scratch=tmp_path, full=Full(full)
        ) == Written(0)


def test_floating_numbers_within_lists_make_a_full_snapshot(tmp_path: Path) -> None:
    """Arrow would take 0.0 for -0.0."""
    schema = SCHEMA.set(2, pa.field("tags", pa.list_(pa.float64())))

    def written(name: str, zero: float, full: Full | None) -> Written:
        rows = [record(number) | {"tags": [zero]} for number in range(20)]
        path = tmp_path / name
        return write_records(path, schema, batches(rows, schema=schema), place="notes", scratch=tmp_path, full=full)

    assert written("full.parquet", 0.0, None) == Written(20)
    assert written("notes.parquet", -0.0, Full(tmp_path / "full.parquet")) == Written(20)
    zeros = [row["tags"][0] for row in all_records(tmp_path / "notes.parquet", rows=100)]
    assert {math.copysign(1, zero) for zero in zeros} == {-1.0}


def damage(path: Path) -> None:
    """A bit of the texts of the second row group."""
    texts = pq.read_metadata(path).row_group(1).column(1)
    written = bytearray(path.read_bytes())
    written[(texts.dictionary_page_offset or texts.data_page_offset) + texts.total_compressed_size - 1] ^= 1
    path.write_bytes(written)


@pytest.mark.parametrize("rows", [10_000, 777, 1])
def test_records_on_a_damaged_full_one_are_written_in_full(beside: Path, tmp_path: Path, rows: int) -> None:
    damage(beside)
    assert write(tmp_path / "notes.parquet", changed(7), Full(beside), rows=rows) == Written(COUNT)
    assert all_records(tmp_path / "notes.parquet", rows=5_000) == changed(7)
    with pytest.raises(LedgerDamaged, match=r"full\.parquet cannot be read .* restore it from a backup"):
        write(tmp_path / "other.parquet", changed(7), Full(beside, is_needed=True))


def test_what_stands_before_a_damaged_page_is_taken_from_the_full_one(tmp_path: Path) -> None:
    """And no further: a row group has several pages where its records are wider."""
    records = [record(number, f"{number} " * 100) for number in range(4_000)]
    full = tmp_path / "full.parquet"
    write(full, records)
    texts = pq.read_metadata(full).row_group(0).column(1)
    written = bytearray(full.read_bytes())
    begin = texts.dictionary_page_offset or texts.data_page_offset
    written[begin + texts.total_compressed_size - 1] ^= 1  # of its last page
    full.write_bytes(written)
    assert write(tmp_path / "notes.parquet", records, Full(full), rows=500) == Written(len(records))
    assert all_records(tmp_path / "notes.parquet", rows=1_000) == records


@pytest.mark.parametrize("what", ["gone", "another", "cut"])
def test_a_full_one_that_is_not_what_it_was_is_refused(beside: Path, tmp_path: Path, what: str) -> None:
    write(tmp_path / "notes.parquet", changed(7), Full(beside))
    match what:
        case "gone":
            beside.unlink()
        case "another":
            write(beside, changed(8))
        case _:
            beside.write_bytes(beside.read_bytes()[:-5])
    with pytest.raises(LedgerDamaged, match=r"full\.parquet .*; restore it from a backup"):
        Records(tmp_path / "notes.parquet")


def test_a_damaged_page_of_the_full_one_is_noticed_where_it_is_read(beside: Path, tmp_path: Path) -> None:
    write(tmp_path / "notes.parquet", changed(12_000), Full(beside))
    damage(beside)
    with Records(tmp_path / "notes.parquet") as records:
        assert sum(batch.num_rows for batch in records.batches(0)) == 10_000
        assert records.at(np.array([7, 12_000])).column("text").to_pylist() == ["text 7", "changed"]
        with pytest.raises(LedgerDamaged, match=r"full\.parquet cannot be read .*CRC"):
            records.at(np.array([12_000, 12_001]))


@pytest.mark.parametrize(("written", "flipped"), [(b"12345,", b"12305,"), (b'"steps"', b'"stepz"'), (b'"eJ', b'"fJ')])
def test_a_bit_that_flipped_in_the_footer_is_noticed(
    full: Path, tmp_path: Path, written: bytes, flipped: bytes
) -> None:
    (tmp_path / full.name).symlink_to(full)
    path = tmp_path / "notes.parquet"
    write(path, changed(12_000), Full(full))
    whole = path.read_bytes()
    assert whole.count(written) == 1
    path.write_bytes(whole.replace(written, flipped))
    with pytest.raises(LedgerDamaged, match=r"notes\.parquet cannot be read .*; restore it from a backup"):
        Records(path)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param(changed(4, 12_000), True, id="the-same"),
        pytest.param(changed(4), False, id="fewer-own"),
        pytest.param(changed(4, 12_001), False, id="another-row"),
        pytest.param([*changed(4, 12_000), record(COUNT)], False, id="one-more"),
        pytest.param([*changed(4), *changed(12_000)[COUNT:]], False, id="one-as-in-the-full-one"),
        pytest.param(
            [record(4, "else") if n == 4 else r for n, r in enumerate(changed(12_000))], False, id="another-text"
        ),
        pytest.param(changed(4, 12_000)[:-1], False, id="one-less"),
    ],
)
def test_two_are_the_same_by_their_records_and_not_by_their_bytes(
    full: Path, tmp_path: Path, other: list[Record], expected: bool
) -> None:
    (tmp_path / full.name).symlink_to(full)
    write(tmp_path / "notes.parquet", changed(4, 12_000), Full(full))
    write_differential(pa.Table.from_pylist(other, schema=SCHEMA), tmp_path / "other.parquet", full, row_group_rows=1)
    with Records(tmp_path / "notes.parquet") as mine, Records(tmp_path / "other.parquet") as its, Records(full) as base:
        assert mine.is_same(its) is its.is_same(mine) is expected
        assert not mine.is_same(base)
        assert base.is_same(base)


FEW = st.lists(st.sampled_from("abc"), max_size=14)


@settings(max_examples=200, deadline=None)
@given(before=FEW, first=FEW, second=FEW, rows=st.integers(1, 5), data=st.data())
def test_any_two_on_one_full_one_read_as_what_was_written(
    before: list[str], first: list[str], second: list[str], rows: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full.parquet")
        tables = [
            pa.Table.from_pylist([record(n, text) for n, text in enumerate(texts)], schema=SCHEMA)
            for texts in (before, first, second)
        ]
        pq.write_table(tables[0], full, row_group_size=4, write_page_checksum=True)
        paths = [full, *(Path(folder, name) for name in ("first.parquet", "second.parquet"))]
        for table, path in zip(tables[1:], paths[1:], strict=True):
            write_differential(table, path, full, row_group_rows=3)
        for table, path in zip(tables, paths, strict=True):
            assert all_records(path, rows=rows) == table.to_pylist()
            names = ["text", "record_id"]
            assert all_records(path, rows=rows, columns=names) == table.select(names).to_pylist()
            chosen = sorted(data.draw(st.sets(st.integers(0, max(0, len(table) - 1)), max_size=len(table))))
            with Records(path) as records:
                assert records.count == len(table)
                assert records.at(np.array(chosen, np.int64)).equals(table.take(pa.array(chosen, pa.int64())))
        for mine, its in ((1, 2), (0, 1), (2, 0)):
            with Records(paths[mine]) as own, Records(paths[its]) as other:
                held = {group for group in range(len(own.spans)) if own.holds(group, other)}
                shared = own.shared(other, 0, own.count)
            assert shared is not None
            texts = [(before, first, second)[number] for number in (mine, its)]
            assert not [row for row in np.flatnonzero(shared) if texts[0][row] != texts[1][row]]
            assert held == {
                group for group, span in enumerate(own.spans) if _is_shared(shared, span, other.spans, group)
            }


def _is_shared(shared: Any, span: Any, others: list[Any], group: int) -> bool:
    return group < len(others) and others[group] == span and bool(shared[span.first : span.first + span.rows].all())
