"""Colours, each with a hatch, so that colour never stands alone.

Four of Okabe and Ito's (Color Universal Design, 2008), which people with any kind of colour vision tell apart: those
that have a contrast of at least 3 with white and with near-black. Whatever comes after them is grey.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stroke:
    """How one series is drawn."""

    color: str
    hatch: str


BLUE = Stroke("#0072b2", "")
VERMILLION = Stroke("#d55e00", "/////")
GREEN = Stroke("#009e73", "....")
PURPLE = Stroke("#cc79a7", "xxx")
GREY = Stroke("#7c7c7c", "---")
SOLID = 1.0  # opacity of what has no hatch
SERIES = (BLUE, VERMILLION, GREEN, PURPLE)


def stroke_of(number: int) -> Stroke:
    """Of the series with that number, from 0."""
    return SERIES[number] if number < len(SERIES) else GREY


def filled(stroke: Stroke) -> dict[str, object]:
    """What matplotlib's patches are told."""
    from matplotlib.colors import to_rgba

    return {
        # Between the lines of a hatch the ground shows: SVG would apply an opacity to the lines as well.
        "facecolor": "none" if stroke.hatch else to_rgba(stroke.color, SOLID),
        "edgecolor": stroke.color,
        "hatch": stroke.hatch,
        "linewidth": 1.2,
    }
