"""Boxes and arrows, for figures that show how something is built."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """A rounded box with its lower left corner at (x, y); the text is white on dark colours."""
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.1", fc=colour, ec="0.3", lw=0.8))
    red, green, blue = to_rgb(colour)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")


def arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float, colour: str = "0.3") -> None:
    axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 0.9})
