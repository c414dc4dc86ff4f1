"""The process of the console script ends as its command says, with all that was written and registered done."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ended(code: str, *words: str, **streams: int) -> subprocess.CompletedProcess[str]:
    """A process that runs `code`, with these words behind the command's name."""
    call = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([sys.executable, "-c", code, *words], text=True, check=False, timeout=60, **call)  # type: ignore[call-overload,no-any-return]


LEAVES = """\
import atexit, os, sys, threading, time
from claude_pipeline.cli.console import LastExit

class Left:
    def __del__(self, write=os.write):
        write(1, b"taken apart\\n")

last = LastExit()
sys.left = Left()
sys.left.itself = sys.left  # only the interpreter's own end would find it
atexit.register(print, "exit function")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()  # outlives the program: no clock to move
{last}
"""


@pytest.mark.parametrize(("words", "code"), [(["catalog"], 0), (["no-such-command"], 2), (["run", "no-such"], 2)])
def test_it_ends_with_the_commands_code(words: list[str], code: int) -> None:
    done = ended("from claude_pipeline.cli.console import console; console()", *words)
    assert done.returncode == code
    assert (done.stdout if code == 0 else done.stderr).strip()


def test_threads_and_exit_functions_have_their_turn_and_nothing_is_taken_apart() -> None:
    done = ended(LEAVES.format(last="last.code = 3"))
    assert (done.returncode, done.stdout.split("\n")) == (3, ["thread", "exit function", ""])


@pytest.mark.parametrize(("last", "code"), [("", 0), ("raise LookupError('here')", 1)])
def test_an_end_of_which_no_code_is_known_is_pythons_own(last: str, code: int) -> None:
    done = ended(LEAVES.format(last=last))
    assert (done.returncode, done.stdout.split("\n")) == (code, ["thread", "exit function", "taken apart", ""])
    assert ("LookupError: here" in done.stderr) == bool(last)


def test_a_reader_that_went_away_is_no_success() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = ended("from claude_pipeline.cli.console import console; console()", "catalog", stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode != 0


def test_the_installed_command_is_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"claude-pipeline": "claude_pipeline.cli.console:console"}
