"""Locks of the ledger: exclusive, and freed by the death of their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger

pytestmark = pytest.mark.both_databases


def test_a_second_holder_of_a_lock_skips(ledger: Ledger, home: Home, ledger_url: str | None) -> None:
    with ledger.lock("submit") as taken, Ledger.open(ledger_url, path=home.ledger) as other:
        assert taken
        with other.lock("submit") as again:
            assert not again
        with other.lock("publish") as another:
            assert another
    with ledger.lock("submit") as free:
        assert free


def test_a_holder_can_ask_whether_the_lock_is_still_its_own(ledger: Ledger, home: Home) -> None:
    with ledger.lock("submit") as taken, ledger.lock("plan", wait=True) as waited:
        assert taken.still_held()
        assert waited.still_held()
        with ledger.lock("submit") as again:
            assert not again.still_held()
    with ledger.lock("submit") as taken:
        assert taken.still_held()


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_lock_whose_file_was_deleted_is_held_no_more(ledger: Ledger, home: Home) -> None:
    # Another process would make a new file, and take the lock as well.
    with ledger.lock("submit") as taken:
        (home.ledger.parent / "locks" / "submit.lock").unlink()
        assert not taken.still_held()


HOLDER = """
import sys
from pathlib import Path
from claude_pipeline.ledger import Ledger
ledger = Ledger.open(sys.argv[2] or None, path=Path(sys.argv[1]))
with ledger.lock("submit") as taken:
    print(bool(taken), flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_freed_by_the_death_of_its_holder(ledger: Ledger, home: Home, ledger_url: str | None) -> None:
    command = [sys.executable, "-c", HOLDER, str(home.ledger), ledger_url or ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with ledger.lock("submit") as taken:
            assert not taken
        os.kill(holder.pid, signal.SIGSTOP)  # paused is not dead: a lease would have run out
        with ledger.lock("submit") as taken:
            assert not taken
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with ledger.lock("submit", wait=True) as taken:  # a server hears of the death a moment later
            assert taken
