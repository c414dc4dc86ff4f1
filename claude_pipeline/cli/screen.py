"""What people read in the terminal: one line per event while it works, a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from claude_pipeline.errors import one_line
from claude_pipeline.report import duration

if TYPE_CHECKING:
    from rich.status import Status

    from claude_pipeline.report import Summary


PLAIN_WIDTH = 160  # columns, where there is no terminal


class Screen:
    """Progress on stderr: a live line in a terminal, plain lines elsewhere; results on stdout."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._progress = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PLAIN_WIDTH)
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        self._quiet = quiet
        self._live: Status | None = None
        self._lock = Lock()

    def stage(self, name: str, sentence: str) -> None:
        """Something was done, in a stage of the journey."""
        if not self._quiet:
            self._progress.print(f"[bold]{name:<10}[/bold]", _seen(sentence), soft_wrap=True)

    def now(self, sentence: str) -> None:
        """What is going on; a line that replaces the one before it, silent when not a terminal."""
        if self._quiet or not self._progress.is_terminal:
            return
        with self._lock:  # a step says from its own thread how far it is
            if self._live is None:
                self._live = self._progress.status(_seen(sentence), spinner_style="")  # its green is faint on white
                self._live.start()
            self._live.update(_seen(sentence))

    def still(self) -> None:
        """Take the live line away."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.still()

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for label, value in rows:
            table.add_row(_seen(label), _seen(value))
        self._out.print()
        self._out.print(table)

    def grid(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
        table = Table(
            *map(_seen, columns), title=title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for row in rows:
            table.add_row(*(_seen(shown(value)) for value in row))
        self._out.print(table)

    def say(self, text: str = "") -> None:
        self._out.print("\n".join(map(one_line, text.split("\n"))), markup=False, soft_wrap=True)

    def summary(self, summary: Summary) -> None:
        self.table("Summary", summary.rows())


def _seen(text: str) -> str:
    """A text of anybody's: no markup of rich's, no code that a terminal obeys, on one line."""
    return escape(one_line(text))


def shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case _:
            text = " ".join(str(value).split())
            return text if len(text) <= 80 else f"{text[:79]}…"


def age(seconds: float) -> str:
    return duration(seconds)
