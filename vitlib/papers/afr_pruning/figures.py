"""AFR pruning's figures, from results alone; the document has none, these show how its criteria differ."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.grid.stand_ins import titled
from vitlib.papers.afr_pruning.specs import CRITERIA, Settings
from vitlib.papers.afr_pruning.tables import NAMES, TEACHERS
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style
from vitlib.report.statistics import summary
from vitlib.runs.store import Stored

COLOURS = dict(zip(CRITERIA, (PALETTE[0], PALETTE[1], PALETTE[3], PALETTE[2], "0.55"), strict=True))
FAMILIES = ("qkv", "proj", "fc1", "fc2")
WIDE, IN_A_ROW = 2, 5  # sets beside each other whose names take one line; panels in a row
LINES = ("-", "--", ":")  # of the teachers
OFFSET = 0.02  # between criteria at one sparsity, of the distance between sparsities
STATES = {"dense": TEACHER, "pruned": PALETTE[3], "tuned": PALETTE[0]}


@style()
def figure_accuracy(results: Results) -> Figure:
    """Table 2 as a figure: accuracy against sparsity, first teacher; mean over seeds with its 95 % interval. Dashed: the model fine-tuned
    without pruning; random: random masks. All points stand at the sparsities on the axis and are drawn beside each other for legibility.
    """
    settings = results.study.settings
    table = summary(results.frame("generic"), ["dataset", "criterion", "sparsity"], "top1")
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, grid = canvas(1, len(settings.generic), height=2.8)
    for axes, dataset in zip(grid[0], settings.generic, strict=True):
        for place, name in enumerate(CRITERIA):
            rows = table[(table["dataset"] == dataset) & (table["criterion"] == name)]
            places = np.arange(len(rows)) + OFFSET * (place - len(CRITERIA) // 2)
            axes.errorbar(places, rows["measured"], rows["±"], fmt="o-", markersize=4, color=COLOURS[name], label=NAMES[name])
        row = dense[(dense["dataset"] == dataset) & (dense["teacher"] == settings.first_teacher[0])]
        axes.axhline(row["measured"].iloc[0], color=TEACHER, linestyle="--", label="dense")
        axes.set(title=titled(settings, dataset, lines=1 + (len(settings.generic) > WIDE)), xlabel="sparsity (%)", ylabel="top-1 (%)")
        axes.set_xticks(range(len(settings.sparsities)), [f"{100 * value:g}" for value in settings.sparsities])
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_backbones(results: Results) -> Figure:
    """Table 1 as a figure: accuracy by criterion and teacher on the fine-grained sets; mean over seeds with its 95 % interval. Dashed: the
    teachers fine-tuned without pruning; random: random masks.
    """
    settings = results.study.settings
    table = summary(results.frame("fine"), ["teacher", "dataset", "criterion"], "top1")
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, panels = _panels(len(settings.fine))
    framed = _narrow if len(panels) > WIDE else _wide
    for axes, dataset in zip(panels, settings.fine, strict=True):
        for place, (teacher, colour) in enumerate(zip(settings.teachers, PALETTE, strict=False)):
            rows = table[(table["dataset"] == dataset) & (table["teacher"] == teacher)]
            places = np.arange(len(rows)) + 0.16 * (place - 0.5)
            name = TEACHERS.get(teacher, teacher)
            axes.errorbar(places, rows["measured"], rows["±"], fmt="o", color=colour, label=name)
            best = dense[(dense["dataset"] == dataset) & (dense["teacher"] == teacher)]["measured"]
            axes.axhline(best.iloc[0], color=colour, linestyle="--", label=f"{name}, dense")
        framed(axes, settings, dataset)
    legend(panels[0], above=True)
    return figure


@style()
def figure_density(results: Results) -> Figure:
    """Share of weights kept in each block by each criterion, a panel for each matrix type; first teacher, first generic set, the middle
    sparsity of Table 2. One scoring each (first seed), so that there is no interval; random: random masks.
    """
    sparsity = _middle(results)
    figure, grid = canvas(1, len(FAMILIES), height=2.5, sharey=True)
    for point, run in results.runs("diagnosis")[:1]:
        for axes, (family, values) in zip(grid[0], densities_by_family(run, sparsity).items(), strict=True):
            for name, densities in zip(CRITERIA, values, strict=True):
                axes.plot(np.arange(1, len(densities) + 1), 100 * densities, ".-", color=COLOURS[name], label=NAMES[name])
            axes.set(title=family, xlabel="block")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        figure.suptitle(f"{TEACHERS.get(point['teacher'], point['teacher'])}, sparsity {100 * sparsity:g} %", fontsize=9)
    grid[0, 0].set_ylabel("kept (%)")
    legend(grid[0, -1])
    return figure


@style()
def figure_correlation(results: Results) -> Figure:
    """Left panels: ranks of some evenly spaced weights by SNIP and by ReFer, in percent of all prunable weights, a dot a weight; ρ is
    Spearman's over all of them. Right: the same correlation within each matrix. First generic set, one scoring each (first seed), so that
    there is no interval.
    """
    runs = results.runs("diagnosis")
    figure, grid = canvas(1, len(results.study.settings.teachers) + 1, height=2.7)
    for axes, (point, run) in zip(grid[0], runs, strict=False):
        name = TEACHERS.get(point["teacher"], point["teacher"])
        axes.plot(*run.arrays["percentiles"], ".", markersize=1.5, alpha=0.5, color=PALETTE[0], label=f"weights, {name}")
        title = f"{name}: ρ = {run.metrics['spearman snip refer']:.2f}"
        axes.set(title=title, xlabel="rank by SNIP (%)", ylabel="rank by ReFer (%)")
    right = grid[0, -1]
    for family, colour in zip(FAMILIES, PALETTE, strict=False):
        right.plot([], [], color=colour, label=family)
    for (point, run), line in zip(runs, LINES, strict=False):
        name = TEACHERS.get(point["teacher"], point["teacher"])
        right.plot([], [], line, color=TEACHER, label=name)
        for family, colour, values in zip(FAMILIES, PALETTE, _families(run.arrays["correlation by matrix"]), strict=False):
            right.plot(np.arange(1, len(values) + 1), values, line, color=colour, label=f"{family} ({name})")
    right.set(xlabel="block", ylabel="rank correlation")
    right.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    options = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "columnspacing": 0.8, "handlelength": 1.8}
    legend(right, leave_out=")", fontsize=6, ncols=3, **options)
    return figure


@style()
def figure_spectra(results: Results) -> Figure:
    """Singular values of the last block's features of the pruning samples: of the dense model, after the mask, and after fine-tuning. First
    generic set, first seed, the middle sparsity of Table 2.
    """
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
    """ReFer's goal, on the pruning samples: mean singular value of each block's features after the mask and after fine-tuning, in percent
    of the dense model's; mean over generic sets and seeds, at the middle sparsity of Table 2 (held-out images and intervals: in the table).
    Random: random masks.
    """
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


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """So many axes, a few in a row; the last row may end early."""
    rows = -(-count // IN_A_ROW)
    figure, grid = canvas(rows, -(-count // rows), height=2.8 if rows == 1 else 2.3 * rows)
    for axes in grid.ravel()[count:]:
        axes.axis("off")
    return figure, list(grid.ravel()[:count])


def _wide(axes: Axes, settings: Settings, dataset: str) -> None:
    axes.set(title=f"{titled(settings, dataset)}, sparsity {100 * settings.fine_sparsity:g} %", ylabel="top-1 (%)")
    axes.set_xticks(range(len(CRITERIA)), NAMES.values())


def _narrow(axes: Axes, settings: Settings, dataset: str) -> None:
    axes.set_title(titled(settings, dataset, lines=2), fontsize=7)
    axes.set_ylabel(f"top-1 (%), sparsity {100 * settings.fine_sparsity:g} %" if axes.get_subplotspec().is_first_col() else "")
    axes.set_xticks(range(len(CRITERIA)), NAMES.values(), rotation=90)
    axes.tick_params(labelsize=6.5)
    for line in axes.lines:
        line.set_markersize(3)


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
