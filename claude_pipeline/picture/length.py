"""How long answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_pipeline.picture.frame import EMPTY_HEIGHT, Look, calm, drawn, mark_median, say, short_number
from claude_pipeline.picture.palette import BLUE, filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 220


@dataclass(frozen=True)
class LengthBin:
    """Answers of at least `low` and less than `high` characters."""

    low: float
    high: float
    answers: int


def draw_lengths(bins: Sequence[LengthBin], look: Look = Look(), *, median: float | None = None) -> str:  # noqa: B008
    """A histogram that was counted elsewhere; the dataset never comes here."""
    total = sum(b.answers for b in bins)
    about = f"{total:,} answers" + (f", median {short_number(median)} characters." if median is not None else ".")
    title = "Length of answers (answers by characters)"
    return drawn(look, HEIGHT if bins else EMPTY_HEIGHT, title, about, lambda figure: _fill(figure, bins, median))


def _fill(figure: Figure, bins: Sequence[LengthBin], median: float | None) -> None:
    axes = figure.subplots()
    if not bins:
        say(axes, "There are no answers yet.")
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.bar(
        [b.low for b in bins], [b.answers for b in bins], [b.high - b.low for b in bins], align="edge", **filled(BLUE)  # type: ignore[arg-type]
    )  # fmt: skip
    calm(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    if median is not None:
        mark_median(axes, median, f"{short_number(median)} characters")
        figure.legend(loc="outside lower left", frameon=False)
