"""`claude-pipeline status --watch`: the live full-screen table, or one plain line per look where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from claude_pipeline.alert import Sla
from claude_pipeline.catalog import UNITS_PER_USD
from claude_pipeline.cli.live import Lane, Live, Way
from claude_pipeline.money import dollars
from claude_pipeline.report import rate

NAME_MAX, WORD_MAX = 24, 10  # characters that a column keeps at least; that the last one does
WIDE = 120  # columns from which on there is room for models and tokens in
# Colours of the terminal's own palette that show on a light background as on a dark one; words say the same. Nothing is
# dim: on a light background that is hardly to be read.
ALARM, CARE = "bold red", "magenta"
SLA_STYLE = {Sla.IN_TIME: "", Sla.WARNED: CARE, Sla.EXPIRED: ALARM}


def watch(look: Callable[[], Live], home: str, *, every_seconds: float) -> None:
    """Look again and again until Ctrl-C."""
    console = Console(highlight=False)
    try:
        if not console.is_terminal or console.is_dumb_terminal:
            while True:
                for line in plain(look()):
                    print(line, flush=True)
                time.sleep(every_seconds)
        with Screen(console=console, screen=True, auto_refresh=False) as screen:
            while True:
                screen.update(page(look(), home, *console.size), refresh=True)
                time.sleep(every_seconds)
    except KeyboardInterrupt:
        return  # watching has no end of its own


def plain(live: Live) -> list[str]:
    """One line per workload, for a log."""
    at = f"{live.at:%Y-%m-%d %H:%M:%S}"
    lines = [f"{at} STOPPED: {live.stopped}"] if live.stopped else []
    rate_of = {lane.workload: f", {_rate(lane, lane.requests_per_minute)} requests/min" for lane in live.lanes}
    told = dict(sentence.split(": ", 1) for sentence in live.next)
    for way in live.ways:
        rest = "nothing left to do" if way.at_rest else told.get(way.workload, way.state)
        lines.append(
            f"{at} {way.workload} {way.snapshot}: {_done(way)} done, {_cost(way)}{rate_of.get(way.workload, '')}; {rest}"
        )
    return lines or [f"{at} nothing has run yet"]


def page(live: Live, home: str, width: int, height: int) -> RenderableType:
    """The screen; what does not fit is counted, the most urgent stands first."""
    wide = width >= WIDE
    head = [_line(f"claude-pipeline  {live.at:%Y-%m-%d %H:%M:%S} UTC  {home}", "bold")]
    if live.stopped:
        head.append(Text(f"STOPPED: {live.stopped}", ALARM))
    if not live.ways:
        head.append(Text("nothing has run here yet"))
    foot = [Text(f"next   {sentence}") for sentence in live.next]
    foot += [Text(f"note   {note}", CARE) for note in live.notes]
    foot += [Text(f"alert  {alert}", CARE) if wide else _line(f"alert  {alert}", CARE) for alert in live.alerts]
    estimate = "; ~ over what ended within the last hour" if any(lane.estimated for lane in live.lanes) else ""
    last = _line(f"Ctrl-C ends; the work goes on without this{estimate}")
    room = height - sum(_lines(part, width) for part in (*head, *foot, last)) - bool(foot)
    parts: list[RenderableType] = [*head]
    for cells, share in ((_ways(live, wide), 0.5), (_lanes(live, wide), 0.6), (_flights(live, wide), 1.0)):
        shown = _shown(len(cells.rows), int((room - 2) * share))
        if shown:
            parts += [Text(), cells.table(shown)]
            room -= 2 + shown + (shown < len(cells.rows))
    return Group(*parts, *([Text()] if foot else []), *foot, last)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _lines(part: Text, width: int) -> int:
    return 1 if part.no_wrap else max(1, -(-len(part) // width))


def _shown(rows: int, room: int) -> int:
    """How many rows are shown: counting those that are not takes a line as well."""
    return rows if rows <= room else max(0, room - 1)


@dataclass
class _Cells:
    """The rows of a table, before it is known how many fit."""

    names: tuple[str, ...]
    right: tuple[str, ...] = ()
    rows: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # style, cells

    def add(self, *cells: str, style: str = "") -> None:
        self.rows.append((style, cells))

    def table(self, shown: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold underline", padding=(0, 2, 0, 0))
        for place, name in enumerate(self.names):
            longest = max(len(name), *(len(cells[place]) for _, cells in self.rows))
            # The last column alone gives way where the screen is narrow, and names that are very long.
            least = 0 if place == len(self.names) - 1 and longest > WORD_MAX else min(longest, NAME_MAX)
            justify: Literal["left", "right"] = "right" if name in self.right else "left"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=least)
        for style, cells in self.rows[:shown]:
            table.add_row(*map(escape, cells), style=style)
        if shown < len(self.rows):
            table.add_row(f"+{len(self.rows) - shown:,} more")
        return table


def _ways(live: Live, wide: bool) -> _Cells:
    names = ("workload", "snapshot", "done", "cost of budget", "chunks")
    cells = _Cells(("workload", "snapshot", "records", *names[2:]) if wide else names, right=("records",))
    for way in live.ways:
        chunks = ", ".join(f"{count:,} {state}" for state, count in way.chunks.items()) or way.state
        records = (f"{way.records:,}",) if wide else ()
        said = f"at rest: {chunks}" if way.at_rest else chunks
        cells.add(way.workload, way.snapshot, *records, _done(way), _cost(way), said)
    return cells


def _lanes(live: Live, wide: bool) -> _Cells:
    rates = ("requests/min", "tokens in/min", "tokens out/min") if wide else ("req/min", "in/min", "out/min")
    cells = _Cells(("workload", "lane", *(["model"] if wide else []), "in flight", *rates), right=rates)
    for lane in live.lanes:
        of = "" if not lane.batches else " in 1 batch" if lane.batches == 1 else f" in {lane.batches:,} batches"
        amounts = (lane.requests_per_minute, lane.input_tokens_per_minute, lane.output_tokens_per_minute)
        said = [_rate(lane, amount) for amount in amounts]
        cells.add(lane.workload, lane.lane, *([lane.model] if wide else []), f"{lane.requests:,}{of}", *said)
    return cells


def _flights(live: Live, wide: bool) -> _Cells:
    names = ("workload", "chunk", *(["batch"] if wide else []), "requests", "age", "left of 24 h", "")
    cells = _Cells(names, right=("requests", "age", "left of 24 h"))
    for flight in live.flights:
        place = (flight.workload, flight.chunk, *([flight.batch] if wide else []), f"{flight.requests:,}")
        word = "" if flight.sla is Sla.IN_TIME else flight.sla.value.upper()
        cells.add(*place, _hours(flight.age_hours), _hours(flight.hours_left), word, style=SLA_STYLE[flight.sla])
    return cells


def _done(way: Way) -> str:
    if not way.requests:
        return "nothing to ask"
    return f"{way.done:,}/{way.requests:,} {way.done / way.requests:4.0%}"


def _cost(way: Way) -> str:
    cost = dollars(round(way.cost_usd * UNITS_PER_USD))
    return cost if way.budget_usd is None else f"{cost} of ${way.budget_usd:,.2f}"


def _rate(lane: Lane, amount: float | None) -> str:
    if amount is None:
        return "?"  # nothing of it has ended within the hour
    return f"{'~' * lane.estimated}{rate(amount)}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    minutes = int(abs(hours) * 60)
    return f"{'-' if hours < 0 else ''}{minutes // 60} h {minutes % 60:02d} min"
