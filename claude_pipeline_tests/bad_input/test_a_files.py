"""Dataset files that are not what they should be: cases A01 to A38 of the catalogue of bad inputs, and some more."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pyarrow as pa
import pytest

from claude_pipeline_tests.bad_input import test_a_places
from claude_pipeline_tests.bad_input.ground import CANARY, Ground, Reason, Refusal, good_rows, ids_of, parquet, row

T = CANARY
B = CANARY.encode()


def text(data: pa.Array) -> bytes:
    return parquet(id=["a", "b"], text=data)


def not_utf8(*values: bytes) -> pa.Array:
    """Bytes that claim to be text."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


def flipped(data: bytes) -> bytes:
    """One bit of the middle is another one."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def checked_pages() -> bytes:
    values = [f"{T} {number}" for number in range(2_000)]
    return parquet(write_page_checksum=True, use_dictionary=False, id=list(map(str, range(2_000))), text=values)


def refused(case: str, name: str, content: str | bytes, where: str, what: str, way: str, **dataset: Any) -> Any:
    """One file, and what is said of it."""
    return pytest.param({name: content}, {"path": name, **dataset}, Refusal(where, what, way), id=case)


def folder_refused(case: str, files: dict[str, str | bytes], where: str, what: str, way: str, **dataset: Any) -> Any:
    return pytest.param(files, {"path": "d", **dataset}, Refusal(where, what, way), id=case)


GOOD = f"id,text\na,{T}\n"
LINE = json.dumps(row("a")) + "\n"
REFUSED = [
    refused("A01", "x.csv", b"", r"^x\.csv: ", r"is empty \(0 bytes\)", "write at least a header, or set allow_empty"),
    refused("A01-jsonl", "x.jsonl", b"", r"^x\.jsonl: ", "holds no records", "set allow_empty: true"),
    refused("A01-blank-lines", "x.csv", b"\n\r\n", r"^x\.csv: ", "holds only blank lines", "write at least a header"),
    refused("A02", "x.csv", "id,text\n", r"^x\.csv: ", "holds no records", "set allow_empty: true if that is meant"),
    pytest.param({}, {"path": "data/*.parquet"}, Refusal(r"notes\.yaml: path: ", r"no file matches data/\*\.parquet "
                 r"\(looked in /", r"correct dataset\.path"), id="A03-glob"),
    pytest.param({}, {"path": "x.csv"}, Refusal(r"notes\.yaml: path: ", r"no file matches x\.csv \(looked in /",
                 r"correct dataset\.path"), id="A03-file"),
    folder_refused("A04-empty", {"d/.hidden.csv": GOOD}, "path: the folder /.*/d ", "holds no file to read", "no file"),
    folder_refused("A04-other-files", {"d/notes.txt": T, "d/x.xlsx": b"PK"}, "^d: ", r"has no \.csv, \.tsv, \.jsonl",
                   "name the files so, or set format:"),
    refused("A05", "x.csv", b"%PDF-1.7\n\x00\xff" + B, r"^x\.csv: ", "is a PDF", "export its text as CSV or JSONL"),
    refused("A05-binary", "x.csv", b"\x89PNG\r\n\x1a\n\x00\x00" + B, r"^x\.csv", r"not look like text \(byte 0x00 at offset 8\)",
            "is its format named right"),
    refused("A05-zip", "x.csv", b"PK\x03\x04" + B, r"^x\.csv: ", r"is a zip archive \(a spreadsheet\?\)", "export it as CSV"),
    refused("A06", "x.csv", gzip.compress(GOOD.encode()), r"^x\.csv: ", "is gzip data", r"name it \.gz or set compression"),
    refused("A07", "x.csv", b"id,text\na,caf\xe9 " + B, r"^x\.csv, line 2: ", r"not valid UTF-8 \(byte 0xE9\)",
            "set encoding: to what it is, as in latin-1"),
    refused("A08", "x.csv", GOOD.encode("utf-16"), r"^x\.csv: ", "is UTF-16", "set encoding: utf-16, or convert it"),
    refused("A08-unmarked", "x.csv", GOOD.encode("utf-16-le"), r"^x\.csv: ", "looks like UTF-16 without its mark",
            "set encoding: utf-16-le"),
    refused("A10", "x.csv", f"id,text,text\na,{T},b\n", r"^x\.csv: ", r"column 'text' occurs 2 times \(positions 2, 3\)",
            "rename one"),
    refused("A11", "x.csv", f"id,text\na,{T}\nb,one,two\n", r"^x\.csv, line 3: ", "3 fields, the header has 2",
            "quote fields that hold ',', or mend the line"),
    refused("A12", "x.csv", f"id,text\n{T}\n", r"^x\.csv, line 2: ", "1 field, the header has 2", "mend the line"),
    refused("A13", "x.csv", f'id,text\na,"{T}\nb,x\nc,y\n', r"^x\.csv, line 2: ", "a quoted field starts here and is not closed",
            "close it, or double a lone"),
    refused("A14", "x.csv", f"id,text\r\na,one\r{T}\r\n", r"^x\.csv, line 2: ", "a bare carriage return stands in an unquoted field",
            "quote the field"),
    refused("A15", "x.csv", f"id;text\na;{T}\n", r"^x\.csv: ", "its header is one column", 'set delimiter: ";"'),
    refused("A20", "x.jsonl", LINE + f'{{"id": "b", "text": "{T}', r"^x\.jsonl, line 2: ", "the JSON ends too early",
            "the file seems cut"),
    refused("A25", "x.jsonl", f'{{"id": "a", "id": "b", "text": "{T}"}}\n', r"^x\.jsonl, line 1: ",
            "key 'id' is given twice", "keep one"),
    refused("A26", "x.jsonl", json.dumps(good_rows(2)), r"^x\.jsonl, line 1: ", "begins with a JSON array",
            "write one object a line instead"),
    refused("A27", "x.jsonl", "1\n2\n", r"^x\.jsonl, line 1: ", "a number, where an object is wanted", "one {…} a line"),
    refused("A29", "x.parquet", parquet(id=["a"], text=[T])[:-20], r"^x\.parquet: ", r"is not complete \(no footer\)", "copy it again"),
    refused("A29-empty", "x.parquet", b"", r"^x\.parquet: ", r"is empty \(0 bytes\)", "copy it again"),
    refused("A30", "x.parquet", flipped(checked_pages()), r"^x\.parquet: ", "is damaged: a page cannot be read", "copy it again"),
    folder_refused("A32-columns", {"d/1.parquet": parquet(id=["a"], text=[T]), "d/2.parquet": parquet(id=["b"], body=[T])},
                   r"^d/2\.parquet: ", "column 'text' is missing; column 'body' is in no file before it",
                   "rename them, or narrow path:"),
    folder_refused("A32-types", {"d/1.parquet": parquet(id=["a"], text=[T]), "d/2.parquet": parquet(id=[1], text=[T])},
                   r"^d/2\.parquet: ", "column 'id' is int64, but string before", "write all files with one type"),
    folder_refused("A32-csv", {"d/1.csv": GOOD, "d/2.csv": f"id,body\nb,{T}\n"}, r"^d/2\.csv: ", "column 'text' is missing",
                   "rename them, or narrow path:"),
    refused("A33-list", "x.parquet", text(pa.array([[T], [T]])), r"x\.parquet, record 1: column text", "is a list; .*wrong_type|wrong_type 2.*is a list",
            r"write \{\{ text \| join\(', '\) \}\}"),
    refused("A33-struct", "x.parquet", text(pa.array([{"k": T}, {"k": T}])), r"x\.parquet, record 1: column text", "is an object",
            r"write \{\{ text.field \}\} or \{\{ text \| tojson \}\}"),
    refused("A33-binary", "x.parquet", text(pa.array([B, B])), r"x\.parquet, record 1: column text", "holds bytes",
            r"decode it in dataset\.sql"),
    refused("A37", "x.csv", GOOD.encode() + b"b," + B + b"x" * 70_000_000, r"^x\.csv, line 3: ", "longer than 64,000,000 bytes",
            "shorten or split the record, or take it out"),
    refused("A37-jsonl", "x.jsonl", LINE.encode() + b'{"text":"' + B + b"x" * 70_000_000 + b'"}', r"^x\.jsonl, line 2: ",
            "longer than 64,000,000 bytes", "shorten or split the record, or take it out"),
    # What the catalogue does not name.
    refused("A39-header-cut", "x.csv", 'id,"text\n', r"^x\.csv, line 1: ", "a quoted column name is not closed", "header"),
    refused("A39-nameless", "x.csv", f"id,text,\na,{T},\n", r"^x\.csv: ", "column 3 has no name", "name it"),
    refused("A39-case", "x.csv", f"id,text,Text\na,{T},b\n", r"^x\.csv: ", "'text' and 'Text' differ only in case", "rename one"),
    refused("A39-unseen", "x.csv", f"id,te\u200bxt\na,{T}\n", r"prompt: asks for \{\{ text \}\}", r"te\\u200bxt", "have only"),
    refused("A39-lines", "x.csv", f'id,"te\nxt\x1b[31m"\na,{T}\n', r"prompt: asks for \{\{ text \}\}", r"te\\nxt\\x1b\[31m", "have only"),
    refused("A40-cut-gzip", "x.csv.gz", gzip.compress(GOOD.encode() * 99)[:-9], r"^x\.csv\.gz: ", "cannot be unpacked", "or is cut"),
    refused("A41-json", "x.json", json.dumps(good_rows(2)), r"^x\.json: ", "can mean two things", "set format: jsonl"),
    pytest.param({"\udcff.jsonl": LINE}, {"path": "*.jsonl"}, Refusal(r"^\\udcff\.jsonl: ", "its name is no UTF-8", "rename it"),
                 id="A48-name"),
    folder_refused("A42-mixed", {"d/1.csv": GOOD, "d/2.jsonl": LINE}, r"^d/2\.jsonl: ", r"is jsonl, but d/1\.csv is csv", "narrow path:"),
    refused("A43-encoding", "x.csv", GOOD, r"^x\.csv: ", "encoding: 'latin-99' is unknown", "write it as in latin-1", encoding="latin-99"),
    refused("A43-wrong-encoding", "x.csv", b"id,text\na,\x81" + B, r"^x\.csv, line 2: ", r"not valid cp1252 \(byte 0x81\)", "set encoding:",
            encoding="cp1252"),
    refused("A44-key", "x.jsonl", f'{{"id": "a", "\\ud800": "{T}"}}\n', r"^x\.jsonl, line 1: ", "a key holds half a character", "mend it"),
    pytest.param({}, {"path": "s3://bucket/x.parquet"}, Refusal(r"notes\.yaml: path: s3://bucket/x\.parquet ", "is an address",
                 "copy them here"), id="A51-address"),
    pytest.param({}, {"path": ""}, Refusal(r"notes\.yaml: dataset\.path: ", "at least 1 character", "got ''"), id="A51-no-path"),
    refused("A45-no-such-id", "x.csv", f"ID,text\na,{T}\n", r"^x\.csv: ", "id: there is no column 'id'", "there are: ID, text"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "dataset", "refusal"), REFUSED)
def test_a_broken_file_is_refused_before_anything_is_paid(
    ground: Ground, files: dict[str, str | bytes], dataset: dict[str, Any], refusal: Refusal
) -> None:
    for name, content in files.items():
        ground.put(name, content)
    ground.refused(ground.run(ground.workload(dataset={"id": "id", **dataset})), refusal)


# One file of many oddities each: what is taken as it is, and what costs its own record alone.
ODD_FILES = {
    "odd.csv": f"\ufeffid,text\n007,{T}\n7,{T} b\n9007199254740993,x\n18446744073709551616,y\na,NA\nb,null\nc,None\nd,NaN\n"
    f'e,"{T}, ""x""\nand more"\nnul,{T}\0b\n',
    "odd.jsonl": f'{{"id": 9007199254740993, "text": "{T}"}}\n\n \n{{"id": 18446744073709551616, "text": "b"}}\n'
    f'{{"id": "2", "text": {{"k": [1, "x"]}}}}\n{{"id": "half", "text": "\\ud800{T}"}}\n{{"id": "nan", "text": NaN}}\n'
    '{"id": "without"}\n',
    "odd.parquet": parquet(id=["fine", "bytes"], text=not_utf8(B, b"ok\xff\xfe" + B)),
}
ODD_ROWS = [
    pytest.param("odd_csv", {"007": T, "7": f"{T} b"}, id="A16"),
    pytest.param("odd_csv", {"9007199254740993": "x", "18446744073709551616": "y"}, id="A17"),
    pytest.param("odd_jsonl", {"9007199254740993": T, "18446744073709551616": "b"}, id="A17-jsonl"),
    pytest.param("odd_csv", {"a": "NA", "b": "null", "c": "None", "d": "NaN"}, id="A18"),
    pytest.param("odd_csv", {"nul": Reason("control_char", "column text holds a NUL character", r"^odd\.csv, record 10: ")}, id="A19"),
    pytest.param("odd_jsonl", {"half": Reason("bad_unicode", "column text holds half a character", r"^odd\.jsonl, line 6: ")}, id="A21"),
    # Better than the catalogue's quarantine: what mixes kinds is text over the whole file, so nothing is guessed or lost.
    pytest.param("odd_jsonl", {"2": '{"k":[1,"x"]}', "9007199254740993": T}, id="A22"),
    pytest.param("odd_jsonl", {"half": Reason("bad_unicode", "column text holds half a character", r"^odd\.jsonl, line 6: ")}, id="A23"),
    pytest.param("odd_jsonl", {"nan": Reason("not_text", "column text holds NaN or Infinity, which are not JSON; write null",
                 r"^odd\.jsonl, line 7: ")}, id="A24"),
    pytest.param("odd_jsonl", {"without": Reason("missing_text", "column text is null", r"^odd\.jsonl, line 8: ")}, id="A28"),
    pytest.param("odd_parquet", {"bytes": Reason("bad_unicode", r"column text is not UTF-8 \(byte 0xFF at 3\)", r"^odd\.parquet, record 2: "),
                 "fine": T}, id="A31"),
    pytest.param("odd_csv", {"e": f'{T}, "x"\nand more'}, id="A49-quotes"),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(standing: Ground) -> Ground:
    """All three were run: what can be asked was delivered."""
    for name, content in ODD_FILES.items():
        standing.put(name, content)
    for kind, delivered, bad in (("csv", 9, 1), ("jsonl", 3, 3), ("parquet", 1, 1)):
        dataset = {"path": f"odd.{kind}", "id": "id"}
        said = standing.run(
            standing.workload(
                f"{kind}.yaml",
                name=f"odd_{kind}",
                dataset=dataset,
                prompt=f"Sort {kind}: {{{{ text }}}}",  # else the same question is asked, and paid, by two workloads
                max_reject_ratio=0.5,
            )
        )
        assert said.code == 1, said.err
        standing.quiet(said)
        standing.all_there(f"odd_{kind}", delivered=delivered, rejected=bad)
    standing.unchanged()
    return standing


@pytest.mark.parametrize(("workload", "records"), ODD_ROWS)
def test_an_odd_value_is_taken_as_it_is_or_costs_its_record_alone(
    odd: Ground, workload: str, records: dict[str, str | Reason]
) -> None:
    for record_id, expected in records.items():
        outcome, text, code, sentence = odd.outcome_of(record_id, workload)
        if isinstance(expected, Reason):
            assert (outcome, code) == ("rejected", expected.code)
            expected.check(sentence or "")
        else:
            assert (outcome, text, sentence) == ("succeeded", expected, None)


def test_the_mark_at_the_head_of_a_file_is_no_part_of_a_name(odd: Ground) -> None:
    columns = "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'odd_csv' AND table_name = 'latest'"
    assert {("id",), ("text",)} <= set(odd.ask(columns))


def test_a_date_is_asked_as_people_write_it(ground: Ground) -> None:
    ground.put("x.parquet", text(pa.array([0, 1], pa.date32())))
    ground.accepted(ground.run(ground.workload(dataset={"path": "x.parquet", "id": "id"})), delivered=2)
    assert sorted(text for text, _ in ground.sent()) == ["Sort: 1970-01-01", "Sort: 1970-01-02"]


def test_a_dataset_that_may_be_empty_costs_nothing(ground: Ground) -> None:
    ground.put("x.csv", "id,text\n")
    said = ground.run(ground.workload(dataset={"path": "x.csv", "id": "id", "allow_empty": True}))
    assert said.code == 0, said.err
    ground.nothing_paid(said)
    ground.quiet(said)
    ground.unchanged()


def test_a_snapshot_of_ours_that_changed_on_disk_is_refused(ground: Ground) -> None:
    """The file that answers rest on has its sha256 in the ledger; a user's own Parquet file has none to be held against."""
    ground.rows("notes.jsonl", good_rows(2))
    file = ground.workload()
    assert ground.run(file).code == 0
    (snapshot,) = ground.home.root.glob("snapshots/notes/*.parquet")
    snapshot.write_bytes(flipped(snapshot.read_bytes()))
    before = ground.billed()
    said = ground.run(file)
    assert (said.code, ground.billed()) == (1, before)
    assert "is not what was loaded (sha256 differs); restore it from a backup" in ground.well_said(said)


