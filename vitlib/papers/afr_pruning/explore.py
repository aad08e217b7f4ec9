"""AFR pruning's explorer: where each criterion prunes at a sparsity, and the accuracy measured nearby."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from vitlib.papers.afr_pruning.figures import COLOURS, densities_by_family
from vitlib.papers.afr_pruning.specs import CRITERIA
from vitlib.papers.afr_pruning.tables import NAMES
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style
from vitlib.report.statistics import summary
from vitlib.report.widgets import Explorer, NothingToExplore, choice, slider

if TYPE_CHECKING:
    import pandas as pd

    from vitlib.runs.store import Stored
    from vitlib.runs.study import Results


def explore_sparsity(results: Results) -> Explorer | NothingToExplore:
    """Pick a teacher, a criterion and a sparsity: density by block and matrix type, and accuracy measured at the sparsities around."""
    runs = {point["teacher"]: run for point, run in results.runs("diagnosis")}
    if not runs:
        return NothingToExplore()
    accuracy = summary(results.frame("generic"), ["criterion", "sparsity"], "top1")
    curve = results.study.settings.curve
    controls = {
        "teacher": choice("teacher", list(runs)),
        "criterion": choice("criterion", list(CRITERIA), "afr"),
        "sparsity": slider("sparsity, %", 90, round(100 * min(curve)), round(100 * max(curve)), 1),
    }

    def draw(teacher: str, criterion: str, sparsity: float) -> Figure:
        return draw_sparsity(runs[teacher], accuracy, criterion, sparsity / 100)

    return Explorer(draw, controls, width=760)


@style()
def draw_sparsity(run: Stored, accuracy: pd.DataFrame, criterion: str, sparsity: float) -> Figure:
    """Left: density by block at the nearest sparsity looked at. Right: measured accuracies (first teacher), the sparsity as a line."""
    figure, ((density, measured),) = canvas(1, 2, height=2.6)
    nearest = float(run.arrays["sparsities"][np.abs(run.arrays["sparsities"] - sparsity).argmin()])
    for colour, (family, values) in zip(PALETTE, densities_by_family(run, nearest).items(), strict=False):
        kept = 100 * values[CRITERIA.index(criterion)]
        density.plot(np.arange(1, len(kept) + 1), kept, ".-", color=colour, label=family)
    density.set(title=f"{NAMES[criterion]} at {100 * nearest:g} %", xlabel="block", ylabel="kept (%)")
    legend(density)
    for name, rows in accuracy.groupby("criterion", sort=False):
        width = 2.2 if name == criterion else 0.8
        options = {"marker": "o", "linewidth": width, "color": COLOURS[name], "label": NAMES[name]}
        measured.errorbar(100 * rows["sparsity"], rows["measured"], rows["±"], **options)
    measured.axvline(100 * sparsity, color=TEACHER, linestyle=":", label="chosen")
    measured.set(title="measured accuracy", xlabel="sparsity (%)", ylabel="top-1 (%)")
    legend(measured)
    return figure
