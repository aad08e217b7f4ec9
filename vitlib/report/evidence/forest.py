"""All claims of a scoreboard in one figure: differences and intervals, coloured by verdict."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from vitlib.report.figures import PALETTE, TEACHER, canvas, is_narrow, legend_above, style

COLOURS = {"holds": PALETTE[0], "fails": PALETTE[3], "undecided": TEACHER}
MARKERS = {"holds": "o", "fails": "X", "undecided": "o"}
ROW, LINE = 0.17, 0.095  # inches: a row, and each further line of its sentence
LONGEST, WRAPPED = 76, 38  # letters of a sentence, and of its lines in a column
TICKS = (-20, -5, -2, -1, 0, 1, 2, 5, 20, 50)
FEWER = (-20, -2, 0, 2, 20)


@style()
def forest(board: pd.DataFrame) -> Figure:
    """Every claim: its difference and 95 % interval, and the verdict that is corrected for all. Above, in units of the effect that the
    document states, which is 1 (hollow); below, where it states none, in the claim's own unit.

    Args:
        board: columns sentence, document, difference, low, high, unit, effect (NaN where the document states none), verdict.
    """
    parts = [board[board["effect"].notna()], board[board["effect"].isna()]]
    lines = [max(1, len(rows) + rows["document"].nunique()) for rows in parts]
    row = ROW + LINE if is_narrow() else ROW
    figure, ((above,), (below,)) = canvas(2, 1, height=row * sum(lines) + 1.4, height_ratios=lines)
    places = _rows(above, parts[0], parts[0]["effect"])
    above.plot(np.ones(len(places)), places, "D", mfc="white", mec="0.3", markersize=3.5, label="the document", zorder=1)
    above.set(xlabel=_title("in units of the document's effect"))
    _rows(below, parts[1], 1.0)
    below.set(xlabel=_title("the document states no number: in points, or [unit]"))
    keys = [Line2D([], [], color=COLOURS[name], marker=MARKERS[name], mfc=_filling(name), label=name) for name in COLOURS]
    keys.append(Line2D([], [], color="0.3", marker="D", mfc="white", linestyle="none", markersize=3.5, label="the document's effect"))
    legend_above(figure, {key.get_label(): key for key in keys})
    return figure


def _rows(axes: Axes, rows: pd.DataFrame, effect: pd.Series | float) -> np.ndarray:
    """The claims under the names of their documents; the heights that they stand at."""
    places = np.arange(len(rows)) + (rows["document"] != rows["document"].shift()).cumsum().to_numpy(float)
    for verdict, colour in COLOURS.items():
        chosen = (rows["verdict"] == verdict).to_numpy()
        mean, low, high = ((rows[name] / effect)[chosen] for name in ("difference", "low", "high"))
        axes.errorbar(
            mean, places[chosen], xerr=np.array([mean - low, high - mean]), fmt=MARKERS[verdict], color=colour, markersize=4,
            mfc=_filling(verdict), label=verdict,
        )  # fmt: skip
    axes.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    axes.set_xscale("symlog", linthresh=2, linscale=1.2)
    axes.xaxis.set_major_locator(FixedLocator(FEWER if is_narrow() else TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    named = dict(zip(places, map(_sentence, rows.itertuples()), strict=True))
    titles = {min(places[rows["document"] == name]) - 1: name for name in rows["document"].unique()}
    ticks = {**named, **titles}
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize=6)
    for place, label in zip(ticks, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if place in titles else "normal")
    axes.set_ylim(max(ticks, default=0) + 0.6, -0.6)
    axes.margins(x=0.06)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    return places


def _filling(verdict: str) -> str:
    return "white" if verdict == "undecided" else COLOURS[verdict]


def _sentence(row) -> str:
    unit = "" if row.unit == "points" else f" [{row.unit}]"
    if is_narrow():
        return "\n".join(textwrap.wrap(row.sentence, WRAPPED - len(unit), max_lines=2, placeholder=" …")) + unit
    return textwrap.shorten(row.sentence, LONGEST, placeholder=" …") + unit


def _title(text: str) -> str:
    return textwrap.fill(text, WRAPPED // 2) if is_narrow() else text
