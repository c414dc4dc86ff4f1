"""Copies of the ledger: whole while it is written, each one a ledger of its own."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from claude_pipeline.errors import UsageError
from claude_pipeline.ledger import Ledger
from claude_pipeline.stage.backup import backup
from claude_pipeline.stage.desk import Desk
from claude_pipeline_tests.conftest import MovableClock
from claude_pipeline_tests.factory import ready_chunks


@pytest.mark.parametrize("copies", [5])
def test_a_copy_taken_while_another_writes_is_whole(desk: Desk, clock: MovableClock, copies: int) -> None:
    ready_chunks(desk.ledger, clock())
    stop, written = threading.Event(), threading.Semaphore(0)

    def hammer() -> None:
        with Ledger.open(None, path=desk.home.ledger) as other:
            number = 0
            while not stop.is_set():
                number += 1  # two rows in one move: a copy must hold both or none
                other.put_setting("number", f"{number}", at=clock(), move=f"number {number}")
                written.release()

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        found = []
        for _ in range(copies):
            assert written.acquire(timeout=60)
            clock.advance(1)
            found.append(backup(desk))
    finally:
        stop.set()
        thread.join()

    for number, copy in enumerate(found, start=1):
        with sqlite3.connect(copy.path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert raw.execute("SELECT count(*) FROM event").fetchone() == (copy.events,)
            setting = raw.execute("SELECT value FROM setting WHERE key = 'number'").fetchone()
            last = raw.execute("SELECT move FROM event ORDER BY id DESC LIMIT 1").fetchone()
        raw.close()
        assert int(setting[0]) >= number  # there was one more write to wait for before each copy
        assert last == (f"number {setting[0]}",)
    assert copy.size_bytes == copy.path.stat().st_size


def test_a_copy_opens_as_a_ledger_without_files_beside_it(desk: Desk, clock: MovableClock, tmp_path: Path) -> None:
    ready_chunks(desk.ledger, clock())

    copy = backup(desk, tmp_path / "elsewhere" / "copy.db")

    assert [path.name for path in copy.path.parent.iterdir()] == ["copy.db"]
    with Ledger.open(None, path=copy.path) as ledger:
        assert ledger.id == desk.ledger.id
        assert [chunk.key for chunk in ledger.chunks("notes")] == ["r1-0001"]


def test_the_newest_copies_stay(desk: Desk, clock: MovableClock) -> None:
    made = []
    for _ in range(4):
        clock.advance(60)
        made.append(backup(desk, keep=2))

    assert made[-1].dropped == (made[1].path,)
    assert sorted(desk.home.backups.iterdir()) == [made[2].path, made[3].path]


def test_a_copy_with_a_name_drops_none(desk: Desk, clock: MovableClock, tmp_path: Path) -> None:
    kept = backup(desk, keep=1)
    assert backup(desk, tmp_path / "copy.db", keep=1).dropped == ()
    assert kept.path.exists()


def test_the_ledger_itself_is_no_target(desk: Desk) -> None:
    with pytest.raises(UsageError, match="--to names the ledger itself"):
        backup(desk, desk.home.ledger)
    assert desk.ledger.id


def test_a_place_where_nothing_can_be_written_is_named(desk: Desk) -> None:
    """It was "OperationalError, which is not foreseen"."""
    with pytest.raises(UsageError, match=r"--to: /proc/copy\.db cannot be written .*; name another place"):
        backup(desk, Path("/proc/copy.db"))


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_ledger_on_postgresql_is_copied_by_its_own_tools(desk: Desk, ledger_url: str) -> None:
    with pytest.raises(UsageError, match="copy it with pg_dump postgresql") as told:
        backup(desk)
    assert ":***@" in str(told.value) or "@" not in str(told.value)
    assert not list(desk.home.root.glob("backups/*"))
