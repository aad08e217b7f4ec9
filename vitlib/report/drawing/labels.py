"""Legends that fit the figure's width, and labels at the ends of lines that do not overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

LINE = 1.25  # height of a line of text, of its font size
FIRM = 0.94  # of the figure's width, that a legend may take


def legend(axes: Axes, *, above: bool = False, leave_out: str = "_", **options) -> None:
    """The axes' legend, or one above the figure, in as many columns as fit; none where nothing is labelled.

    Labels that end in `leave_out` are left out, and each label is shown once.
    """
    entries = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True) if not label.endswith(leave_out)}
    if not entries:
        return
    if above:
        legend_above(axes.figure, entries, **options)
    else:
        axes.legend(entries.values(), entries, **options)


def legend_above(figure, entries: Mapping[str, object], *, ncols: int = 4, **options) -> None:
    """Label to handle, above the figure, in at most `ncols` columns, and no more than its width holds."""
    shown = figure.legend(entries.values(), entries, loc="outside upper center", ncols=ncols, **options)
    while ncols > 1 and shown.get_window_extent(figure.canvas.get_renderer()).width > FIRM * figure.bbox.width:
        shown.remove()
        ncols -= 1
        shown = figure.legend(entries.values(), entries, loc="outside upper center", ncols=ncols, **options)


def label_ends(axes: Axes, *, names: Mapping[str, str] | None = None, fontsize: float = 7) -> None:
    """Each labelled line's name to the right of its last point, moved up or down where names would overlap; instead of a legend.

    Args:
        names: what to write for a line's label; the label itself by default, nothing where it is empty.
    """
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_") and _has_an_end(line)]
    said = {line: (names or {}).get(line.get_label(), line.get_label()) for line in lines}
    lines = [line for line in lines if said[line]]
    if not lines:
        return
    engine = axes.figure.get_layout_engine()
    if engine:
        engine.execute(axes.figure)
    ends = {line: np.array([values[-1] for values in _finite(line)]) for line in lines}
    lines.sort(key=lambda line: ends[line][1])
    pixel = axes.figure.dpi / 72
    wanted = np.array([axes.transData.transform(ends[line])[1] for line in lines]) / pixel
    last = max(axes.transData.transform(ends[line])[0] for line in lines) / pixel
    places = spread(wanted, LINE * fontsize)
    for line, here, place in zip(lines, wanted, places, strict=True):
        away = last - axes.transData.transform(ends[line])[0] / pixel
        axes.annotate(
            said[line], ends[line], xytext=(away + 9, place - here), textcoords="offset points", va="center", ha="left", fontsize=fontsize,
            color=line.get_color(), annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places at least `gap` apart, in the order of the wanted ones (rising) and as near to them as squares count."""
    from scipy.optimize import isotonic_regression  # slow to import

    steps = gap * np.arange(len(wanted))
    return isotonic_regression(wanted - steps).x + steps


def _finite(line: Line2D) -> np.ndarray:
    data = np.asarray(line.get_data(), float)
    return data[:, np.isfinite(data).all(axis=0)]


def _has_an_end(line: Line2D) -> bool:
    return line.get_transform().contains_branch(line.axes.transData) and _finite(line).size > 0
