"""AFR pruning's figures, from results alone; the document has none, these show how its criteria differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from vitlib.grid.results import Results
from vitlib.grid.stand_ins import titled
from vitlib.papers.afr_pruning.specs import CRITERIA, Settings
from vitlib.papers.afr_pruning.tables import NAMES, TEACHERS
from vitlib.report.drawing.plots import curves, heat_map, points
from vitlib.report.figures import Look, canvas, distinct, is_narrow, label_ends, legend, look, style
from vitlib.report.statistics import summary
from vitlib.runs.reading.stored import Stored

LOOKS = {name: look(label) for name, label in NAMES.items()}
COLOURS = {name: found.colour for name, found in LOOKS.items()}
DENSE = look("dense")
FAMILIES = ("qkv", "proj", "fc1", "fc2")
WIDE, IN_A_ROW = 2, 5  # sets beside each other whose names take one line; panels in a row
OFFSET = 0.02  # between criteria at one sparsity, of the distance between sparsities
MARGIN = 0.15  # left and right of the sparsities, of the distance between them
STATES = {"pruned": "after the mask", "tuned": "after fine-tuning"}
BINS = 10  # of ranks, along each axis
WRITTEN = 14  # blocks beside each other whose values are written


@style()
def figure_accuracy(results: Results) -> Figure:
    """Table 2 as a figure: accuracy against sparsity, first teacher; mean over seeds with its 95 % interval. Dashed: the model fine-tuned
    without pruning; random: random masks. All points stand at the sparsities on the axis and are drawn beside each other for legibility.
    """
    settings = results.study.settings
    order = {value: place for place, value in enumerate(settings.sparsities)}
    beside = {name: OFFSET * (place - len(CRITERIA) // 2) for place, name in enumerate(CRITERIA)}
    frame = results.frame("generic").reindex(columns=["dataset", "criterion", "sparsity", "top1"])
    frame = frame.assign(name=frame["criterion"].map(NAMES), x=frame["sparsity"].map(order) + frame["criterion"].map(beside))
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, grid = canvas(1, len(settings.generic), height=2.8)
    for axes, dataset in zip(grid[0], settings.generic, strict=True):
        rows = frame[frame["dataset"] == dataset].rename(columns={"top1": "value"})
        curves(axes, rows, {NAMES[name]: LOOKS[name] for name in CRITERIA}, bars=True)
        row = dense[(dense["dataset"] == dataset) & (dense["teacher"] == settings.first_teacher[0])]
        axes.plot([-2 * MARGIN / 3, len(order) - 1 + 2 * MARGIN / 3], [row["measured"].iloc[0]] * 2, label="dense", **DENSE.rule)
        axes.set(title=titled(settings, dataset, lines=1 + (len(settings.generic) > WIDE)), xlabel="sparsity (%)", ylabel="top-1 (%)")
        axes.set_xticks(range(len(order)), [f"{100 * value:g}" for value in order])
        axes.set_xlim(-MARGIN, len(order) - 1 + MARGIN)
    label_ends(grid[0, -1])
    return figure


@style()
def figure_backbones(results: Results) -> Figure:
    """Table 1 as a figure: accuracy by criterion and teacher on the fine-grained sets; mean over seeds with its 95 % interval, faint dots
    single seeds. Dashed: the teachers fine-tuned without pruning; random: random masks.
    """
    settings = results.study.settings
    looks = {TEACHERS.get(name, name): found for name, found in _looks_of_teachers(settings.teachers).items()}
    beside = {name: 0.3 * (place - (len(looks) - 1) / 2) for place, name in enumerate(settings.teachers)}
    order = {name: place for place, name in enumerate(CRITERIA)}
    frame = results.frame("fine").reindex(columns=["teacher", "dataset", "criterion", "top1"]).rename(columns={"top1": "value"})
    frame = frame.assign(
        name=frame["teacher"].map(lambda name: TEACHERS.get(name, name)),
        place=frame["criterion"].map(order) + frame["teacher"].map(beside),
    )
    dense = summary(results.frame("dense"), ["teacher", "dataset"], "top1")
    figure, panels = _panels(len(settings.fine))
    many = len(panels) > WIDE
    for axes, dataset in zip(panels, settings.fine, strict=True):
        points(axes, frame[frame["dataset"] == dataset], looks, sideways=False, each=not many)
        for teacher, (name, found) in zip(settings.teachers, looks.items(), strict=True):
            best = dense[(dense["dataset"] == dataset) & (dense["teacher"] == teacher)]["measured"].iloc[0]
            axes.plot([-0.4, len(CRITERIA) - 0.6], [best, best], color=found.colour, linestyle="--", linewidth=1.0, label=f"{name}, dense")
        (_narrow if many else _wide)(axes, settings, dataset)
    if many:
        legend(panels[0], above=True)
    else:
        label_ends(panels[-1])
    return figure


@style()
def figure_density(results: Results) -> Figure:
    """Share of weights kept in each block (across) by each criterion (down), a panel for each matrix type; first teacher, first generic
    set, the middle sparsity of Table 2. One scoring each (first seed), so that there is no interval; random: random masks, which keep the
    same share everywhere.
    """
    sparsity = _middle(results)
    figure, grid = canvas(2, 2, height=3.3, sharey=True)
    panels = dict(zip(FAMILIES, grid.flat, strict=True))
    found = {family: pd.DataFrame() for family in FAMILIES}
    for point, run in results.runs("diagnosis")[:1]:
        for family, values in densities_by_family(run, sparsity).items():
            found[family] = _by_block(100 * np.asarray(values), NAMES.values())
        figure.suptitle(f"{TEACHERS.get(point['teacher'], point['teacher'])}, sparsity {100 * sparsity:g} %", fontsize=9)
    most = max((table.to_numpy().max(initial=0.0) for table in found.values()), default=0.0)
    _heat_maps(panels, found, PowerNorm(0.5, 0, max(most, 1.0)), "weights kept (%)", fmt=".0f", cmap="Blues")
    return figure


@style()
def figure_correlation(results: Results) -> Figure:
    """Left: ranks of the weights by SNIP and by ReFer, in percent of all prunable weights; the colour says how often a pair of ranks is
    found, 1 if the scores had nothing to do with each other; ρ is Spearman's over all weights. Right: the same correlation within each
    matrix. First generic set, one scoring each (first seed), so that there is no interval.
    """
    runs, teachers = results.runs("diagnosis"), results.study.settings.teachers
    figure, grid = canvas(len(teachers), 2, height=2.2 * len(teachers), width_ratios=[1, 2.2])
    ranks, matrices = {}, {}
    names = [TEACHERS.get(name, name) for name in teachers]
    for point, run in runs:
        name = TEACHERS.get(point["teacher"], point["teacher"])
        ranks[name] = (*run.arrays["percentiles"], run.metrics["spearman snip refer"])
        matrices[name] = _by_block(np.asarray(_families(run.arrays["correlation by matrix"])), FAMILIES)
    _pairs_of_ranks({name: axes for name, axes in zip(names, grid[:, 0], strict=True)}, ranks)
    panels = {f"{name}: within each matrix": axes for name, axes in zip(names, grid[:, 1], strict=True)}
    found = {title: matrices.get(name, pd.DataFrame()) for title, name in zip(panels, names, strict=True)}
    values = np.concatenate([table.to_numpy().ravel() for table in found.values()])
    low, high = (np.floor(10 * values.min()) / 10, np.ceil(10 * values.max()) / 10) if values.size else (0.0, 1.0)
    _heat_maps(panels, found, Normalize(low, high), "rank correlation", fmt=".2f", cmap="Blues")
    return figure


@style()
def figure_spectra(results: Results) -> Figure:
    """How much of each singular value of the last block's features is left after the mask and after fine-tuning, in percent of the dense
    model's singular value of the same rank; mean over seeds, bands: its 95 % interval. On the pruning samples of the first generic set, at
    the middle sparsity of Table 2; random: random masks.
    """
    sparsity, dataset = _middle(results), next(iter(results.study.settings.generic))
    runs = [(point, run) for point, run in results.runs("generic") if point["sparsity"] == sparsity and point["dataset"] == dataset]
    left = {state: [(NAMES[point["criterion"]], _share(run, state)) for point, run in runs] for state in STATES}
    return _by_state(left, sparsity, "singular value, from the largest", "σ of the last block (% of dense)", marker="")


@style()
def figure_spread(results: Results) -> Figure:
    """ReFer's goal, on the pruning samples: mean singular value of each block's features after the mask and after fine-tuning, in percent
    of the dense model's; mean over generic sets and seeds at the middle sparsity of Table 2, bands: its 95 % interval over seeds (held-out
    images: in the table). Random: random masks.
    """
    sparsity = _middle(results)
    runs = [(point, run) for point, run in results.runs("generic") if point["sparsity"] == sparsity]
    left = {state: [(NAMES[name], kept) for name in CRITERIA for kept in _kept_by_seed(runs, name, state)] for state in STATES}
    return _by_state(left, sparsity, "block", "mean σ (% of dense)")


def _by_state(left: dict[str, list[tuple[str, np.ndarray]]], sparsity: float, of: str, what: str, **options) -> Figure:
    """Curves of what is left in percent, by name and counted from 1; a panel a state, the dense model as a dashed line."""
    figure, grid = canvas(1, len(STATES), height=2.8, sharey=True)
    for axes, (state, title) in zip(grid[0], STATES.items(), strict=True):
        parts = [pd.DataFrame({"name": name, "x": np.arange(1, len(values) + 1), "value": values}) for name, values in left[state]]
        frame = pd.concat(parts) if parts else pd.DataFrame(columns=["name", "x", "value"])
        curves(axes, frame, {NAMES[name]: LOOKS[name] for name in CRITERIA}, **options)
        last = frame["x"].max() if len(frame) else 2
        axes.plot([1, last], [100, 100], label="dense", **DENSE.rule)
        axes.set(title=f"{title}, sparsity {100 * sparsity:g} %", xlabel=of, yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_percent(axes)
    for axes in grid[0] if is_narrow() else grid[0, :1]:
        axes.set_ylabel(what)
    label_ends(grid[0, -1])
    return figure


def _share(run: Stored, state: str) -> np.ndarray:
    """Singular values of the last block's features in percent of the dense model's."""
    return 100 * run.arrays[f"spectrum {state}"][-1] / run.arrays["spectrum dense"][-1]


def _kept_by_seed(runs: list[tuple[dict, Stored]], name: str, state: str) -> Iterator[np.ndarray]:
    """Mean singular value by block in percent of the dense model's, of each seed: of all its sets together."""
    seeds = dict.fromkeys(point["seed"] for point, _ in runs)
    for seed in seeds:
        mine = [run for point, run in runs if point["criterion"] == name and point["seed"] == seed]
        if mine:
            sums = {key: np.stack([run.arrays[f"spectrum {key}"].sum(axis=1) for run in mine]) for key in ("dense", state)}
            yield (100 * sums[state] / sums["dense"]).mean(axis=0)


