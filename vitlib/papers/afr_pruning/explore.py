"""AFR pruning's explorer: where each criterion prunes at a stored sparsity, and the accuracies measured with the same teacher."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.papers.afr_pruning.figures import COLOURS, TEACHERS, densities_by_family
from vitlib.papers.afr_pruning.specs import CRITERIA
from vitlib.papers.afr_pruning.tables import NAMES
from vitlib.report.figures import PALETTE, TEACHER, canvas, style
from vitlib.report.statistics import summary
from vitlib.report.widgets import Explorer, NothingToExplore, choice, steps
from vitlib.runs.reading.stored import Stored


def explore_sparsity(results: Results) -> Explorer | NothingToExplore:
    """Pick a teacher, a criterion and a stored sparsity: density by block and matrix type, and the accuracies measured with it."""
    runs = {point["teacher"]: run for point, run in results.runs("diagnosis")}
    if not runs:
        return NothingToExplore()
    stored = sorted({float(sparsity) for run in runs.values() for sparsity in run.arrays["sparsities"]})
    controls = {
        "teacher": choice("teacher", {TEACHERS.get(name, name): name for name in runs}),
        "criterion": choice("criterion", {NAMES[name]: name for name in CRITERIA}, "afr"),
        "sparsity": steps("sparsity", {f"{100 * sparsity:g} %": sparsity for sparsity in stored}, 0.9),
    }

    def draw(teacher: str, criterion: str, sparsity: float) -> Figure:
        return draw_sparsity(runs[teacher], measured_with(results, teacher), teacher, criterion, sparsity)

    return Explorer(draw, controls, width=760)


def measured_with(results: Results, teacher: str) -> pd.DataFrame:
    """Accuracies with one teacher by set, criterion and sparsity, of the first of its sets: one of Table 2, or else of Table 1."""
    generic = results.frame("generic")
    fine = results.frame("fine").assign(sparsity=results.study.settings.fine_sparsity)
    dense = [results.frame("dense").assign(sparsity=0.0, criterion=name) for name in CRITERIA]  # where nothing is pruned, all agree
    found = pd.concat([generic, fine, *dense], ignore_index=True).reindex(columns=["teacher", "dataset", "criterion", "sparsity", "top1"])
    found = found[found["teacher"] == teacher].dropna(subset="top1")
    found = found[found["dataset"].isin(found["dataset"].head(1))]
    return summary(found, ["dataset", "criterion", "sparsity"], "top1")


@style()
def draw_sparsity(run: Stored, accuracy: pd.DataFrame, teacher: str, criterion: str, sparsity: float) -> Figure:
    """Left: density by block. Right: what was measured with that teacher, the chosen sparsity as a line; or that nothing was."""
    figure, ((density, measured),) = canvas(1, 2, height=3.0)
    for colour, (family, values) in zip(PALETTE, densities_by_family(run, sparsity).items(), strict=False):
        kept = 100 * values[CRITERIA.index(criterion)]
        density.plot(np.arange(1, len(kept) + 1), kept, ".-", color=colour, label=family)
    density.set(title=f"{NAMES[criterion]} at {100 * sparsity:g} %", xlabel="block", ylabel="kept (%)", ylim=(-3, 103))
    density.xaxis.set_major_locator(MaxNLocator(integer=True))
    _draw_accuracy(measured, accuracy, TEACHERS.get(teacher, teacher), criterion, sparsity)
    for axes in (density, measured):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4, fontsize=6.5, columnspacing=0.9, handlelength=1.4)
    return figure


def _draw_accuracy(axes: Axes, accuracy: pd.DataFrame, teacher: str, criterion: str, sparsity: float) -> None:
    """Mean over seeds of each criterion, with the 95 % interval of the chosen one; equal steps from 0 to 90 and from 90 to 99 %."""
    dataset = next(iter(accuracy["dataset"]), "")
    for name, rows in accuracy[accuracy["sparsity"] > 0].groupby("criterion", sort=False):
        rows, chosen = rows.sort_values("sparsity"), name == criterion
        axes.plot(100 * rows["sparsity"], rows["measured"], ".-", linewidth=2.2 if chosen else 0.8, color=COLOURS[name], label=NAMES[name])
        if chosen:
            axes.errorbar(
                100 * rows["sparsity"], rows["measured"], rows["±"], fmt="none", elinewidth=1.0, color=COLOURS[name], label="_interval"
            )
    for dense in accuracy.loc[accuracy["sparsity"] == 0, "measured"].head(1):
        axes.axhline(dense, color=TEACHER, linestyle="--", label="dense")
    axes.axvline(100 * sparsity, color=TEACHER, linestyle=":", label=f"{100 * sparsity:g} %")
    here = accuracy[(accuracy["criterion"] == criterion) & np.isclose(accuracy["sparsity"], sparsity)]
    said = f"{here['measured'].iloc[0]:.1f} %" if len(here) else "not measured"
    axes.set(title=f"{teacher}{dataset and f', {dataset}'}: {said}", xlabel="sparsity (%)", ylabel="top-1 (%)", ylim=(0, 100))
    axes.set_xscale("function", functions=(lambda x: -np.log10(1 - np.minimum(x, 99.99) / 100), lambda y: 100 * (1 - 10.0**-y)))
    axes.set(xlim=(-5, 99), xticks=(0, 50, 80, 90, 95, 98))
