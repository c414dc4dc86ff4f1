"""What became of the records: one labelled bar for each outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_pipeline.picture.cost import bare
from claude_pipeline.picture.frame import Look, drawn, plain, say
from claude_pipeline.picture.palette import BLUE, VERMILLION, filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD_HEIGHT, ROW_HEIGHT = 50, 30


@dataclass(frozen=True)
class Outcome:
    """Records that ended so. `good`: their answer can be used."""

    name: str
    records: int
    good: bool = True


def draw_outcomes(rows: Sequence[Outcome], look: Look = Look()) -> str:  # noqa: B008  it is frozen
    """Bars of counts with their share of all records; those that are not good are hatched."""
    total = sum(row.records for row in rows)
    about = ", ".join(f"{row.records:,} {plain(row.name)}" for row in rows) + "." if total else "There are no records."
    height = HEAD_HEIGHT + ROW_HEIGHT * max(len(rows), 1)
    return drawn(look, height, "Outcomes (records)", about, lambda figure: _fill(figure, rows, total))


def share(part: int, whole: int) -> str:
    """`12 %`, `0.08 %`; never 0 % or 100 % where that is not exactly so."""
    if part in (0, whole):
        return f"{100 * part // max(whole, 1)} %"
    percent = 100 * part / whole
    for digits in (0, 1, 2):
        if round(percent, digits) not in (0, 100) and (
            10 < percent < 90 or (digits and min(percent, 100 - percent) * 10**digits >= 5)
        ):
            return f"{percent:.{digits}f} %"
    return "< 0.05 %" if percent < 50 else "> 99.95 %"


def _fill(figure: Figure, rows: Sequence[Outcome], total: int) -> None:
    axes = figure.subplots()
    if not total:
        say(axes, "There are no records.")
        return
    for number, row in enumerate(rows):
        axes.barh(number, row.records, 0.62, **filled(BLUE if row.good else VERMILLION))  # type: ignore[arg-type]
        said = f"{row.records:,} ({share(row.records, total)})"
        axes.annotate(said, (row.records, number), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows])
    bare(axes)
