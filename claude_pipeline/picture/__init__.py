"""Pictures of what ran, as SVG text: pure functions of plain rows, drawn by matplotlib, which nobody else imports.

    svg = draw_outcomes([Outcome("succeeded", 1190), Outcome("errored", 10, good=False)], Look("outcomes"))

The ground is transparent, series differ by hatch as well as by a colour that everybody can tell apart, and the ink is a
mid-tone that can be read on light and on dark; on a page of ours it is `currentColor`.
"""

from claude_pipeline.picture.cost import CostDay, draw_cost
from claude_pipeline.picture.frame import CURRENT_COLOR, MID_TONE, NARROW, WIDE, Look, markdown_image
from claude_pipeline.picture.length import LengthBin, draw_lengths
from claude_pipeline.picture.outcome import Outcome, draw_outcomes
from claude_pipeline.picture.throughput import Flow, draw_throughput
from claude_pipeline.picture.turnaround import draw_turnarounds

__all__ = [
    "CURRENT_COLOR",
    "MID_TONE",
    "NARROW",
    "WIDE",
    "CostDay",
    "Flow",
    "LengthBin",
    "Look",
    "Outcome",
    "draw_cost",
    "draw_lengths",
    "draw_outcomes",
    "draw_throughput",
    "draw_turnarounds",
    "markdown_image",
]
