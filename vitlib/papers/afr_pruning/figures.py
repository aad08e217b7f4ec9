"""AFR pruning's figures, from results alone; the document has none, these show how its criteria differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.papers.afr_pruning.specs import CRITERIA
from vitlib.papers.afr_pruning.tables import NAMES
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style
from vitlib.report.statistics import summary

if TYPE_CHECKING:
    from vitlib.runs.store import Stored
    from vitlib.runs.study import Results

COLOURS = dict(zip(CRITERIA, (PALETTE[0], PALETTE[1], PALETTE[3], PALETTE[2], "0.55"), strict=True))
FAMILIES = ("qkv", "proj", "fc1", "fc2")
LINES = ("-", "--", ":")  # of the teachers
STATES = {"dense": TEACHER, "pruned": PALETTE[3], "tuned": PALETTE[0]}


@style()
def figure_accuracy(results: Results) -> Figure:
    """Table 2 as a figure: accuracy against sparsity with 95 % intervals over seeds; dashed: the dense model."""
    settings = results.study.settings
    table = summary(results.frame("generic"), ["dataset", "criterion", "sparsity"], "top1")
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, grid = canvas(1, len(settings.generic), height=2.8)
    for axes, dataset in zip(grid[0], settings.generic, strict=True):
        for place, name in enumerate(CRITERIA):
            rows = table[(table["dataset"] == dataset) & (table["criterion"] == name)]
            places = np.arange(len(rows)) + 0.05 * (place - 2)
            axes.errorbar(places, rows["measured"], rows["±"], marker="o", color=COLOURS[name], label=NAMES[name])
        row = dense[(dense["dataset"] == dataset) & (dense["teacher"] == settings.first_teacher[0])]
        axes.axhline(row["measured"].iloc[0], color=TEACHER, linestyle="--", label="dense")
        axes.set(title=f"{dataset} (for {settings.stands_for[dataset]})", xlabel="sparsity (%)", ylabel="top-1 (%)")
        axes.set_xticks(range(len(settings.sparsities)), [f"{100 * value:g}" for value in settings.sparsities])
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_backbones(results: Results) -> Figure:
    """Table 1 as a figure: accuracy by criterion and backbone with 95 % intervals over seeds; dashed: the dense models."""
    settings = results.study.settings
    table = summary(results.frame("fine"), ["teacher", "dataset", "criterion"], "top1")
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, grid = canvas(1, len(settings.fine), height=2.8)
    for axes, dataset in zip(grid[0], settings.fine, strict=True):
        for place, (teacher, colour) in enumerate(zip(settings.teachers, PALETTE, strict=False)):
            rows = table[(table["dataset"] == dataset) & (table["teacher"] == teacher)]
            places = np.arange(len(rows)) + 0.16 * (place - 0.5)
            axes.errorbar(places, rows["measured"], rows["±"], fmt="o", color=colour, label=teacher)
            best = dense[(dense["dataset"] == dataset) & (dense["teacher"] == teacher)]["measured"]
            axes.axhline(best.iloc[0], color=colour, linestyle="--", label=f"{teacher}, dense")
        sparsity = f"{100 * settings.fine_sparsity:g} %"
        axes.set(title=f"{dataset} (for {settings.stands_for[dataset]}), sparsity {sparsity}", ylabel="top-1 (%)")
        axes.set_xticks(range(len(CRITERIA)), NAMES.values())
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_density(results: Results) -> Figure:
    """Share of weights kept in each block by each criterion, one panel a matrix type, at the middle sparsity of Table 2."""
    sparsity = _middle(results)
    figure, grid = canvas(1, len(FAMILIES), height=2.5, sharey=True)
    for point, run in results.runs("diagnosis")[:1]:
        for axes, (family, values) in zip(grid[0], densities_by_family(run, sparsity).items(), strict=True):
            for name, densities in zip(CRITERIA, values, strict=True):
                axes.plot(np.arange(1, len(densities) + 1), 100 * densities, ".-", color=COLOURS[name], label=NAMES[name])
            axes.set(title=family, xlabel="block")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        figure.suptitle(f"{point['teacher']}, sparsity {100 * sparsity:g} %", fontsize=9)
    grid[0, 0].set_ylabel("kept (%)")
    legend(grid[0, -1])
    return figure


@style()
def figure_correlation(results: Results) -> Figure:
    """Ranks of weights by SNIP and ReFer in percent, teacher by teacher; right: their rank correlation by block and matrix type."""
    runs = results.runs("diagnosis")
    figure, grid = canvas(1, len(results.study.settings.teachers) + 1, height=2.7)
    for axes, (point, run) in zip(grid[0], runs, strict=False):
        axes.plot(*run.arrays["percentiles"], ".", markersize=1.5, alpha=0.5, color=PALETTE[0], label=f"weights, {point['teacher']}")
        title = f"{point['teacher']}: ρ = {run.metrics['spearman snip refer']:.2f}"
        axes.set(title=title, xlabel="rank by SNIP (%)", ylabel="rank by ReFer (%)")
    for (point, run), line in zip(runs, LINES, strict=False):
        for family, colour, values in zip(FAMILIES, PALETTE, _families(run.arrays["correlation by matrix"]), strict=False):
            label = family if line == LINES[0] else f"_{family}, {point['teacher']}"
            grid[0, -1].plot(np.arange(1, len(values) + 1), values, line, color=colour, label=label)
    lines = ", ".join(f"{point['teacher']} {line}" for (point, _), line in zip(runs, LINES, strict=False))
    grid[0, -1].set(xlabel="block", ylabel="rank correlation", title=lines)
    grid[0, -1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    legend(grid[0, -1], fontsize=6, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.12), columnspacing=0.8, handlelength=1.2)
    return figure


@style()
def figure_spectra(results: Results) -> Figure:
    """Singular values of the last block's features: dense, after the mask, after fine-tuning; first seed, middle sparsity."""
    sparsity = _middle(results)
    shown = ("snip", "refer", "afr")
    figure, grid = canvas(1, len(shown), height=2.6, sharey=True)
    for axes, name in zip(grid[0], shown, strict=True):
        for run in _first_seed(results, name, sparsity):
            for state, colour in STATES.items():
                values = run.arrays[f"spectrum {state}"][-1]
                axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=state)
        axes.set(title=f"{NAMES[name]}, sparsity {100 * sparsity:g} %", xlabel="singular value", yscale="log")
    grid[0, 0].set_ylabel("σ of the last block's features")
    legend(grid[0, 0])
    return figure


