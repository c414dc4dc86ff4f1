"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from claude_pipeline.home import Home, sha256_of, sweep, written


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.txt"
    with written(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written(path) as temporary:  # noqa: PT012  the write must have begun
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_with_an_open_handle_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with path.open() as reader:
        with written(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with written(path) as one, written(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one != two
    assert path.read_text() == "one"  # renamed last


def test_sweep_removes_old_leftovers_only(home: Home) -> None:
    old, fresh, file = (home.root / "chunks" / name for name in (".a.tmp", ".b.tmp", "c.parquet"))
    old.parent.mkdir()
    for path in (old, fresh, file):
        path.write_text("")
    os.utime(old, (0, 0))
    os.utime(file, (0, 0))
    assert sweep(home) == 1
    assert sorted(path.name for path in old.parent.iterdir()) == [".b.tmp", "c.parquet"]


def test_sweep_removes_what_a_killed_load_or_publication_left(home: Home) -> None:
    left = [home.snapshot("notes", ".2026-11-22.fresh"), home.scratch() / "publish-3" / "chunk.ndjson"]
    kept = [home.snapshot("notes", "2026-11-22.1"), home.dagster / ".nux"]
    for path in left + kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (0, 0))
    assert sweep(home) == 2
    assert [path.exists() for path in left + kept] == [False, False, True, True]


def test_paths_in_the_ledger_are_relative_so_that_a_home_can_be_moved(home: Home, tmp_path: Path) -> None:
    path = home.requests("notes", "2026-11-22.1", "r1-0001.jsonl")
    relative = home.relative(path)
    assert relative == "chunks/notes/2026-11-22.1/r1-0001.jsonl"
    assert Home(tmp_path / "moved").absolute(relative) == tmp_path / "moved" / relative


def test_sha256_is_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    data = b"x" * 3_000_000
    path.write_bytes(data)
    assert sha256_of(path) == hashlib.sha256(data).hexdigest()
