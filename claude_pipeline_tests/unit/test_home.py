"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pipeline.errors import HomeUnsafe
from claude_pipeline.home import Home, make_file, make_folder, sha256_of, sweep, written


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


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


@pytest.mark.usefixtures("usual_umask")
def test_what_a_run_writes_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    path = home.results("tickets", "2026-11-22.1", "r1-0001.parquet")
    with written(path) as temporary:
        temporary.write_text("answers")

    assert {mode(folder) for folder in path.parents if folder.is_relative_to(home.root)} == {"0o700"}
    assert (mode(path), mode(make_file(home.root / "locks" / "x.lock"))) == ("0o600", "0o600")
    assert mode(home.scratch()) == "0o700"


@pytest.mark.usefixtures("usual_umask")
def test_a_home_given_to_a_group_is_as_open_as_the_umask_lets_it_be(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    make_folder(home.root).chmod(0o2750)
    os.umask(0o027)
    path = home.results("tickets", "2026-11-22.1", "r1-0001.parquet")
    with written(path) as temporary:
        temporary.write_text("answers")

    assert (mode(path), mode(path.parent)) == ("0o640", "0o2750")
    assert mode(make_file(home.root / "ledger.db")) == "0o640"


@pytest.mark.usefixtures("usual_umask")
def test_a_file_that_a_person_has_put_elsewhere_is_as_others_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "claude.prom"
    with written(path, private=False) as temporary:
        temporary.write_text("x 1")

    assert (mode(path), mode(path.parent)) == ("0o644", "0o755")


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)

    assert mode(make_folder(folder)) == "0o755"


def test_a_symbolic_link_out_of_the_home_is_refused(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home.root / "results").symlink_to(elsewhere)

    with pytest.raises(HomeUnsafe, match=f"/results/tickets/s/x leads out of the home, to {elsewhere}") as refused:
        home.results("tickets", "s", "x")

    assert str(refused.value).endswith("move the whole home, or mount the other disk in that place")


@pytest.mark.parametrize("relative", ["../ledger.db", "/etc/passwd", "results/../../x"])
def test_a_path_out_of_the_home_is_refused(home: Home, relative: str) -> None:
    with pytest.raises(HomeUnsafe):
        home.absolute(relative)


def test_a_home_that_is_a_link_itself_and_links_inside_it_are_followed(home: Home, tmp_path: Path) -> None:
    (home.root / "results").mkdir()
    (home.root / "merged").symlink_to(home.root / "results")
    link = tmp_path / "link"
    link.symlink_to(home.root)

    assert Home(link).merged("tickets", "s", "x").parent.parent == link / "merged" / "tickets"
