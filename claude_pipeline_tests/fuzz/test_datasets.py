"""Rows in are rows in the snapshot, to the byte; any other file is refused without a word of its text."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st

from claude_pipeline.dataset.table import folded
from claude_pipeline.errors import ClaudePipelineError, WorkloadInvalid
from claude_pipeline.workload import Workload
from claude_pipeline_tests.dataset_factory import records_in, records_of, snapshot_of
from claude_pipeline_tests.factory import attributes
from claude_pipeline_tests.fuzz.claim import claim
from claude_pipeline_tests.fuzz.value import CANARY, DEEP, JSON, MARKED, TEXTS, spoiled

ENCODINGS = ("utf-8", "utf-16", "utf-8-sig", "utf-32", "gb18030")
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
PIECES = (
    b"\x00",
    b"\xff",
    b'"',
    b"\n",
    b"\r",
    b"{",
    b",",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"NaN",
    b"1e999",
    b'"id"',
    b"PAR1",
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def csv_of(rows: list[dict[str, str]], quoting: Any = csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), quoting=quoting, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def jsonl_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


ROWS = st.lists(st.fixed_dictionaries({"id": TEXTS, "text": MARKED}), min_size=1, max_size=5)
FILES = st.lists(ROWS, min_size=1, max_size=3)


@claim(
    40,
    files=FILES,
    kind=st.sampled_from(["csv", "jsonl"]),
    encoding=st.sampled_from(ENCODINGS),
    packing=st.sampled_from(sorted(PACKED)),
    parted=st.booleans(),
)
def test_rows_of_any_files_come_back_in_order_and_to_the_byte(
    files: list[list[dict[str, str]]], kind: str, encoding: str, packing: str, parted: bool
) -> None:
    with folder() as home:
        for number, rows in enumerate(files):
            path = home / (f"day={number}" if parted else "all") / f"{number}.{kind}{packing}"
            path.parent.mkdir(exist_ok=True)
            text = csv_of(rows) if kind == "csv" else jsonl_of(rows)
            path.write_bytes(PACKED[packing](text.encode(encoding)))
        records = records_in(home, path=str(home / "*" / f"*.{kind}{packing}"), encoding=encoding)
    wanted = [(row, number) for number, rows in enumerate(files) for row in rows]
    assert [(record["id"], record["text"]) for record in records] == [(row["id"], row["text"]) for row, _ in wanted]
    if parted:
        assert [record["day"] for record in records] == [str(number) for _, number in wanted]


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)


@claim(15, ids=st.lists(IDS, min_size=1, max_size=6), text=MARKED, number=st.booleans())
def test_each_record_has_an_id_of_its_own_or_the_dataset_is_refused(ids: list[str], text: str, number: bool) -> None:
    rows = [{"id": len(name) if number else name, "text": text} for name in ids]
    named = [str(row["id"]) for row in rows]
    with folder() as home:
        path = home / "x.jsonl"
        path.write_text(jsonl_of(rows), encoding="utf-8", newline="")
        by_content = [record["record_id"] for record in records_of(snapshot_of(home, path=str(path)))]
        assert len(set(by_content)) == len(rows)
        try:
            by_column = [record["record_id"] for record in records_of(snapshot_of(home, path=str(path), id="id"))]
        except ClaudePipelineError as refused:
            assert len(set(named)) < len(named)
            assert CANARY not in str(refused)
        else:
            assert by_column == named
            assert len(set(named)) == len(named)


@st.composite
def _spoiled_files(draw: st.DrawFn) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(["csv", "jsonl"]))
    rows = draw(ROWS)
    text = csv_of(rows, draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))) if kind == "csv" else jsonl_of(rows)
    data = draw(spoiled(text.encode(), PIECES))
    packing = draw(st.sampled_from(["", "", "", ".gz", ".zst", ".bz2"]))
    if packing:
        data = PACKED[packing](data)
        data = draw(st.just(data) | spoiled(data))
    return kind + packing, data


def read_or_refused(name: str, data: bytes, **dataset: Any) -> list[dict[str, Any]] | None:
    """The records, or None where the file was refused, as it should be: by an error of ours without its text."""
    with folder() as home:
        path = home / name
        path.write_bytes(data)
        try:
            return records_in(home, path=str(path), **dataset)
        except ClaudePipelineError as refused:
            assert CANARY not in str(refused)
            assert "\n" not in str(refused)
            return None


@claim(60, file=_spoiled_files())
def test_a_spoiled_file_is_refused_or_read_as_a_second_reader_does(file: tuple[str, bytes]) -> None:
    suffix, data = file
    note(repr(data))
    records = read_or_refused(f"x.{suffix}", data)
    if records is not None and "." not in suffix:
        check_against_second_reader(suffix, data, records)


def check_against_second_reader(kind: str, data: bytes, records: list[dict[str, Any]]) -> None:
    text = data.decode("utf-8-sig")
    if kind == "csv":
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        assert [list(record.values()) for record in records] == rows[1:]
        return
    lines = [json.loads(line) for line in text.split("\n") if line.strip()]
    assert len(records) == len(lines)
    for record, line in zip(records, lines, strict=True):
        for name, value in line.items():
            assert record[name] == value or not isinstance(value, str)


@claim(
    40,
    lines=st.lists(
        st.one_of(DEEP, JSON.map(json.dumps), st.builds(lambda deep: f'{{"a":{deep}}}', DEEP), st.text(max_size=10)),
        max_size=3,
    ),
)
def test_lines_of_any_json_are_read_or_refused(lines: list[str]) -> None:
    read_or_refused("x.jsonl", "\n".join(lines).encode())


RAW = st.one_of(
    st.binary(max_size=60),
    TEXTS.map(str.encode),
    st.sampled_from([b"PAR1", b"\xef\xbb\xbf", b"\xff\xfea\x00", b"a\n" * 9]),
)


@claim(80, data=RAW, kind=st.sampled_from(["csv", "tsv", "jsonl", "ndjson", "parquet", "csv.gz", "jsonl.zst", "csv.bz2"]),
       encoding=st.sampled_from([*ENCODINGS, "latin-1", "utf-7", "idna", "punycode", "undefined", "hex", "rot13", "a\0b", "", "x" * 300, "raw_unicode_escape", "mbcs", "é"]))  # fmt: skip
def test_any_bytes_under_any_name_are_read_or_refused(data: bytes, kind: str, encoding: str) -> None:
    read_or_refused(f"x.{kind}", data, encoding=encoding)


@claim(60, path=st.one_of(TEXTS, st.sampled_from(["~nobody-7/x.csv", "a" * 300, "a\0b", "**a", "[", ".", "/nowhere/x", "a/" * 2_000, "*/" * 40])),
       delimiter=st.sampled_from([",", '"', "\n", "\0", "é", "\ud7ff", " "]), sql=st.booleans())  # fmt: skip
def test_any_path_leads_to_files_or_is_refused(path: str, delimiter: str, sql: bool) -> None:
    with folder() as home:
        (home / "x.csv").write_text("id,text\n1,a\n")
        dataset = {"sql": path} if sql else {"path": path, "delimiter": delimiter}
        try:
            workload = Workload.from_attributes(attributes(dataset=dataset), source=home / "w.yaml")
        except WorkloadInvalid:
            return
        try:
            snapshot_of(home, workload.source, **dataset)
        except ClaudePipelineError as refused:
            assert len(str(refused)) < 10_000


_KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), MARKED),
    (pa.large_string(), TEXTS),
    (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=4)),
    (pa.decimal128(20, 2), st.decimals(-1000, 1000, places=2)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(UTC))),
    (pa.timestamp("ns"), st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1))),
    (pa.list_(pa.string()), st.lists(TEXTS, max_size=3)),
    (pa.struct([("a", pa.string()), ("b", pa.timestamp("us"))]), st.fixed_dictionaries({"a": TEXTS, "b": st.datetimes()})),
    (pa.map_(pa.string(), pa.int64()), st.dictionaries(TEXTS, st.integers(-9, 9), max_size=2).map(lambda d: list(d.items()))),
]  # fmt: skip


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=4))
    names = draw(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5),
            min_size=len(kinds),
            max_size=len(kinds),
            unique_by=folded,
        )
    )
    count = draw(st.integers(1, 4))
    columns = [
        pa.array(draw(st.lists(st.none() | values, min_size=count, max_size=count)), kind) for kind, values in kinds
    ]
    return pa.Table.from_arrays(columns, names=names)


@claim(40, table=_tables(), cut=st.none() | st.floats(0, 1))
def test_a_parquet_table_comes_back_whole_or_a_cut_one_is_refused(table: pa.Table, cut: float | None) -> None:
    if any(folded(name) == "record_id" for name in table.column_names):
        return
    with folder() as home:
        path = home / "x.parquet"
        pq.write_table(table, path, write_page_checksum=True)
        if cut is not None:
            data = path.read_bytes()
            path.write_bytes(data[: int(len(data) * cut)])
        try:
            taken = snapshot_of(home, path=str(path))
        except ClaudePipelineError as refused:
            assert CANARY not in str(refused)
            assert (1.0 if cut is None else cut) < 1, refused
            return
        found = pq.read_table(taken.path)
    assert cut is None or cut >= 1
    assert found.num_rows == table.num_rows
    assert len(set(found.column("record_id").to_pylist())) == table.num_rows
    for name in table.column_names:
        assert found.column(name).cast(table.schema.field(name).type).equals(table.column(name)), name