def _plain_percent(axes: Axes) -> None:
    """Ticks of a logarithmic axis written as numbers: 2, 5, 10."""
    low, high = axes.get_ylim()
    ticks = [digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5)]
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _heat_maps(panels: dict[str, Axes], found: dict[str, pd.DataFrame], norm: Normalize, label: str, *, fmt: str, cmap: str) -> None:
    """A table in each panel by its title, on one scale with one colour bar; values are written where they fit."""
    written = all(len(table.columns) <= WRITTEN for table in found.values()) and not (is_narrow() and fmt == ".2f")
    for title, axes in panels.items():
        if len(found[title]):
            heat_map(axes, found[title], name=title, cmap=cmap, norm=norm, cbar=False, annot=written, fmt=fmt, annot_kws={"size": 6})
        axes.set(title=title, xlabel="block")
        axes.tick_params(axis="y", labelrotation=0)
    _colour_bar(panels, norm, cmap, label)


def _pairs_of_ranks(panels: dict[str, Axes], ranks: dict[str, tuple[np.ndarray, np.ndarray, float]]) -> None:
    """How often ranks by SNIP (across) and by ReFer (up) are found together, in units of what independent ranks would have."""
    edges = np.linspace(0, 100, BINS + 1)
    counts = {name: np.histogram2d(one, other, [edges, edges])[0] for name, (one, other, _) in ranks.items()}
    often = {name: count.T * count.size / count.sum() for name, count in counts.items()}
    norm = TwoSlopeNorm(1.0, 0.0, max([2.0, *(values.max() for values in often.values())]))
    for name, axes in panels.items():
        if name in often:
            axes.pcolormesh(edges, edges, often[name], norm=norm, cmap="RdBu_r", gid=f"{name}: ranks")
        rho = f": ρ = {ranks[name][2]:.2f}" if name in ranks else ""
        axes.set(title=f"{name}{rho}", xlabel="rank by SNIP (%)", ylabel="rank by ReFer (%)", aspect="equal")
        axes.set(xticks=[0, 50, 100], yticks=[0, 50, 100])
        axes.grid(False)
    _colour_bar(panels, norm, "RdBu_r", "times as often as by chance")


