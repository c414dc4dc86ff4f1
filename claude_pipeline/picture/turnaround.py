"""How long batches took, against the 24 hours that the API gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from claude_pipeline.picture.frame import EMPTY_HEIGHT, Look, calm, drawn, mark_median, say
from claude_pipeline.picture.palette import BLUE, VERMILLION, filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLA_HOURS = 24.0
HEIGHT = 230
BINS = 28
LEAST_HOURS = 1 / 60
TICKS_HOURS = {
    1 / 60: "1 min", 5 / 60: "5 min", 0.25: "15 min", 1.0: "1 h", 4.0: "4 h", 24.0: "24 h",
}  # fmt: skip


def draw_turnarounds(hours: Sequence[float], look: Look = Look()) -> str:  # noqa: B008  it is frozen
    """A histogram over hours from created to ended, on a scale of ratios so that minutes and a day both show."""
    about = (
        f"{len(hours)} batches, median {spell(median(hours))}, longest {spell(max(hours))}."
        if hours
        else "No batch has ended yet."
    )
    title = "Batch turnaround (batches, by time from created to ended)"
    if look.narrow:
        title = "Batch turnaround (batches by time)"
    return drawn(look, HEIGHT if hours else EMPTY_HEIGHT, title, about, lambda figure: _fill(figure, hours, look))


def spell(hours: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def _fill(figure: Figure, hours: Sequence[float], look: Look) -> None:
    axes = figure.subplots()
    if not hours:
        say(axes, "No batch has ended yet.")
        return
    from matplotlib.ticker import MaxNLocator, NullLocator

    low = min(LEAST_HOURS, *hours) if min(hours) > 0 else 1 / 3600
    high = max(SLA_HOURS * 1.6, max(hours) * 1.1)
    step = math.log(high / low) / BINS
    edges = [low * math.exp(step * n) for n in range(BINS + 1)]
    axes.hist([max(h, low) for h in hours], edges, **filled(BLUE))  # type: ignore[arg-type]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = {at: word for at, word in TICKS_HOURS.items() if low <= at <= high}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    calm(axes)
    middle = median(hours)
    mark_median(axes, max(middle, low), spell(middle))
    axes.axvline(
        SLA_HOURS, color=VERMILLION.color, linewidth=2, linestyle="--", label="24 h: what is unanswered expires"
    )
    figure.legend(loc="outside lower left", ncols=1 if look.narrow else 2, frameon=False)
