"""Record ids: a column as text, or a digest of the content, numbered where contents are equal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset import columns_of, record_batches
from claude_pipeline.dataset.identity import FEW_BYTES, FEW_IDS, FEW_OWN_IDS, IDS_PER_BATCH, are_new, content_ids
from claude_pipeline.errors import DatasetInvalid, DuplicateIds
from claude_pipeline_tests.dataset_factory import records_of, snapshot_of


def _jsonl(folder: Path, records: list[dict[str, Any]]) -> str:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_without_an_id_column_the_content_names_the_record(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"b": "x", "a": 1}]))
    expected = hashlib.sha256(b'["a","b"]\n[1,"x"]').hexdigest()[:32]
    assert records_of(snapshot) == [{"record_id": expected, "b": "x", "a": 1}]


def test_equal_contents_are_numbered_in_their_order(tmp_path: Path) -> None:
    texts = ["same", "other", "same", "same", "twice", "twice"]
    snapshot = snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"text": text} for text in texts]))
    ids = [record["record_id"] for record in records_of(snapshot)]
    same, other, twice = ids[0], ids[1], ids[4]
    assert ids == [same, other, f"{same}-2", f"{same}-3", twice, f"{twice}-2"]
    assert [record["text"] for record in records_of(snapshot)] == texts


def test_numbering_reaches_across_row_groups_and_batches(tmp_path: Path) -> None:
    texts = [f"text {number % 10_007}" for number in range(30_021)]
    snapshot = snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"text": text} for text in texts]))
    records = records_of(snapshot)
    assert len({record["record_id"] for record in records}) == len(texts)
    assert [record["text"] for record in records] == texts
    assert [record["record_id"][32:] for record in records[::10_007]] == ["", "-2", "-3"]


def test_an_id_does_not_depend_on_the_other_records_or_the_order_of_columns(tmp_path: Path) -> None:
    alone = snapshot_of(tmp_path / "1", path=_jsonl(tmp_path, [{"a": "x", "b": "y"}]))
    among = snapshot_of(tmp_path / "2", path=_jsonl(tmp_path, [{"b": "0", "a": "1"}, {"b": "y", "a": "x"}]))
    assert records_of(alone)[0]["record_id"] == records_of(among)[1]["record_id"]


def test_every_type_of_value_can_name_a_record(tmp_path: Path) -> None:
    table = pa.table(
        {
            "nanoseconds": pa.array([1, None], pa.timestamp("ns")),
            "zoned": pa.array([1, 2], pa.timestamp("us", "Europe/Berlin")),
            "date": pa.array([1, 2], pa.date32()),
            "time": pa.array([1, 2], pa.time64("us")),
            "duration": pa.array([1, 2], pa.duration("s")),
            "bytes": [b"\xff", None],
            "decimal": pa.array([1, 2], pa.decimal128(9, 2)),
            "nan": [float("nan"), 1.0],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "nested": [{"at": [pa.scalar(1, pa.timestamp("us")).as_py()]}, None],
        }
    )
    (ids, _), (again, _) = list(content_ids(table.to_batches(max_chunksize=1), table.schema))
    assert ids != again
    assert [len(value) for value in (ids[0].as_py(), again[0].as_py())] == [32, 32]
    assert next(content_ids(table.to_batches(), table.schema))[0].to_pylist() == [ids[0].as_py(), again[0].as_py()]


def test_an_id_column_is_taken_as_text_and_stays_in_the_record(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "n": [7, 8]}), tmp_path / "x.parquet")
    snapshot = snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="n")
    assert records_of(snapshot) == [{"record_id": "7", "text": "a", "n": 7}, {"record_id": "8", "text": "b", "n": 8}]
    assert snapshot.columns == columns_of(snapshot.path) == ("text", "n")


def test_an_id_column_named_record_id_is_both(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, [{"text": "a", "record_id": 1}])
    snapshot = snapshot_of(tmp_path, path=path, id="record_id")
    assert records_of(snapshot) == [{"record_id": "1", "text": "a"}]
    assert snapshot.columns == columns_of(snapshot.path) == ("text", "record_id")


@pytest.mark.parametrize("odd", ["a/b c", "😀" * 300, "it's", 'say "a"', "a\0b", " "])
def test_an_id_may_be_any_text(tmp_path: Path, odd: str) -> None:
    snapshot = snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"id": odd}, {"id": "plain"}]), id="id")
    assert [record["record_id"] for record in records_of(snapshot)] == [odd, "plain"]


MISSING: list[Any] = [
    pytest.param(["a", None, ""], r"2 records have no id \(first: x\.jsonl, line 2\)", id="null-and-empty"),
    pytest.param([None], r"1 record has no id \(first: x\.jsonl, line 1\)", id="one"),
    pytest.param([str(n) for n in range(12_000)] + [None], r"\(first: x\.jsonl, line 12,001\)", id="far-down"),
]


@pytest.mark.parametrize(("ids", "message"), MISSING)
def test_a_record_without_an_id_is_refused(tmp_path: Path, ids: list[str | None], message: str) -> None:
    with pytest.raises(DatasetInvalid, match=message):
        snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"id": value} for value in ids]), id="id")


def test_repeated_ids_are_refused_with_the_first_three_and_their_records(tmp_path: Path) -> None:
    ids = ["z", "a", "b", "c", "a\0'", "b", "d", "z", "b", "c", "a\0'"]
    path = _jsonl(tmp_path, [{"id": value, "text": "private words"} for value in ids])
    with pytest.raises(DuplicateIds) as caught:
        snapshot_of(tmp_path, path=path, id="id")
    assert caught.value.ids == ("z", "b", "c")
    said = str(caught.value)
    assert "'z' occurs 2 times (x.jsonl, line 1 and x.jsonl, line 8)" in said
    assert "'b' occurs 3 times (x.jsonl, line 3 and x.jsonl, line 6 and x.jsonl, line 9)" in said
    assert "private" not in str(caught.value)
    assert not list((tmp_path / "taken").iterdir())


def test_a_repeated_id_with_a_nul_is_found_in_its_records(tmp_path: Path) -> None:
    with pytest.raises(DuplicateIds, match=r"occurs 2 times \(x\.jsonl, line 1 and x\.jsonl, line 3\)"):
        snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"id": v} for v in ("a\0'", "b", "a\0'")]), id="id")


@pytest.mark.parametrize(
    ("records", "width"), [(FEW_IDS, 1), (FEW_IDS + 1, 1), (90, FEW_BYTES // 80)], ids=["few", "many", "wide"]
)
def test_of_few_many_and_wide_ids_each_may_stand_once(tmp_path: Path, records: int, width: int) -> None:
    ids = [str(n).ljust(width, "x") for n in range(records)]
    pq.write_table(pa.table({"id": ids}), tmp_path / "x.parquet")
    assert snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="id").records == records
    pq.write_table(pa.table({"id": [*ids[:-1], ids[7]]}), tmp_path / "x.parquet")
    with pytest.raises(DuplicateIds, match=rf"'7x*' occurs 2 times .*{records:,}"):
        snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="id")


MANY = [f"{number:09d}" for number in range(FEW_IDS + 25_000)]


@pytest.mark.parametrize(
    ("ids", "repeated"),
    [
        pytest.param(MANY, None, id="ascending"),
        pytest.param([*MANY[:-1], MANY[-2]], MANY[-2], id="the last twice"),
        pytest.param([MANY[0], *MANY[:-1]], MANY[0], id="the first twice"),
        pytest.param([*MANY[:IDS_PER_BATCH], *MANY[IDS_PER_BATCH - 1 :]], MANY[IDS_PER_BATCH - 1], id="across pieces"),
        pytest.param([*MANY[1:], MANY[0]], None, id="the least last"),
        pytest.param([*MANY, MANY[60_000]], MANY[60_000], id="one from before"),
        pytest.param([*MANY[:9], "", *MANY[10:]], "missing", id="none"),
        pytest.param([*MANY, "\uffff", "\U00010000"], None, id="as bytes they ascend"),
    ],
)
def test_many_ids_may_stand_once_in_any_order(tmp_path: Path, ids: list[str], repeated: str | None) -> None:
    pq.write_table(pa.table({"id": ids}), tmp_path / "x.parquet")
    if repeated is None:
        assert snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="id").records == len(ids)
        return
    wanted = "1 record has no id" if repeated == "missing" else f"'{repeated}' occurs 2 times"
    with pytest.raises(DatasetInvalid, match=wanted):
        snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="id")


def own_file(folder: Path, ids: list[str]) -> Path:
    path = folder / "own.parquet"
    pq.write_table(pa.table({"record_id": pa.array(ids, pa.string())}), path, use_dictionary=False)
    return path


@pytest.mark.parametrize(
    ("own", "every", "are"),
    [
        pytest.param(["x", "y"], [["a", "x"], ["y", "b"]], True, id="each once"),
        pytest.param(["x", "x"], [["a", "x"], ["x", "b"]], False, id="one twice among themselves"),
        pytest.param(["x", "y"], [["x", "x"], ["y", "b"]], False, id="one beside another record's"),
        pytest.param([], [["a"], []], True, id="none"),
    ],
)
def test_own_ids_are_new_where_each_stands_once_among_all(
    tmp_path: Path, own: list[str], every: list[list[str]], are: bool
) -> None:
    assert are_new(own_file(tmp_path, own), lambda: [pa.array(ids, pa.string()) for ids in every]) is are


@pytest.mark.parametrize("own", [MANY[: FEW_OWN_IDS + 1], ["x" * (FEW_BYTES + 1)]], ids=["many", "wide"])
def test_many_own_ids_are_left_to_the_database_and_not_read(tmp_path: Path, own: list[str]) -> None:
    path = own_file(tmp_path, own)
    with pq.ParquetFile(path) as file:
        footer = file.metadata
    path.write_bytes(bytes(footer.row_group(0).total_byte_size) + path.read_bytes()[-footer.serialized_size - 8 :])

    def unread() -> list[pa.Array]:
        raise AssertionError

    assert not are_new(path, unread)


def test_ids_of_a_type_that_names_nothing_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [[1], [2]]}), tmp_path / "x.parquet")
    with pytest.raises(DatasetInvalid, match=r"id: column 'n' is list<.*name a column of text or numbers"):
        snapshot_of(tmp_path, path=f"{tmp_path}/x.parquet", id="n")


def test_an_unknown_id_column_is_answered_with_the_nearest_first(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"there is no column 'ticket'; there are: ticket_id, text, body"):
        snapshot_of(tmp_path, path=_jsonl(tmp_path, [{"body": 1, "text": 1, "ticket_id": 1}]), id="ticket")


def test_batches_hold_at_most_the_rows_asked_for_and_only_the_columns(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, [{"id": number, "text": "x"} for number in range(23_000)])
    snapshot = snapshot_of(tmp_path, path=path, id="id")
    batches = list(record_batches(snapshot.path, columns=["text", "record_id"], rows=4_000))
    assert max(len(batch) for batch in batches) <= 4_000
    assert sum(len(batch) for batch in batches) == snapshot.records == 23_000
    assert batches[0].schema.names == ["text", "record_id"]
