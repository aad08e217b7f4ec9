"""The comparison in pictures, from stored results alone."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from vitlib.grid.results import Results
from vitlib.papers.comparison.models import KINDS
from vitlib.papers.comparison.tables import table_models
from vitlib.report.figures import Look, canvas, legend, look, style

COSTS = {  # columns of the table, with their label, unit and its size
    "non-zero": ("non-zero parameters", "M", 1e6),
    "packed kB": ("packed file", "MB", 1e3),
    "MACs": ("MACs", "M", 1e6),
    "ONNX ms": ("ONNX latency", "ms", 1),
}
STUDENTS = dict(zip(KINDS["students"], ("no distillation", "token", "DINO + MAE", "multi-distillation"), strict=True))
FAMILIES = {"dense": "dense", "AFR": "AFR", "WeCoLoRA": "WeCoLoRA", "both": "WeCoLoRA + AFR"}
BESIDE = dict(zip(STUDENTS, (1.05, 0.95, 1.0, 0.9), strict=True))  # of the cost: students of one size stand beside each other
AWAY = (((4, 6), "left"), ((-4, 6), "right"), ((4, -6), "left"))  # of a mark, in points: first, second and third step of a method


@style()
def figure_pareto(results: Results) -> Figure:
    """Top-1 over four costs, each on a logarithmic axis: further up and further left is better. Bars are 95 % intervals of the mean over
    trainings (none with one seed); the grey line joins the models that no other beats in both. Numbers beside the marks are AFR's sparsity
    in percent and WeCoLoRA's r. The four students are nearly equal in cost: their marks stand up to 10 % beside it.
    """
    table = table_models(results)
    figure, axes = canvas(2, 2, height=5.2, abreast=2, narrow_height=4.4, sharey=True)
    for panel, (column, (label, unit, size)) in zip(axes.flat, COSTS.items(), strict=True):
        _draw(panel, table.dropna(subset=["top-1", column]), column, size)
        panel.set(xlabel=f"{label} ({unit})", xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_ylabel("top-1 (%)" if panel.get_subplotspec().is_first_col() else "")
    legend(axes[0, 0], above=True)
    return figure


def front(costs: pd.Series, gains: pd.Series) -> list[int]:
    """Index of the points that no other beats in both, by rising cost: none costs at most as much and gains more, or less and as much."""
    best, kept = float("-inf"), []
    for place in sorted(costs.index, key=lambda place: (costs[place], -gains[place])):
        if gains[place] > best:
            best = gains[place]
            kept.append(place)
    return kept


def look_of(model: str) -> tuple[str, Look, str, int]:
    """Label, look, what stands beside the mark (the step of a method that has several), and its place among the steps."""
    if model in STUDENTS:
        return model, look(STUDENTS[model]), "", 0
    kind, models = next((kind, models) for kind, models in KINDS.items() if model in models)
    step = model.removeprefix(kind).removesuffix("%").strip().removeprefix("r = ") if len(models) > 1 else ""
    return (
        FAMILIES[kind],
        look(FAMILIES[kind]).but(marker=look(FAMILIES[kind]).marker or "*"),
        step,
        models.index(model) if len(models) > 2 else 0,
    )


def _draw(axes: Axes, table: pd.DataFrame, column: str, unit: float) -> None:
    line = table.loc[front(table[column], table["top-1"])] if len(table) else table
    axes.plot(line[column] / unit, line["top-1"], color="0.8", zorder=0, label="_front")
    for row in table.to_dict("records"):
        label, shown, step, order = look_of(row["model"])
        place = BESIDE.get(row["model"], 1.0) * row[column] / unit
        axes.errorbar(place, row["top-1"], row["±"], label=label, **shown.points | {"markersize": 7 if shown.marker == "*" else 5})
        shift, side = AWAY[order % len(AWAY)]
        beside = {"xytext": shift, "textcoords": "offset points", "ha": side, "va": "center", "fontsize": 6.5}
        axes.annotate(step, (place, row["top-1"]), color=shown.colour, **beside)
    axes.margins(x=0.09)
