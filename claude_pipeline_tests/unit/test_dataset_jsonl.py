"""JSON lines: one type a column over the whole file, nothing guessed, nothing lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from claude_pipeline.dataset.json_shape import Shape
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline_tests.dataset_factory import records_in, records_of, snapshot_of

SECRET = "private words"

VALUES: list[Any] = [
    pytest.param(["2024-01-01", "12:30", "123e4567-e89b-12d3-a456-426614174000"], None, id="dates-stay-text"),
    pytest.param(["1", "2"], None, id="digits-in-quotes-stay-text"),
    pytest.param([1, -2, 3], None, id="integers"),
    pytest.param([9007199254740993, -9223372036854775808, 9223372036854775807], None, id="64-bit-integers-exact"),
    pytest.param([1, 2.5, None], [1.0, 2.5, None], id="integers-and-fractions-are-doubles"),
    pytest.param([18446744073709551615, 1], ["18446744073709551615", "1"], id="past-64-bit-as-text"),
    pytest.param([10**29 + 1, 1], [str(10**29 + 1), "1"], id="far-past-64-bit-as-text"),
    pytest.param([9007199254740993, 0.5], ["9007199254740993", "0.5"], id="a-double-would-lose-digits"),
    pytest.param([1e300, -2.5], None, id="large-doubles"),
    pytest.param([True, False, None], None, id="booleans"),
    pytest.param([None, None], None, id="all-null"),
    pytest.param(["", "a"], None, id="empty-text"),
    pytest.param(["a\0b", "\u2028", '😀 עב \\ "q" \r\n\t'], None, id="every-character"),
    pytest.param(["plain", 1, True], ["plain", "1", "true"], id="mixed-scalars-as-text"),
    pytest.param(
        ["plain", {"a": [1, "x"]}, [1]], ["plain", '{"a":[1,"x"]}', "[1]"], id="mixed-with-nested-as-json-text"
    ),
    pytest.param([{"a": 1}, {"b": "x"}, None], [{"a": 1, "b": None}, {"a": None, "b": "x"}, None], id="objects"),
    pytest.param([{"a b": {'c"d': [1]}}], None, id="nested-names-of-any-kind"),
    pytest.param([{}, {}], ["{}", "{}"], id="empty-objects-as-text"),
    pytest.param([{"a": 1, "A": 2}], ['{"a":1,"A":2}'], id="keys-differing-in-case-as-json-text"),
    pytest.param([["a"], [], None], None, id="lists"),
    pytest.param([[], []], None, id="empty-lists"),
    pytest.param([["a", 1, {"k": 2}]], [["a", "1", '{"k":2}']], id="mixed-list-items-as-text"),
    pytest.param([[{"a": 1}, {"a": 2, "b": None}]], [[{"a": 1, "b": None}, {"a": 2, "b": None}]], id="list-of-objects"),
    pytest.param([[[1], [2, 3]], [[]]], None, id="lists-of-lists"),
]


@pytest.mark.parametrize(("values", "expected"), VALUES)
def test_a_column_has_the_narrowest_type_that_loses_nothing(tmp_path: Path, values: list[Any], expected: Any) -> None:
    lines = [json.dumps({"n": "x", "value": value}, ensure_ascii=False) for value in values]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    records = records_in(tmp_path, path=str(tmp_path / "x.jsonl"))
    assert [record["value"] for record in records] == (values if expected is None else expected)


def test_a_type_is_decided_by_the_last_record_as_well(tmp_path: Path) -> None:
    lines = [json.dumps({"value": number}) for number in range(30_000)]
    (tmp_path / "x.jsonl").write_text("\n".join([*lines, '{"value": "text", "new": 1}']))
    records = records_in(tmp_path, path=str(tmp_path / "x.jsonl"))
    assert records[0] == {"value": "0", "new": None}
    assert records[-1] == {"value": "text", "new": 1}


def test_an_object_of_many_keys_is_json_text(tmp_path: Path) -> None:
    lines = [json.dumps({"votes": {f"user {n}": n, f"user {n + 1}": n}}) for n in range(0, 500, 2)]
    (tmp_path / "x.ndjson").write_text("\n".join(lines))
    records = records_in(tmp_path, path=str(tmp_path / "x.ndjson"))
    assert records[1] == {"votes": '{"user 2":2,"user 3":2}'}


def test_the_id_column_is_text_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 7, "id": 1}\n{"n": 8, "id": 18446744073709551615}\n')
    records = records_in(tmp_path, path=str(tmp_path / "x.jsonl"), id="id")
    assert records == [{"n": 7, "id": "1"}, {"n": 8, "id": "18446744073709551615"}]


FORMS: list[Any] = [
    pytest.param("x.jsonl", b'\xef\xbb\xbf{"a":1}\n{"a":2}\n', {}, id="byte-order-mark"),
    pytest.param("x.jsonl", b'{"a":1}\r\n\r\n{"a":2}', {}, id="crlf-and-no-last-line-end"),
    pytest.param("x.jsonl", b'\n{"a":1}\n \t\n\n{"a":2}\r\n\n', {}, id="blank-lines"),
    pytest.param("x.ndjson.gz", gzip.compress(b'{"a":1}\n{"a":2}\n'), {}, id="gzip"),
    pytest.param("x.jsonl", '{"a":1}\n{"a":2}\n'.encode("utf-16"), {"encoding": "utf-16"}, id="utf-16"),
    pytest.param("x.json", b' {"a":1} \n{"a":2}', {"format": "jsonl"}, id="format-given"),
    pytest.param("day=1 [it's]*?.jsonl", b'{"a":1}\n{"a":2}', {}, id="name-of-special-characters"),
]


@pytest.mark.parametrize(("name", "data", "dataset"), FORMS)
def test_every_usual_form_of_the_file_is_read(tmp_path: Path, name: str, data: bytes, dataset: dict[str, Any]) -> None:
    (tmp_path / name).write_bytes(data)
    assert records_in(tmp_path, path=str(tmp_path / name), **dataset) == [{"a": 1}, {"a": 2}]


def test_a_line_may_be_longer_than_any_buffer(tmp_path: Path) -> None:
    text = "a long text " * 2_000_000
    (tmp_path / "x.jsonl").write_text('{"a":"b"}\n' + json.dumps({"a": text}) + '\n{"a":"c"}\n')
    assert [record["a"] for record in records_in(tmp_path, path=str(tmp_path / "x.jsonl"))] == ["b", text, "c"]


def _bad(line: bytes, message: str, case: str, **dataset: Any) -> Any:
    return pytest.param(b'{"text":"ok"}\n\n' + line + b'\n{"text":"ok"}\n', dataset, message, id=case)


S = SECRET.encode()
REFUSED: list[Any] = [
    _bad(
        b'{"text":"' + S, r"x\.jsonl, line 3: the JSON ends too early; an object must stand on one line", "broken-line"
    ),
    pytest.param(b'{"text":"a"}\n{"text":"' + S, {}, r"line 2: the JSON ends too early; the file seems cut", id="cut"),
    _bad(b"{", r"line 3: the JSON ends too early", "pretty-printed"),
    _bad(b"{'text': '" + S + b"'}", r"line 3: not JSON at column 2: expecting property name", "python-quotes"),
    _bad(b'{"text":"a"} {"text":"' + S + b'"}', r"line 3: more text after the JSON value", "two-objects"),
    _bad(b'{"text":"' + S + b'"},', r"line 3: more text after the JSON value", "trailing-comma"),
    _bad(
        b'{"text":"\x01' + S + b'"}', r"line 3: not JSON at column 10: invalid control character", "control-character"
    ),
    _bad(b'["' + S + b'"]', r"line 3: an array, where an object is wanted", "array-line"),
    _bad(b'"' + S + b'"', r"line 3: a text, where an object is wanted", "text-line"),
    _bad(b"42", r"line 3: a number, where an object is wanted", "number-line"),
    _bad(b"null", r"line 3: null, where an object is wanted", "null-line"),
    _bad(b'{"text":"a","text":"' + S + b'"}', r"line 3: key 'text' is given twice", "repeated-key"),
    _bad(b'{"\\ud800":"' + S + b'"}', r"line 3: a key holds half a character", "lone-surrogate-in-a-key"),
    _bad(b'{"text":NaN,"text":"' + S + b'"}', r"line 3: key 'text' is given twice", "nan-and-a-repeated-key"),
    _bad(b"NaN", r"line 3: a number, where an object is wanted", "nan-line"),
    _bad(b'{"text":"caf\xe9 ' + S + b'"}', r"line 3: not valid UTF-8 \(byte 0xE9\)", "latin-1"),
    _bad(b'{"Text":"a"}', r"'text' and 'Text' differ only in case", "keys-differing-in-case"),
    _bad(b'{"":"a"}', r"column 2 has no name", "empty-key"),
    _bad(b'{"record_id":"a"}', r"'record_id' has the name.*say id: record_id", "reserved-name"),
    _bad(b'{"text":"' + b"[" * 3000 + b'"}', r"there is no column 'txt'; there are: text", "no-id-column", id="txt"),
    _bad(b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}", r"line 3: nested too deeply", "too-deep"),
    pytest.param(b'[{"text":"a"},\n{"text":"b"}]', {}, r"line 1: begins with a JSON array; write one", id="array-file"),
    pytest.param(b'[{"text":"a"}]\n', {}, r"line 1: begins with a JSON array; write one", id="array-on-one-line"),
    pytest.param(b"", {}, r"x\.jsonl: holds no records", id="empty"),
    pytest.param(b"\n \n", {}, r"x\.jsonl: holds no records", id="blank-lines-only"),
    pytest.param(b'{"id":{"a":1}}', {"id": "id"}, r"id: column 'id' holds lists or objects", id="ids-are-objects"),
    pytest.param(gzip.compress(b"{}"), {}, r"is gzip data", id="gzip"),
]


@pytest.mark.parametrize(("data", "dataset", "message"), REFUSED)
def test_what_is_wrong_is_named_by_line_and_never_quoted(
    tmp_path: Path, data: bytes, dataset: dict[str, Any], message: str
) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    with pytest.raises(DatasetInvalid, match=message) as caught:
        snapshot_of(tmp_path, path=str(tmp_path / "x.jsonl"), **dataset)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not list((tmp_path / "taken").glob("*"))
    assert not list((tmp_path / "scratch").iterdir())


FAULTS: list[Any] = [
    pytest.param(b'"\\ud800 ' + S + b'"', "bad_unicode", "column text holds half a character", id="lone-surrogate"),
    pytest.param(b'{"a":["\\udfff"]}', "bad_unicode", "column text holds half a character", id="nested-surrogate"),
    pytest.param(b"NaN", "not_text", "column text holds NaN or Infinity", id="nan"),
    pytest.param(b"[1,-Infinity]", "not_text", "column text holds NaN or Infinity", id="nested-infinity"),
]


@pytest.mark.parametrize(("value", "code", "detail"), FAULTS)
def test_a_value_that_nothing_can_hold_is_the_fault_of_its_record_alone(
    tmp_path: Path, value: bytes, code: str, detail: str
) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'\n{"n":1,"text":"first"}\n')
    lines = [b'{"n":2,"text":"good"}', b"", b'{"n":3,"text":' + value + b"}", b" ", b'{"n":4,"text":"last"}']
    (tmp_path / "2.jsonl").write_bytes(b"\r\n".join(lines))
    snapshot = snapshot_of(tmp_path, path=str(tmp_path / "*.jsonl"))

    texts = [(record["n"], record["text"]) for record in records_of(snapshot)]
    assert texts == [(1, "first"), (2, "good"), (3, None), (4, "last")]
    assert {row: fault.code for row, fault in snapshot.origin.faults.items()} == {2: code}
    assert snapshot.origin.faults[2].detail.startswith(detail)
    places = [snapshot.origin.place_of(row) for row in range(4)]
    assert places == ["1.jsonl, line 2", "2.jsonl, line 1", "2.jsonl, line 3", "2.jsonl, line 5"]
    assert not list((tmp_path / "scratch").iterdir())


def test_more_keys_than_a_table_has_columns_are_refused_early(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({f"key {n}": n}) for n in range(3_000)))
    with pytest.raises(DatasetInvalid, match=r"line 2001: the records so far have more than 2,000 different keys"):
        snapshot_of(tmp_path, path=str(tmp_path / "x.jsonl"))


def test_files_of_one_folder_share_one_set_of_types(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "d" / "2.jsonl").write_text('{"b": "x", "a": 0.5}\n')
    snapshot = snapshot_of(tmp_path, path=str(tmp_path / "d"))
    assert str(pq.read_schema(snapshot.path).field("a").type) == "double"
    assert snapshot.columns == ("a", "b")


def test_an_empty_file_passes_where_it_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"")
    snapshot = snapshot_of(tmp_path, path=str(tmp_path / "x.jsonl"), allow_empty=True, id="id")
    assert (snapshot.records, snapshot.columns) == (0, ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], "VARCHAR", id="nothing"),
        pytest.param([None], "VARCHAR", id="null"),
        pytest.param([1, 2**62], "BIGINT", id="integers"),
        pytest.param([2**63], "VARCHAR", id="past-int64"),
        pytest.param([1, 1.5], "DOUBLE", id="numbers"),
        pytest.param([2**60, 1.5], "VARCHAR", id="lossy-numbers"),
        pytest.param([[1], [None]], "BIGINT[]", id="list"),
        pytest.param([{"a": [{"b": True}]}], 'STRUCT("a" STRUCT("b" BOOLEAN)[])', id="nested"),
        pytest.param([{'say "a"': "x"}], 'STRUCT("say ""a""" VARCHAR)', id="quoted-name"),
        pytest.param([{"": 1}], "VARCHAR", id="nameless-key"),
        pytest.param([{"a": 1}, "x"], "VARCHAR", id="object-or-text"),
    ],
)
def test_a_shape_names_the_narrowest_type(values: list[Any], expected: str) -> None:
    shape = Shape()
    for value in values:
        shape.observe(value)
    assert shape.duckdb_type() == expected
