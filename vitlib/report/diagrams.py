"""Boxes and arrows, for figures that show how something is built."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from vitlib.report.figures import NARROW

SIZES = (7.5, 7.0, 6.5, 6.0)  # of text, in points
LETTER = 0.58  # mean width of a letter, of the font size


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """A rounded box with its lower left corner at (x, y); the text is white on dark colours, smaller and in several lines where it is long.

    The axes' limits are set before.
    """
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.1", fc=colour, ec="0.3", lw=0.8))
    red, green, blue = to_rgb(colour)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    said, size = fitting(axes, text, width)
    axes.text(x + width / 2, y + height / 2, said, ha="center", va="center", fontsize=size, color="white" if dark else "black")


def fitting(axes: Axes, text: str, width: float) -> tuple[str, float]:
    """Text in lines and its font size, so that it is about as wide as `width` of the axes, which fill the figure from edge to edge."""
    low, high = axes.get_xlim()
    columns = axes.get_subplotspec().get_gridspec().ncols
    available = 72 * axes.figure.get_figwidth() / columns * width / (high - low)
    size = next((size for size in SIZES if LETTER * size * len(text) <= available), SIZES[-1])
    letters = max(len(max(text.split(), key=len, default="")), int(available / (LETTER * size)))
    return "\n".join(textwrap.wrap(text, letters)) if len(text) > letters else text, size


def arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float, colour: str = "0.3") -> None:
    axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 0.9})


def note(axes: Axes, x: float, y: float, text: str, colour: str = "black", **options) -> None:
    """Text beside the boxes, which takes no room from them; smaller in a figure of one column."""
    size = SIZES[0] if axes.figure.get_figwidth() > NARROW else SIZES[-1]
    axes.text(x, y, text, **{"fontsize": size, "color": colour, "va": "center"} | options).set_in_layout(False)