QUERIES = [
    pytest.param("SELECT id, strptime(text, '%Y') AS text FROM 'notes.jsonl'", "failed on a row of the query \\(InvalidInput", "DuckDB shell",
                 id="A50-parse"),
    pytest.param("SELECT id, error(text) AS text FROM 'notes.jsonl'", "failed on a row of the query", "DuckDB shell", id="A50-error"),
    pytest.param("SELECT id, json_extract(text, '$.a') AS text FROM 'notes.jsonl'", "failed on a row", "try_cast", id="A50-json"),
    pytest.param("SELECT id, text::DATE AS text FROM 'notes.jsonl'", "failed on a row", "try_cast", id="A50-cast"),
    pytest.param("SELECT id, tekst AS text FROM 'notes.jsonl'", "refuses the query: .*tekst", "", id="A50-column"),
    pytest.param("COPY (SELECT 1) TO 'x.csv'", "must be one query that gives rows", "a SELECT", id="A50-statement"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "what", "way"), QUERIES)
def test_a_query_that_fails_tells_no_text_of_a_row(ground: Ground, sql: str, what: str, way: str) -> None:
    """DuckDB's own sentence quotes the value that it could not read."""
    ground.rows("notes.jsonl", good_rows(2))
    said = ground.run(ground.workload(dataset={"sql": sql, "id": "id"}))
    ground.refused(said, Refusal(r"notes\.yaml: sql: ", what, way))


# Cases whose test is a function of its own.
ALONE = {
    "A02": test_a_dataset_that_may_be_empty_costs_nothing,
    "A09": test_the_mark_at_the_head_of_a_file_is_no_part_of_a_name,
    "A30": test_a_snapshot_of_ours_that_changed_on_disk_is_refused,
    "A34": test_a_places.test_a_file_that_changes_while_it_is_read_is_refused,
}


def test_every_case_of_the_section_is_here() -> None:
    lists = (REFUSED, ODD_ROWS, test_a_places.UNREADABLE, test_a_places.NO_FILES, test_a_places.NAMES)
    assert ids_of(*lists) | set(ALONE) >= {f"A{number:02d}" for number in range(1, 39)}
