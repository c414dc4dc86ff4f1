"""Requests and tokens per minute over time, by lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from claude_pipeline.picture.frame import EMPTY_HEIGHT, Look, calm, drawn, say, short_number
from claude_pipeline.picture.palette import BLUE, VERMILLION, filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUCKETS_MAX = 90
HOUR, DAY = 60, 1440
STEPS_MINUTES = (1, 2, 5, 10, 15, 30, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY)
HEIGHT = 330


@dataclass(frozen=True)
class Flow:
    """One minute of one lane, as in `ops.throughput`; `estimated` where the time within it was spread, not measured."""

    at: datetime
    lane: str
    requests_per_min: float
    tokens_per_min: float  # input and output
    estimated: bool


@dataclass(frozen=True)
class Steps:
    """Means over buckets of equal length."""

    edges: tuple[datetime, ...]
    minutes: int
    lanes: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # requests, tokens; of each bucket


def draw_throughput(flows: Sequence[Flow], look: Look = Look()) -> str:  # noqa: B008  it is frozen
    """Two panels over one time axis; the batch lane is hatched, for a batch tells no times of its requests."""
    steps = in_steps(flows)
    peak = max((f.requests_per_min for f in flows), default=0.0)
    about = f"Peak {short_number(round(peak, 1))} requests per minute." if flows else "Nothing was answered yet."
    height = HEIGHT if flows else EMPTY_HEIGHT
    return drawn(look, height, "Throughput over time (UTC)", about, lambda figure: _fill(figure, steps, flows, look))


def in_steps(flows: Sequence[Flow], *, most: int = BUCKETS_MAX) -> Steps:
    """Minutes put together so that at most `most` buckets cover them; a minute without a row counts as none."""
    if not flows:
        return Steps((), 1, {})
    first, last = min(f.at for f in flows), max(f.at for f in flows)
    span = int((last - first).total_seconds() // 60) + 1
    minutes = next((s for s in STEPS_MINUTES if span <= s * (most - 1)), -(-span // most))
    start = datetime.fromtimestamp(first.timestamp() // (minutes * 60) * minutes * 60, UTC)
    count = int((last - start).total_seconds() // (minutes * 60)) + 1
    lanes: dict[str, tuple[list[float], list[float]]] = {}
    for flow in flows:
        requests, tokens = lanes.setdefault(flow.lane, ([0.0] * count, [0.0] * count))
        place = int((flow.at - start).total_seconds() // (minutes * 60))
        requests[place] += flow.requests_per_min / minutes
        tokens[place] += flow.tokens_per_min / minutes
    edges = tuple(start + timedelta(minutes=minutes * n) for n in range(count + 1))
    return Steps(edges, minutes, {lane: (tuple(r), tuple(t)) for lane, (r, t) in sorted(lanes.items())})


def _fill(figure: Figure, steps: Steps, flows: Sequence[Flow], look: Look) -> None:
    if not flows:
        say(figure.subplots(), "Nothing was answered yet.")
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panels = figure.subplots(2, 1, sharex=True)
    edges: Any = date2num(list(steps.edges))  # type: ignore[no-untyped-call]
    estimated = {flow.lane for flow in flows if flow.estimated}
    for panel, (axes, unit) in enumerate(zip(panels, ("requests/min", "tokens/min"), strict=True)):
        for lane, values in steps.lanes.items():
            _draw(axes, edges, values[panel], _words(lane, lane in estimated), lane, lane in estimated)
        calm(axes)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(short_number))
        axes.set_title(unit, loc="left", fontsize=12)
    locator = AutoDateLocator(tz=UTC, minticks=2, maxticks=4 if look.narrow else 8)  # type: ignore[no-untyped-call]
    panels[1].xaxis.set_major_locator(locator)
    panels[1].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=1, frameon=False)


def _words(lane: str, estimated: bool) -> str:
    name = {"batch": "batch lane", "realtime": "real-time lane"}.get(lane, lane)
    return f"{name} (estimated)" if estimated else f"{name} (measured)"


def _draw(axes: Any, edges: Any, values: Sequence[float], label: str, lane: str, estimated: bool) -> None:
    """Steps from the lane's first bucket with anything in it to its last."""
    there = [place for place, value in enumerate(values) if value]
    if not there:
        return
    first, last = there[0], there[-1] + 1
    base = BLUE if lane == "batch" else VERMILLION
    stroke = replace(base, hatch="////" if estimated else "")
    line = "--" if estimated else "-"
    axes.stairs(values[first:last], edges[first : last + 1], fill=True, label=label, linestyle=line, **filled(stroke))
