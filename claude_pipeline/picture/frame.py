"""What all pictures share: the look, the ink, and the way from a figure to SVG text that may stand inside a page."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 720, 360  # px: a desk's column, a phone's
CURRENT_COLOR = "currentColor"  # only where the SVG stands inside HTML
MID_TONE = "#7c7c7c"  # contrast of 4.2 both with white and with the ground of Dagster's dark theme
TEXT_PX, TITLE_PX = 12, 14
EMPTY_HEIGHT = 64  # px, of a picture that says that there is nothing to draw
PX_PER_INCH = 72  # of matplotlib's SVG: a point is drawn as a unit, which is shown as a pixel
FONT = "system-ui, sans-serif"
SVG = "http://www.w3.org/2000/svg"
INK = "#010203"  # what pictures draw with: replaced by the look's
_REFERENCE = re.compile(r"""(?:url\(|href=")#([\w-]+)""")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # in XML, whoever escapes it


@dataclass(frozen=True)
class Look:
    """How a picture is drawn. `name` begins the ids inside: unique on a page."""

    name: str = "figure"
    width: int = WIDE
    ink: str = MID_TONE

    @property
    def narrow(self) -> bool:
        return self.width <= NARROW


def drawn(look: Look, height: int, title: str, about: str, draw: Callable[[Figure], None]) -> str:
    """The SVG text of a figure that `draw` fills. `about` says in a sentence what is to be seen."""
    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",  # text stays text: it can be read aloud, selected and found
        "svg.hashsalt": look.name,
        "text.parse_math": False,  # "$" is money
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "font.size": TEXT_PX,
        "axes.labelsize": TEXT_PX,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 1.2,
    }
    text = io.StringIO()
    # A glyph that DejaVu lacks is no matter: only its width is guessed, the reader's fonts draw it.
    with warnings.catch_warnings(), matplotlib.rc_context(settings):  # type: ignore[arg-type]
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(look.width / PX_PER_INCH, height / PX_PER_INCH), layout="constrained")
        figure.suptitle(title, x=0.0, ha="left", fontsize=TITLE_PX, fontweight="bold")
        draw(figure)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return _cleaned(text.getvalue(), look, f"{title}. {about}")


def plain(text: str, *, limit: int = 40) -> str:
    """A label from outside: no character that XML cannot carry, and short."""
    kept = " ".join(_FORBIDDEN.sub("\ufffd", text).split())
    return kept if len(kept) <= limit else f"{kept[: limit - 1]}…"


def calm(axes: Axes, grid: str = "y") -> None:
    """Little ink: no ticks, faint lines across."""
    axes.tick_params(length=0, pad=6)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=INK, alpha=0.18, linewidth=0.8)  # type: ignore[arg-type]
    axes.spines["left" if grid == "y" else "bottom"].set_visible(False)


def mark_median(axes: Axes, at: float, words: str) -> None:
    """A dotted line across, named in the legend."""
    axes.axvline(at, color=INK, linewidth=1.6, linestyle=":", label=f"median {words}")


def say(axes: Axes, text: str) -> None:
    """Where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.0, 0.5, text, transform=axes.transAxes, ha="left", va="center")


def markdown_image(svg: str, alt: str) -> str:
    """A picture for a place that shows Markdown, as Dagster's metadata; draw it with an ink of its own."""
    said = plain(alt, limit=200).replace("[", "(").replace("]", ")")
    return f"![{said}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def short_number(value: float, _position: object = None) -> str:
    """`950`, `1.2k`, `3M`; small ones with the digits that show them."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if letter == 'k' else factor):.4g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def _cleaned(text: str, look: Look, about: str) -> str:
    """Only what draws: no prologue, no foreign address, no id that nothing uses, none that two pictures share."""
    Tree.register_namespace("", SVG)
    root = Tree.fromstring(text)
    used = set(_REFERENCE.findall(text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}style":  # would rule the whole page
                parent.remove(child)
    for element in root.iter():
        kept = {}
        for name, value in element.attrib.items():
            if name == "id" and value not in used:
                continue
            if name == "id":
                kept[name] = f"{look.name}-{value}"
            elif name.endswith("}href"):
                kept["href"] = value.replace("#", f"#{look.name}-")
            else:
                own = value.replace("url(#", f"url(#{look.name}-").replace(INK, look.ink)
                kept[name] = re.sub("font-family:[^;]+", f"font-family: {FONT}", own)
        element.attrib.clear()
        element.attrib.update(kept)
    _entitle(root, about)
    return Tree.tostring(root, encoding="unicode")


def _entitle(root: Tree.Element, about: str) -> None:
    """Size by the page, and words for who cannot see it."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", about)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    title = Tree.Element(f"{{{SVG}}}title")
    title.text = about
    root.insert(0, title)
