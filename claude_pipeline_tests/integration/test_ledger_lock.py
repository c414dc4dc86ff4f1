"""Locks of the ledger: exclusive, and freed by the death of their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from claude_pipeline.home import Home
from claude_pipeline.ledger import Ledger


def test_a_second_holder_of_a_lock_skips(ledger: Ledger, home: Home) -> None:
    with ledger.lock("submit") as taken, Ledger.open(None, path=home.ledger) as other:
        assert taken
        with other.lock("submit") as again:
            assert not again
        with other.lock("publish") as another:
            assert another
    with ledger.lock("submit") as free:
        assert free


HOLDER = """
import sys
from pathlib import Path
from claude_pipeline.ledger import Ledger
ledger = Ledger.open(None, path=Path(sys.argv[1]))
with ledger.lock("submit") as taken:
    print(taken, flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_freed_by_the_death_of_its_holder(ledger: Ledger, home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with ledger.lock("submit") as taken:
            assert not taken
        os.kill(holder.pid, signal.SIGSTOP)  # paused is not dead: a lease would have run out
        with ledger.lock("submit") as taken:
            assert not taken
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with ledger.lock("submit") as taken:
            assert taken
