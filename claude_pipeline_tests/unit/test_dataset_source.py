"""Which files a path means, and what is said when it means none."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from claude_pipeline.dataset.source import find_files
from claude_pipeline.errors import DatasetInvalid
from claude_pipeline_tests.dataset_factory import make_workload, records_in, snapshot_of


def _write(folder: Path, *names: str, text: str = "a\n1\n") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


FOUND: list[Any] = [
    pytest.param(["x.csv", "y.csv"], "x.csv", ["x.csv"], id="one-file"),
    pytest.param(["b.csv", "a.csv", "c/a.csv"], ".", ["a.csv", "b.csv", "c/a.csv"], id="folder-recursive-by-name"),
    pytest.param(["b.csv", "a.csv", "a.txt"], "*.csv", ["a.csv", "b.csv"], id="glob"),
    pytest.param(["1/x.csv", "2/3/y.csv"], "**/*.csv", ["1/x.csv", "2/3/y.csv"], id="recursive-glob"),
    pytest.param(
        ["2026-1/x.csv", "2026-2/y.csv", "2025/z.csv"], "2026-*", ["2026-1/x.csv", "2026-2/y.csv"], id="glob-folders"
    ),
    pytest.param(["x.csv", ".x.csv", "_x.csv", ".git/x.csv", "_tmp/x.csv"], ".", ["x.csv"], id="hidden-skipped"),
    pytest.param(["x.csv", ".x.csv", "_x.csv"], "*.csv", ["x.csv"], id="hidden-skipped-by-a-glob"),
    pytest.param(["_x.csv", "_y.csv"], "_*.csv", ["_x.csv", "_y.csv"], id="hidden-named-by-a-glob"),
    pytest.param(["_x.csv"], "_x.csv", ["_x.csv"], id="hidden-named"),
    pytest.param(["x.csv", "README.md", "x.csv.crc"], ".", ["x.csv"], id="other-files-beside"),
    pytest.param(["a.txt", "b.log"], ".", ["a.txt", "b.log"], id="any-name-where-the-format-is-given"),
    pytest.param(
        ["it's [1]*?.csv", "it's 1ab.csv"], "it's [1]*?.csv", ["it's [1]*?.csv"], id="special-name-is-that-file"
    ),
    pytest.param(["a[1]/x.csv", "a1/x.csv"], "a[1]/*.csv", ["a[1]/x.csv"], id="special-folder-then-glob"),
    pytest.param(["x.CSV"], ".", ["x.CSV"], id="upper-case"),
]


@pytest.mark.parametrize(("names", "path", "expected"), FOUND)
def test_a_path_means_these_files_in_this_order(
    tmp_path: Path, names: list[str], path: str, expected: list[str]
) -> None:
    _write(tmp_path, *names)
    form = {"format": "csv"} if names[0].endswith(".txt") else {}
    files = find_files(make_workload(path=str(tmp_path / path), **form))
    assert [str(file.path.relative_to(tmp_path)) for file in files] == expected


def test_a_relative_path_starts_beside_the_workload_then_at_the_project_root(tmp_path: Path) -> None:
    _write(tmp_path, "pyproject.toml", "data/root.csv", "w/data/beside.csv", "w/tickets.yaml")
    source = tmp_path / "w" / "tickets.yaml"
    assert find_files(make_workload(source, path="data/root.csv"))[0].path == tmp_path / "data/root.csv"
    assert find_files(make_workload(source, path="data/*.csv"))[0].path == tmp_path / "w/data/beside.csv"


def test_folders_named_key_value_add_text_columns(tmp_path: Path) -> None:
    _write(tmp_path, "year=2025/lang=fr%2FCA/x.csv", "year=2026/lang=__HIVE_DEFAULT_PARTITION__/x.csv")
    assert records_in(tmp_path, path=f"{tmp_path}/*/*/x.csv") == [
        {"a": "1", "year": "2025", "lang": "fr/CA"},
        {"a": "1", "year": "2026", "lang": None},
    ]


def test_a_file_named_alone_takes_no_columns_from_its_folders(tmp_path: Path) -> None:
    _write(tmp_path, "year=2025/x.csv")
    assert records_in(tmp_path, path=f"{tmp_path}/year=2025/x.csv") == [{"a": "1"}]


def test_the_columns_of_later_files_may_stand_in_another_order(tmp_path: Path) -> None:
    _write(tmp_path, "d/1.csv", text="a,b\n1,2\n")
    _write(tmp_path, "d/2.csv", text="b,a\n3,4\n")
    assert records_in(tmp_path, path=f"{tmp_path}/d") == [{"a": "1", "b": "2"}, {"a": "4", "b": "3"}]


REFUSED: list[Any] = [
    pytest.param({}, "x.csv", r"path: no file matches .*x\.csv \(looked in ", id="missing-file"),
    pytest.param(
        {"y.csv": "a\n1\n"}, "*.parquet", r"path: no file matches .*\*\.parquet \(looked in ", id="empty-glob"
    ),
    pytest.param({}, "no/such/folder/*.csv", r"path: no file matches", id="missing-folder"),
    pytest.param({"d/_x.csv": "a\n1\n"}, "d", r"the folder .*d holds no file to read", id="only-hidden"),
    pytest.param({"d/x.txt": "a\n1\n"}, "d", r"d: has no \.csv, \.tsv.*set format:", id="no-data-files"),
    pytest.param({"d/x.csv": "a\n1\n", "d/y.jsonl": "{}"}, "d", r"y\.jsonl: is jsonl, but .*x\.csv is csv", id="mixed"),
    pytest.param({"x.txt": "a\n1\n"}, "x.txt", r"x\.txt: its name does not say the format", id="unknown-format"),
    pytest.param({"x.json": "{}"}, "x.json", r"'\.json' can mean two things.*format: jsonl", id="json"),
    pytest.param({"x.csv": "a\n1\n"}, "x**.csv", r"path: .* is no glob", id="bad-glob"),
    pytest.param(
        {"d/1.csv": "a,b\n1,2\n", "d/2.csv": "a,c\n1,2\n"},
        "d",
        r"2\.csv: column 'b' is missing; column 'c'",
        id="drift",
    ),
    pytest.param({"d/1.csv": "a\n1\n", "d/2.csv": ""}, "d", r"2\.csv: is empty \(0 bytes\)", id="one-empty-file"),
    pytest.param(
        {"d/k=1/x.csv": "a\n1\n", "d/y.csv": "a\n1\n"},
        "d",
        r"y\.csv: lies in folders.*\(none\)",
        id="partitions-differ",
    ),
    pytest.param({"d/a=1/x.csv": "a\n1\n"}, "d", r"column 'a' occurs 2 times", id="partition-is-a-column-too"),
]


@pytest.mark.parametrize(("files", "path", "message"), REFUSED)
def test_a_path_that_cannot_be_meant_is_refused(tmp_path: Path, files: dict[str, str], path: str, message: str) -> None:
    for name, text in files.items():
        _write(tmp_path, name, text=text)
    with pytest.raises(DatasetInvalid, match=message):
        snapshot_of(tmp_path, path=str(tmp_path / path))


def test_a_header_without_records_is_fine_beside_files_with_some(tmp_path: Path) -> None:
    _write(tmp_path, "d/1.csv", text="a\n")
    _write(tmp_path, "d/2.csv")
    assert records_in(tmp_path, path=f"{tmp_path}/d") == [{"a": "1"}]


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    _write(tmp_path, "d/x.csv")
    (tmp_path / "d" / "again").symlink_to(tmp_path / "d")
    assert len(find_files(make_workload(path=f"{tmp_path}/d"))) == 1


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    from claude_pipeline.dataset.plain import plain_text

    _write(tmp_path, "x.csv")
    (file,) = find_files(make_workload(path=f"{tmp_path}/x.csv"))
    with (
        pytest.raises(DatasetInvalid, match=r"x\.csv: changed while it was read; run again"),
        plain_text(file, encoding="utf-8", scratch=tmp_path) as path,
    ):
        path.write_text("a\n1\n2\n")


def test_equal_records_give_equal_bytes_however_they_are_packed(tmp_path: Path) -> None:
    lines = [f"{number},text {number % 7}\n" for number in range(25_000)]
    _write(tmp_path, "one/all.csv", text="id,text\n" + "".join(lines))
    for part, start in enumerate((0, 1, 9_000, 23_456)):
        end = (1, 9_000, 23_456, 25_000)[part]
        (tmp_path / "many").mkdir(exist_ok=True)
        packed = gzip.compress(("id,text\r\n" + "".join(lines[start:end]).replace("\n", "\r\n")).encode())
        (tmp_path / "many" / f"{part}.csv.gz").write_bytes(packed)
    one = snapshot_of(tmp_path / "1", path=f"{tmp_path}/one", id="id")
    many = snapshot_of(tmp_path / "2", path=f"{tmp_path}/many", id="id")
    assert one.digest == many.digest
    assert one.records == 25_000
