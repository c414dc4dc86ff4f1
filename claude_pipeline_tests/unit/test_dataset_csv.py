"""CSV: what is read is what stands in the file, as text; what is wrong is named by line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from claude_pipeline.dataset.csv_table import Layout, scan
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline_tests.dataset_factory import records_in, snapshot_of

SECRET = "private words"  # in the wrong line of each bad file; no message may hold it
CLOSED_SECONDS = 5.0

READ: list[Any] = [
    pytest.param("x.csv", b"id,text\n007,a\n7,b\n", {}, [("007", "a"), ("7", "b")], id="ids-keep-their-zeros"),
    pytest.param(
        "x.csv", b"id,text\n1,NA\n2,null\n3,None\n", {}, [("1", "NA"), ("2", "null"), ("3", "None")], id="na-is-text"
    ),
    pytest.param("x.csv", b'id,text\n1,\n2,""\n', {}, [("1", ""), ("2", "")], id="empty-cell-is-empty-text"),
    pytest.param(
        "x.csv", b"id,text\n9007199254740993,1e5\n", {}, [("9007199254740993", "1e5")], id="numbers-stay-text"
    ),
    pytest.param("x.csv", b"\xef\xbb\xbfid,text\n1,a\n", {}, [("1", "a")], id="byte-order-mark"),
    pytest.param("x.csv", b'id,text\r\n1,"a\r\nb"\r\n', {}, [("1", "a\r\nb")], id="crlf-and-quoted-line-end"),
    pytest.param("x.csv", b"id,text\n1,a\r\n2,b\n3,c", {}, [("1", "a"), ("2", "b"), ("3", "c")], id="mixed-line-ends"),
    pytest.param("x.csv", b'id,text\r1,a\r2,"b\rc"\r', {}, [("1", "a"), ("2", "b\rc")], id="old-macintosh"),
    pytest.param("x.csv", b'id,text\n1,"say ""hi"", ok"\n', {}, [("1", 'say "hi", ok')], id="doubled-quotes"),
    pytest.param(
        "x.csv", b'id,text\n1,5" pipe\n2,6" pipe\n', {}, [("1", '5" pipe'), ("2", '6" pipe')], id="quote-unquoted"
    ),
    pytest.param("x.csv", b'id,text\n1,5" pipe\n', {}, [("1", '5" pipe')], id="odd-quote-unquoted"),
    pytest.param("x.csv", b"\n\nid,text\n\n1,a\n\n\n2,b\n\n", {}, [("1", "a"), ("2", "b")], id="blank-lines-skipped"),
    pytest.param("x.csv", "id,text\n1,héé 😀 \u2028 עב\n".encode(), {}, [("1", "héé 😀 \u2028 עב")], id="scripts"),
    pytest.param("x.csv", b"id,text\n1,a\0b\n", {}, [("1", "a\0b")], id="nul-kept"),
    pytest.param("x.csv", b"id;text\n1;a,b\n", {"delimiter": ";"}, [("1", "a,b")], id="delimiter"),
    pytest.param("x.csv", "id§text\n1§a\n".encode(), {"delimiter": "§"}, [("1", "a")], id="delimiter-not-ascii"),
    pytest.param("x.tsv", b"id\ttext\n1\ta,b\n", {}, [("1", "a,b")], id="tsv"),
    pytest.param("x.TSV", b"id,text\n1,a\n", {"delimiter": ","}, [("1", "a")], id="tsv-with-its-own-delimiter"),
    pytest.param("x.txt", b"id,text\n1,a\n", {"format": "csv"}, [("1", "a")], id="format-given"),
    pytest.param(
        "x.csv", "id,text\n1,café\n".encode("latin-1"), {"encoding": "latin-1"}, [("1", "café")], id="latin-1"
    ),
    pytest.param("x.csv", "id,text\n1,café\n".encode("utf-16"), {"encoding": "utf-16"}, [("1", "café")], id="utf-16"),
    pytest.param("x.csv.gz", gzip.compress(b"id,text\n1,a\n"), {}, [("1", "a")], id="gzip"),
    pytest.param("x.csv.bz2", bz2.compress(b"id,text\n1,a\n"), {}, [("1", "a")], id="bzip2"),
    pytest.param("x.csv.zst", pa.compress(b"id,text\n1,a\n", "zstd", asbytes=True), {}, [("1", "a")], id="zstd"),
    pytest.param(
        "x.csv", gzip.compress(b"id,text\n1,a\n"), {"compression": "gzip"}, [("1", "a")], id="compression-given"
    ),
    pytest.param(
        "x.csv.gz",
        gzip.compress(b"id,text\n1,a\n") + gzip.compress(b"2,b\n"),
        {},
        [("1", "a"), ("2", "b")],
        id="two-gzips",
    ),
    pytest.param(
        "x.csv",
        b"id,text\n1,a\n2," + b"long " * 600_000 + b"\n3,c\n",
        {},
        [("1", "a"), ("2", "long " * 600_000), ("3", "c")],
        id="record-longer-than-a-block",
    ),
]


@pytest.mark.parametrize(("name", "data", "dataset", "expected"), READ)
def test_what_is_read_is_what_stands_in_the_file(
    tmp_path: Path, name: str, data: bytes, dataset: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    (tmp_path / name).write_bytes(data)
    records = records_in(tmp_path, path=str(tmp_path / name), **dataset)
    assert records == [{"id": record_id, "text": text} for record_id, text in expected]


def test_one_column_of_empty_cells_keeps_its_records(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'text\n""\na\n\n""\n')
    assert records_in(tmp_path, path=str(tmp_path / "x.csv")) == [{"text": ""}, {"text": "a"}, {"text": ""}]


def test_a_header_may_hold_line_ends_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'"the\nid","a ""b"" c"\n1,2\n')
    assert records_in(tmp_path, path=str(tmp_path / "x.csv")) == [{"the\nid": "1", 'a "b" c': "2"}]


def test_quoted_semicolons_in_a_single_name_are_a_name(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'"what; or who"\na\n')
    assert records_in(tmp_path, path=str(tmp_path / "x.csv")) == [{"what; or who": "a"}]


def _bad(name: str, data: bytes, message: str, case: str, **dataset: Any) -> Any:
    return pytest.param(name, data, dataset, message, id=case)


S = SECRET.encode()
REFUSED: list[Any] = [
    _bad("x.csv", b"", r"x\.csv: is empty \(0 bytes\)", "empty-file"),
    _bad("x.csv", b"\n\n", r"x\.csv: holds only blank lines", "blank-lines-only"),
    _bad("x.csv", b"id,text\n", r"x\.csv: holds no records; set allow_empty", "header-only"),
    _bad("x.csv", b"id,text,text\n1,2,3\n", r"column 'text' occurs 2 times \(positions 2, 3\)", "duplicate-name"),
    _bad("x.csv", b"id,Text,text\n1,2,3\n", r"'Text' and 'text' differ only in case", "names-differ-in-case"),
    _bad("x.csv", b"id,,text\n1,2,3\n", r"column 2 has no name", "no-name"),
    _bad("x.csv", b"record_id,text\n1,2\n", r"'record_id' has the name.*rename it", "reserved-name"),
    _bad(
        "x.csv",
        b"Record_ID,text\n1,2\n",
        r"'Record_ID' has the name.*rename it",
        "reserved-name-in-case",
        id="Record_ID",
    ),
    _bad("x.csv", b"id;text\n1;2\n", r"header is one column; set delimiter: \";\"", "semicolons"),
    _bad("x.csv", b"id\ttext\n1\t2\n", r"header is one column; set delimiter: \"\\t\"", "tabs"),
    _bad("x.csv", b"id,text\n1,a\n2,b," + S, r"x\.csv, line 3: 3 fields, the header has 2", "too-many-fields"),
    _bad("x.csv", b"id,text\n" + S + b"\n2,b\n", r"x\.csv, line 2: 1 field, the header has 2", "too-few-fields"),
    _bad(
        "x.csv", b'id,text\n1,"' + S + b"\n2,b\n", r"line 2: a quoted field starts here and is not closed", "unclosed"
    ),
    _bad(
        "x.csv",
        b'id,text\n1,"' + S + b'\n2,"b"\n',
        r"line 2: after the closing quote.*1 lines? further",
        "unclosed-even",
    ),
    _bad(
        "x.csv",
        b'id,text\n1,"a \\"' + S + b'\\" b"\n',
        r"line 2: after the closing quote.*double each",
        "backslash-quote",
    ),
    _bad("x.csv", b"id,text\r\n1," + S + b"\rb\r\n", r"line 2: a bare carriage return", "bare-return"),
    _bad("x.csv", b'"id,text\n1,2\n', r"x\.csv, line 1: a quoted column name is not closed", "unclosed-header"),
    _bad("x.csv", b"id,text\n1,a\n2,caf\xe9\n", r"line 3: not valid UTF-8 \(byte 0xE9\); set encoding:", "latin-1"),
    _bad("x.csv", b"id,caf\xe9\n1,a\n", r"line 1: not valid UTF-8 \(byte 0xE9\)", "latin-1-header"),
    _bad("x.csv", "id,text\n1,a\n".encode("utf-16"), r"is UTF-16; set encoding: utf-16", "utf-16"),
    _bad("x.csv", "id,text\n1,a long text\n".encode("utf-16-le"), r"looks like UTF-16.*utf-16-le", "utf-16-no-mark"),
    _bad("x.csv", gzip.compress(b"id,text\n1,a\n"), r"is gzip data; name it \.gz or set compression: gzip", "gzip"),
    _bad("x.csv", b"%PDF-1.7\n\0\xff\xfe", r"is a PDF", "pdf"),
    _bad("x.csv", b"PK\x03\x04rest", r"is a zip archive", "spreadsheet"),
    _bad("x.csv", b"PAR1rest", r"is a Parquet file; name it \.parquet", "parquet-named-csv"),
    _bad("x.csv", b"\x01\x02,\0\n\xff,\xfe\n", r"does not look like text \(byte 0x00 at offset 3\)", "binary"),
    _bad("x.csv.gz", b"id,text\n1,a\n", r"cannot be unpacked: it is not gzip data, or is cut", "not-gzip"),
    _bad(
        "x.csv.gz", gzip.compress(S * 99_999)[:-40], r"cannot be unpacked: it is not gzip data, or is cut", "cut-gzip"
    ),
    _bad("x.csv", b"id,text\n1,a\n", r"encoding: 'klingon' is unknown", "unknown-encoding", encoding="klingon"),
    _bad("x.csv", b"id,text\n1,a\n", r"encoding: 'base64' is unknown", "no-text-encoding", encoding="base64"),
    _bad("x.csv", b"id,text\n1,a\n", r"encoding: 'idna' is unknown", "an-encoding-of-names", encoding="idna"),
    _bad("x.csv", b"id,text\n1,\x81\n", r"line 2: not valid cp1252 \(byte 0x81\)", "wrong-encoding", encoding="cp1252"),
    _bad("x.csv", b"id,text\n1,a\n", r"delimiter: '\"' cannot separate", "quote-as-delimiter", delimiter='"'),
    _bad(
        "x.csv",
        b"tid,text\n1,a\n",
        r"id: there is no column 'ticket_id'; there are: tid, text",
        "no-id-column",
        id="ticket_id",
    ),
]


@pytest.mark.parametrize(("name", "data", "dataset", "message"), REFUSED)
def test_what_is_wrong_is_named_and_never_quoted(
    tmp_path: Path, name: str, data: bytes, dataset: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetInvalid, match=message) as caught:
        snapshot_of(tmp_path, path=str(tmp_path / name), **dataset)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not list((tmp_path / "taken").glob("*"))
    assert not list((tmp_path / "scratch").iterdir())
    # Also while the error, and with it its frames, is held. Arrow reads ahead in a thread, which lets go a moment later.
    until = time.monotonic() + CLOSED_SECONDS
    while (is_open := (tmp_path / name).resolve() in _open_files()) and time.monotonic() < until:
        time.sleep(0.001)  # a thread of Arrow's has no clock to move
    assert not is_open


def _open_files() -> set[Path]:
    folder = Path("/proc/self/fd")
    return {Path(os.path.realpath(link)) for link in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("data", [b"", b"id,text\n"], ids=["no-bytes", "header-only"])
def test_an_empty_file_passes_where_it_may_be_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    snapshot = snapshot_of(tmp_path, path=str(tmp_path / "x.csv"), allow_empty=True, id="id")
    assert (snapshot.records, snapshot.columns) == (0, ("id", "text") if data else ())


def test_an_error_far_into_a_large_file_names_its_line(tmp_path: Path) -> None:
    lines = [f"{number},some text that fills blocks\n" for number in range(100_000)]
    lines[77_000] = "77000,one,too many\n"
    (tmp_path / "x.csv").write_text("id,text\n" + "".join(lines))
    with pytest.raises(DatasetInvalid, match="line 77002: 3 fields"):
        snapshot_of(tmp_path, path=str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"a,b\n1,2\n", Layout(True, False, True), id="no-quotes"),
        pytest.param(b'"a","b ""c"" d"\n"",""\n', Layout(True, False, True), id="all-quoted"),
        pytest.param(b'"a\rb\r"\n', Layout(True, False, True), id="returns-in-quotes"),
        pytest.param(b'"a\nb"\r', Layout(True, True, False), id="feeds-in-quotes"),
        pytest.param(b"a\rb\n", Layout(True, True, True), id="return-outside"),
        pytest.param(b'a"b\n', Layout(False, False, False), id="odd"),
        pytest.param(b'a"b"c\n', Layout(False, False, True), id="even-inside"),
        pytest.param(b'"a"b\n', Layout(False, False, True), id="text-after-closing"),
        pytest.param(codecs.BOM_UTF8 + b'"a"', Layout(True, False, False), id="mark-then-quote"),
        pytest.param(b'"', Layout(False, False, False), id="only-a-quote"),
        pytest.param(b"", Layout(True, False, False), id="nothing"),
        pytest.param(b"x" * (1 << 20) + b',"y"\n', Layout(True, False, True), id="quote-at-a-window-edge"),
        pytest.param(b"x" * ((1 << 20) - 1) + b',"y"\n', Layout(True, False, True), id="delimiter-at-a-window-edge"),
    ],
)
def test_the_scan_sees_whether_quotes_stand_where_csv_has_them(tmp_path: Path, data: bytes, expected: Layout) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    assert scan(tmp_path / "x.csv", ",") == expected
