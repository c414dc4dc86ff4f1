"""The pictures of a summary, drawn by a process beside this one, which imports matplotlib while this one does other things.

For a command that ends with them: of a run of 1,000 records they were a seventh, most of it the import (2026-11-27).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import orjson

from claude_pipeline.picture.summary import SummaryRows, draw_summary

MODULE = "claude_pipeline.picture"  # what the process runs: `serve`


class DrawingProcess:
    """A process that draws what it is asked for, and ends with whoever started it, however that ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._drawn = self._process.stdin, self._process.stdout

    @property
    def id(self) -> int:
        return self._process.pid

    def draw(self, rows: SummaryRows) -> dict[str, str] | None:
        """As `draw_summary`; None where the process cannot say."""
        try:
            self._asked.write(rows.to_json() + b"\n")
            self._asked.flush()
            pictures: dict[str, str] = orjson.loads(self._drawn.readline())
        except (OSError, TypeError, orjson.JSONDecodeError):  # it died, or a row has no JSON form
            return None
        return pictures

    def end(self) -> None:
        """At once; what it draws just now is dropped."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # a question that it never read
            self._asked.close()
        self._drawn.close()


_process: DrawingProcess | None = None


@contextmanager
def drawn_beside() -> Iterator[DrawingProcess | None]:
    """`pictures_of` asks a process of its own, which starts now, for as long as the `with` lasts. One at a time.

    None where there is none: matplotlib is imported here already, or the machine starts no more processes.
    """
    global _process
    started = None
    if "matplotlib.figure" not in sys.modules:
        with suppress(OSError):
            started = DrawingProcess()
    if started is None:
        yield None
        return
    _process = started
    try:
        yield started
    finally:
        _process = None
        started.end()


def pictures_of(rows: SummaryRows) -> dict[str, str]:
    """The SVG text of each picture by its name, drawn beside this process, or here where none draws there or it died."""
    there = _process.draw(rows) if _process is not None else None
    return draw_summary(rows) if there is None else there


def serve(asked: BinaryIO, drawn: BinaryIO) -> None:
    """Draw a line's rows until there is none. matplotlib is imported before the first."""
    import matplotlib.backends.backend_svg
    import matplotlib.dates
    import matplotlib.figure

    del matplotlib  # it stays imported, for those that draw
    for line in asked:
        drawn.write(orjson.dumps(draw_summary(SummaryRows.from_json(line))) + b"\n")
        drawn.flush()