def _colour_bar(panels: dict[str, Axes], norm: Normalize, cmap: str, label: str) -> None:
    """One below the panels of a column; below the last of them where all panels stand in one column."""
    axes = list(panels.values())[-1:] if is_narrow() else list(panels.values())
    axes[0].figure.colorbar(ScalarMappable(norm, cmap), ax=axes, label=label, location="bottom", shrink=0.8, aspect=30)


def _by_block(values: np.ndarray, names: Iterable[str]) -> pd.DataFrame:
    """A table of values (names, blocks), blocks counted from 1."""
    return pd.DataFrame(values, index=list(names), columns=np.arange(1, values.shape[1] + 1))


def _looks_of_teachers(teachers: Iterable[str]) -> dict[str, Look]:
    """Of the two that the document has their own, of others one each."""
    others = distinct([name for name in teachers if name not in TEACHERS])
    return {name: look(TEACHERS[name]) if name in TEACHERS else others[name] for name in teachers}


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """So many axes, a few in a row; the last row may end early."""
    in_a_row = min(IN_A_ROW, 2) if is_narrow() else IN_A_ROW
    rows = -(-count // in_a_row)
    columns = -(-count // rows)
    figure, grid = canvas(rows, columns, height=2.8 if rows == 1 else 2.3 * rows, abreast=columns)
    for axes in grid.ravel()[count:]:
        axes.axis("off")
    return figure, list(grid.ravel()[:count])


def _wide(axes: Axes, settings: Settings, dataset: str) -> None:
    axes.set(title=f"{titled(settings, dataset)}, sparsity {100 * settings.fine_sparsity:g} %", ylabel="top-1 (%)")
    axes.set_xticks(range(len(CRITERIA)), NAMES.values(), rotation=30 if is_narrow() else 0)


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
