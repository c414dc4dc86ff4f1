"""Cost by day and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from claude_pipeline.picture.frame import EMPTY_HEIGHT, Look, calm, drawn, plain, say
from claude_pipeline.picture.palette import SERIES, filled, stroke_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, ROW_HEIGHT, HEAD_HEIGHT = 260, 30, 50
TOTALS_MAX = 10  # days; with more, sums above the bars would run into each other
TOTALS_MAX_NARROW = 5
OTHERS = "other models"


@dataclass(frozen=True)
class CostDay:
    """USD of one model on one UTC day, as in `ops.costs`."""

    day: date
    model: str
    usd: float


def draw_cost(rows: Sequence[CostDay], look: Look = Look()) -> str:  # noqa: B008  it is frozen
    """Stacked bars by day; with a single day, one bar for each model."""
    table = by_model(rows)
    days = sorted({row.day for row in rows})
    total = sum(row.usd for row in rows)
    about = f"{money(total)} on {len(days)} day{'s' * (len(days) != 1)}."
    if len(days) > 1:
        return drawn(
            look, HEIGHT, "Cost by day and model (USD)", about, lambda figure: _bars(figure, days, table, look)
        )
    height = HEAD_HEIGHT + ROW_HEIGHT * len(table) if table else EMPTY_HEIGHT
    title = f"Cost by model, {days[0]:%Y-%m-%d} (USD)" if days else "Cost by model (USD)"
    return drawn(look, height, title, about, lambda figure: _one_day(figure.subplots(), table))


def by_model(rows: Sequence[CostDay]) -> dict[str, dict[date, float]]:
    """Dearest model first; those that no colour is left for are put together."""
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        total[row.model] += row.usd
    order = sorted(total, key=lambda model: (-total[model], model))
    own = order if len(order) <= len(SERIES) else order[: len(SERIES)]
    found: dict[str, dict[date, float]] = {model: defaultdict(float) for model in own}
    for row in rows:
        found.setdefault(row.model if row.model in own else OTHERS, defaultdict(float))[row.day] += row.usd
    return found


def money(usd: float) -> str:
    """With the digits that show small sums: `$12.30`, `$0.0042`."""
    if usd == 0 or usd >= 0.1:
        return f"${usd:,.2f}"
    return f"${usd:.2g}" if usd >= 1e-4 else f"${usd:.1e}"


def _bars(figure: Figure, days: list[date], table: dict[str, dict[date, float]], look: Look) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = figure.subplots()
    places = range(len(days))
    base = [0.0] * len(days)
    for number, (model, costs) in enumerate(table.items()):
        heights = [costs.get(day, 0.0) for day in days]
        axes.bar(places, heights, 0.7, bottom=base, label=plain(model), **filled(stroke_of(number)))  # type: ignore[arg-type]
        base = [b + h for b, h in zip(base, heights, strict=True)]
    if len(days) <= (TOTALS_MAX_NARROW if look.narrow else TOTALS_MAX):
        for place, top in enumerate(base):
            axes.annotate(money(top), (place, top), (0, 3), textcoords="offset points", ha="center")
    calm(axes)
    axes.margins(x=0.02, y=0.12)
    shown = max(1, -(-len(days) // (4 if look.narrow else 9)))
    axes.set_xticks(list(places)[::shown], [f"{day:%m-%d}" for day in days][::shown])
    axes.set_xlim(-0.8, len(days) - 0.2)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: money(value)))
    figure.legend(loc="outside lower left", ncols=1 if look.narrow else 3, frameon=False)


def _one_day(axes: Axes, table: dict[str, dict[date, float]]) -> None:
    if not table:
        say(axes, "Nothing was billed yet.")
        return
    for number, (model, costs) in enumerate(table.items()):
        total = sum(costs.values())
        axes.barh(plain(model), total, 0.62, **filled(stroke_of(number)))  # type: ignore[arg-type]
        axes.annotate(money(total), (total, number), (5, 0), textcoords="offset points", va="center")
    bare(axes)


def bare(axes: Axes) -> None:
    """Rows of labelled bars: no scale is needed."""
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)
