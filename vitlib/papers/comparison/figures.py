"""The comparison in pictures, from stored results alone."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from vitlib.grid.results import Results
from vitlib.papers.comparison.models import KINDS
from vitlib.papers.comparison.tables import table_models
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style

COSTS = {  # columns of the table, with their label, unit and its size
    "non-zero": ("non-zero parameters", "M", 1e6),
    "packed kB": ("packed file", "MB", 1e3),
    "MACs": ("MACs", "M", 1e6),
    "ONNX ms": ("ONNX latency", "ms", 1),
}
COLOURS = dict(zip(KINDS, [TEACHER, *PALETTE], strict=False))
MARKS = "osD^vP*X"


@style()
def figure_pareto(results: Results) -> Figure:
    """Top-1 over four costs, each on a logarithmic axis: further up and further left is better. Bars are 95 % intervals of the mean over
    trainings; the grey line joins the models that no other beats in both.
    """
    table = table_models(results)
    figure, axes = canvas(2, 2, height=5.2, sharey=True)
    for panel, (column, (label, unit, size)) in zip(axes.flat, COSTS.items(), strict=True):
        _draw(panel, table.dropna(subset=["top-1", column]), column, size)
        panel.set(xlabel=f"{label} ({unit})", xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
    for row in axes:
        row[0].set_ylabel("top-1 (%)")
    legend(axes[0, 0], above=True, ncols=3)
    return figure


def front(costs: pd.Series, gains: pd.Series) -> list[int]:
    """Index of the points that no other beats in both, by rising cost: none costs at most as much and gains more, or less and as much."""
    best, kept = float("-inf"), []
    for place in sorted(costs.index, key=lambda place: (costs[place], -gains[place])):
        if gains[place] > best:
            best = gains[place]
            kept.append(place)
    return kept


def _draw(axes: Axes, table: pd.DataFrame, column: str, unit: float) -> None:
    line = table.loc[front(table[column], table["top-1"])] if len(table) else table
    axes.plot(line[column] / unit, line["top-1"], color="0.8", zorder=0, label="_front")
    for kind, models in KINDS.items():
        for mark, model in zip(MARKS, models, strict=False):
            for row in table[table["model"] == model].to_dict("records"):
                axes.errorbar(row[column] / unit, row["top-1"], row["±"], fmt=mark, color=COLOURS[kind], markersize=5, label=model)
