"""Files and folders as the disk has them: links, pipes, rights, names, and a writer that is not done (A34 to A36, A38)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_pipeline_tests.bad_input.ground import CANARY, Ground, Refusal, good_rows, parquet, row

GOOD = f"id,text\na,{CANARY}\n"


def test_a_file_that_changes_while_it_is_read_is_refused(ground: Ground) -> None:
    path = ground.rows("notes.jsonl", good_rows(20_000))
    with touched(path):
        said = ground.run(ground.workload())
    ground.refused(said, Refusal(r"^notes\.jsonl: ", "changed while it was read", "run again when its writer is done"))


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """Another program writes to it, all the time."""
    over = threading.Event()

    def touch() -> None:
        nanoseconds = path.stat().st_mtime_ns
        while not over.wait(0.001):
            nanoseconds += 1_000_000
            os.utime(path, ns=(nanoseconds, nanoseconds))

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


NOBODY = 65_534


@pytest.fixture
def nobodys(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """The same ground where a user without rights may work: root may read everything."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    root = Path(tempfile.mkdtemp())
    shutil.move(ground.home.root, root / "home")
    shutil.move(ground.folder, root / "work")
    shutil.copy(os.environ["CLAUDE_PIPELINE_CATALOG"], root)
    ground.env(CLAUDE_PIPELINE_HOME=str(root / "home"), CLAUDE_PIPELINE_CATALOG=str(root / "catalog.yaml"))
    monkeypatch.chdir(root / "work")
    ground.folder, ground.home = root / "work", type(ground.home)(root / "home")
    try:
        yield ground
    finally:
        shutil.rmtree(root)


@contextmanager
def as_nobody(root: Path) -> Iterator[None]:
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            os.chown(path, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


UNREADABLE = [
    pytest.param("x.csv", "x.csv", 0o000, Refusal(r"^x\.csv: ", r"permission denied \(mode 0000\)", "chmod it"), id="A35"),
    pytest.param("d", "d/e", 0o000, Refusal("^d/e: ", "cannot list the folder", "chmod it"), id="A35-folder"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "closed", "mode", "refusal"), UNREADABLE)
def test_what_may_not_be_read_is_refused(nobodys: Ground, path: str, closed: str, mode: int, refusal: Refusal) -> None:
    nobodys.put("x.csv", GOOD)
    nobodys.put("d/1.csv", GOOD)
    nobodys.put("d/e/2.csv", GOOD)
    file = nobodys.workload(dataset={"path": path, "id": "id"})
    with as_nobody(nobodys.folder.parent):
        (nobodys.folder / closed).chmod(mode)
        said = nobodys.run(file)
    nobodys.refused(said, refusal)


def link_out(ground: Ground) -> None:
    ground.put("elsewhere/secret.csv", GOOD)
    ground.put("d/1.csv", GOOD)
    (ground.folder / "d/2.csv").symlink_to(ground.folder / "elsewhere/secret.csv")


def circle(ground: Ground) -> None:
    ground.put("d/1.csv", GOOD)
    (ground.folder / "d/2.csv").symlink_to(ground.folder / "d/3.csv")
    (ground.folder / "d/3.csv").symlink_to(ground.folder / "d/2.csv")


def lone_circle(ground: Ground) -> None:
    (ground.folder / "x.csv").symlink_to("x.csv")


def pipe(ground: Ground) -> None:
    ground.put("d/1.csv", GOOD)
    os.mkfifo(ground.folder / "d/2.csv")


def lone_pipe(ground: Ground) -> None:
    os.mkfifo(ground.folder / "x.csv")


NO_FILES = [
    pytest.param(link_out, "d", Refusal(r"^d/2\.csv: ", "is a link out of the folder d", "copy the file there, or name it alone in path:"),
                 id="A36"),
    pytest.param(link_out, "d/*.csv", Refusal(r"^d/2\.csv: ", "is a link out of the folder d", "copy the file there"), id="A36-glob"),
    pytest.param(circle, "d", Refusal(r"^d/2\.csv: ", "is a link that leads nowhere", "mend or remove it"), id="A36-circle"),
    pytest.param(lone_circle, "x.csv", Refusal(r"path: /.*/x\.csv ", "is a link that leads nowhere", r"mend it, or correct dataset\.path"),
                 id="A36-lone-circle"),
    pytest.param(pipe, "d", Refusal(r"^d/2\.csv: ", "is no file but a pipe", "write its data to a file"), id="A47-pipe-in-a-folder"),
    pytest.param(lone_pipe, "x.csv", Refusal(r"path: /.*/x\.csv ", "is no file but a pipe", "write its data to a file"), id="A47-pipe"),
    pytest.param(lambda ground: None, "/dev/zero", Refusal("path: /dev/zero ", "is no file but a pipe, socket or device",
                 "write its data to a file"), id="A47-device"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "path", "refusal"), NO_FILES)
def test_what_is_no_file_of_the_folder_is_refused(
    ground: Ground, make: Callable[[Ground], None], path: str, refusal: Refusal
) -> None:
    make(ground)
    ground.refused(ground.run(ground.workload(dataset={"path": path, "id": "id"})), refusal)


def test_a_link_that_the_user_names_is_read(ground: Ground) -> None:
    ground.put("elsewhere/x.csv", GOOD)
    (ground.folder / "x.csv").symlink_to(ground.folder / "elsewhere/x.csv")
    ground.accepted(ground.run(ground.workload(dataset={"path": "x.csv", "id": "id"})), delivered=1)


NAMES = [
    pytest.param("it's[1].csv", ["it's1.csv"], id="A38"),
    pytest.param("x[1].parquet", ["x1.parquet"], id="A38-parquet"),
    pytest.param("a*b?.jsonl", ["aXbY.jsonl"], id="A38-glob"),
    pytest.param('";drop table x;--\n\u202e`|<b>.jsonl', [], id="A38-hostile"),
]


@pytest.mark.parametrize(("name", "others"), NAMES)
def test_a_file_name_means_that_file(ground: Ground, name: str, others: list[str]) -> None:
    def content(*ids: str) -> str | bytes:
        if name.endswith(".parquet"):
            return parquet(id=list(ids), text=[CANARY] * len(ids))
        if name.endswith(".csv"):
            return "id,text\n" + "".join(f"{each},{CANARY} {each}\n" for each in ids)
        return "".join(json.dumps(row(each)) + "\n" for each in ids)

    ground.put(name, content("right"))
    for other in others:
        ground.put(other, content("wrong"))
    ground.accepted(ground.run(ground.workload(dataset={"path": name, "id": "id"})), delivered=1)
    assert ground.ask("SELECT record_id FROM notes.latest") == [("right",)]