@style()
def figure_spread(results: Results) -> Figure:
    """ReFer's goal: mean singular value by block after the mask and after fine-tuning, in percent of the dense model's; mean over seeds."""
    sparsity = _middle(results)
    figure, grid = canvas(1, 2, height=2.7, sharey=True)
    for axes, (state, title) in zip(grid[0], (("pruned", "after the mask"), ("tuned", "after fine-tuning")), strict=True):
        for name in CRITERIA:
            _spread_by_block(axes, results, name, sparsity, state)
        axes.axhline(100, color=TEACHER, linestyle="--", label="dense")
        axes.set(title=f"{title}, sparsity {100 * sparsity:g} %", xlabel="block", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0, 0].set_ylabel("mean σ (% of dense)")
    legend(grid[0, 0], above=True)
    return figure


def _spread_by_block(axes: Axes, results: Results, name: str, sparsity: float, state: str) -> None:
    runs = [run for point, run in results.runs("generic") if point["criterion"] == name and point["sparsity"] == sparsity]
    if runs:
        spread = {key: np.stack([run.arrays[f"spectrum {key}"].sum(axis=1) for run in runs]) for key in ("dense", state)}
        kept = 100 * spread[state] / spread["dense"]
        axes.plot(np.arange(1, kept.shape[1] + 1), kept.mean(axis=0), ".-", color=COLOURS[name], label=NAMES[name])


def _first_seed(results: Results, name: str, sparsity: float) -> list[Stored]:
    wanted = {"criterion": name, "sparsity": sparsity, "seed": results.study.settings.seeds[0]}
    return [run for point, run in results.runs("generic") if wanted.items() <= point.items()][:1]


def _middle(results: Results) -> float:
    sparsities = results.study.settings.sparsities
    return sparsities[len(sparsities) // 2]


def densities_by_family(run: Stored, sparsity: float) -> dict[str, np.ndarray]:
    """Densities (criteria, blocks) of each matrix type, at the sparsity of the curve nearest to the one asked for."""
    place = int(np.abs(run.arrays["sparsities"] - sparsity).argmin())
    return dict(zip(FAMILIES, _families(run.arrays["densities"][:, place]), strict=True))


def _families(values: np.ndarray) -> list[np.ndarray]:
    """Values of all matrices (..., 4 blocks) apart by type; a patch embedding's, which comes first, is left out."""
    blocks = values[..., values.shape[-1] % len(FAMILIES) :]
    return [blocks[..., place :: len(FAMILIES)] for place in range(len(FAMILIES))]
