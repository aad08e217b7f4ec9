"""Experiment 1 by weight: accuracy against each of the nine, the best settings against the worst, and what of it may be chance."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.search.importance import MEASURES, SHUFFLES, beyond_chance
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.search.surrogate import fit
from vitlib.papers.multi_distillation.tables import FEWEST, complete_trials, read_as, table_importance
from vitlib.report.drawing.palette import BLUE, GREEN, VERMILLION
from vitlib.report.figures import MISSING, canvas, is_narrow, legend, legend_above, look, style

STRONGEST = 3  # weights that the best and the worst settings are compared by
THIRDS = {
    "worst third": {"color": VERMILLION, "marker": "s", "linestyle": "--", "linewidth": 1.6, "zorder": 2},
    "between": {"color": "0.75", "linewidth": 0.8, "zorder": 1},
    "best third": {"color": BLUE, "marker": "o", "linewidth": 1.6, "zorder": 3},
}
CHANCE = "0.87"


@style()
def figure_weights(results: Results) -> Figure:
    """Experiment 1: held-out top-1 against each of the nine weights, a point a trial. The legend says of how many trainings a point is the
    mean, so points of different marks scatter differently by chance. The star is the prior-work row, the grey band the search range.
    """
    figure, grid = canvas(3, 3, height=5.4, abreast=3, sharey=True)
    by_number = complete_trials(results).groupby("number", sort=False)
    guided = results.frame("guided").reindex(columns=[*LETTERS, "top1"]).dropna()
    prior = results.frame("prior").reindex(columns=[*LETTERS, "top1"]).dropna()
    does, drawn, tpe = read_as(results.study.settings.reading), look("random search"), look("TPE")
    shown = [
        (guided, "TPE (one training)", {"s": 12, "marker": tpe.marker, "facecolors": "none", "edgecolors": tpe.colour, "linewidths": 0.8}),
        (by_number.mean(), f"random search ({_trainings(by_number.size())})", {"s": 18, "marker": drawn.marker, "color": drawn.colour, "zorder": 3}),
    ]
    for axes, letter in zip(grid.flat, LETTERS, strict=True):
        for trials, label, mark in reversed(shown):
            axes.scatter(trials[letter], trials["top1"], label=label, **mark)
        label = f"prior-work row ({_trainings(pd.Series([len(prior)]))})"
        axes.scatter([prior[letter].mean()], [prior["top1"].mean()], s=50, marker="*", color=look("teacher").colour, label=label, zorder=4)
        space = getattr(results.study.settings.space, letter)
        axes.axvspan(space.low, space.high, color="0.95", zorder=0)
        axes.set_xlabel(_named(letter, does, 15 if is_narrow() else 40), labelpad=1, fontsize=6.5 if is_narrow() else 7)
    for axes in grid[:, 0]:
        axes.set_ylabel("held-out top-1 (%)")
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_parallel(results: Results) -> Figure:
    """Experiment 1: the best third of the random search's settings against the worst third, a line a setting, through the three weights
    whose rank correlation ρ with held-out top-1 is the largest and through that accuracy, all by means over a setting's trainings. Of nine
    weights a few rank high by chance: the figure of importances tells which.
    """
    trials = complete_trials(results).groupby("number", sort=False).mean().sort_values("top1", kind="stable")
    correlations = trials[[*LETTERS, "top1"]].corr(method="spearman")["top1"].reindex(LETTERS)
    chosen = list(correlations.abs().fillna(0.0).sort_values(kind="stable").index[-STRONGEST:])
    spaces = {letter: getattr(results.study.settings.space, letter) for letter in chosen}
    ends = {letter: (space.low, space.high) for letter, space in spaces.items()}
    ends["top1"] = (trials["top1"].min(), trials["top1"].max()) if len(trials) else (0.0, 100.0)
    figure, ((axes,),) = canvas(height=3.0)
    for place, (number, row) in enumerate(trials.iterrows()):
        third = _third(place, len(trials))
        places = [_place(row[name], *ends[name]) for name in ends]
        axes.plot(range(len(ends)), places, label=f"{third}, setting {number:g}", **THIRDS[third])
    _scales(axes, ends)
    if trials.empty:
        axes.text((len(ends) - 1) / 2, 0.5, MISSING, ha="center", va="center", backgroundcolor="white")
    does = read_as(results.study.settings.reading)
    names = [f"{_named(letter, does, 15 if is_narrow() else 24)}{_signed(correlations[letter])}" for letter in chosen]
    axes.set_xticks(range(len(ends)), [*names, "held-out\ntop-1 (%)"], fontsize=6.5 if is_narrow() else 7.5)
    for third in ("best third", "worst third"):
        lines = [line.get_ydata()[-1] for line in axes.get_lines() if str(line.get_label()).startswith(third)]
        if lines:
            axes.text(len(ends) - 0.92, np.mean(lines), third, color=THIRDS[third]["color"], va="center")
    axes.set_xlim(-0.3, len(ends) - 0.5)
    return figure


@style()
def figure_importance(results: Results) -> Figure:
    """How much each weight matters in the random search: two importances, shares of 1, and the rank correlation with held-out top-1. Dots:
    means over trainings of the same settings, bars from the lowest to the highest training; grey: what the highest of 19 shuffles of the
    first training's accuracies reaches, within which all may be chance. Filled dots leave it in every training; weights are sorted by how
    far their dots reach in units of it.
    """
    found = table_importance(results)
    figure, (panels,) = canvas(1, len(MEASURES), height=3.0, abreast=len(MEASURES), sharey=True)
    table = _sorted(found.set_index("weight")) if MEASURES[0] in found else None
    does = read_as(results.study.settings.reading)
    for axes, measure, colour in zip(panels, MEASURES, (BLUE, VERMILLION, GREEN), strict=True):
        if table is not None:
            _importances(axes, table, measure, colour)
        axes.set_title(measure, fontsize=7.5 if is_narrow() else None)
    names = LETTERS if table is None else list(table.index)
    panels[0].set_yticks(range(len(names)), names if is_narrow() else [f"{letter}: {does[letter]}" for letter in names])
    panels[0].invert_yaxis()
    for axes in panels[:-1]:
        axes.set(xlabel="share of 1", xlim=(0, 1), xticks=[0, 0.5, 1])
    panels[-1].axvline(0, color="0.4", linewidth=0.8, zorder=1)
    panels[-1].set(xlabel="with held-out\ntop-1" if is_narrow() else "with held-out top-1", xlim=(-1, 1), xticks=[-1, 0, 1])
    panels[1].set_xlabel(f"share of 1{_forest_error(results)}")
    legend_above(figure, {key.get_label(): key for key in _keys()}, ncols=3)
    return figure


def _importances(axes: Axes, table: pd.DataFrame, measure: str, colour: str) -> None:
    places, means, chance = np.arange(len(table)), table[measure], table[f"{measure}, by chance"]
    signs = (-1, 1) if measure == MEASURES[-1] else (1,)
    for sign in signs:
        axes.hlines(places, 0, sign * chance, color=CHANCE, linewidth=9, zorder=0)
        axes.plot(sign * chance, places, "|", color="0.45", markersize=9, label=f"{measure}, by chance")
    beyond = table.index.isin(beyond_chance(table, measure))
    ends = np.abs([table[f"{measure}, lowest"] - means, table[f"{measure}, highest"] - means])
    axes.errorbar(means, places, xerr=ends, fmt="o", color=colour, mfc="white", elinewidth=1.0, label=measure)
    axes.plot(means[beyond], places[beyond], "o", color=colour, zorder=4, label=f"{measure}, beyond chance")


def _keys() -> list[Artist]:
    dot = {"marker": "o", "color": "0.2"}
    return [
        Line2D([], [], mfc="white", label="mean and range of trainings", **dot),
        Line2D([], [], linestyle="none", label="beyond chance in each", **dot),
        Patch(color=CHANCE, label=f"by chance ({SHUFFLES} shuffles)"),
    ]


def _signed(correlation: float) -> str:
    """In a line of its own, nothing where it is not known."""
    return "" if np.isnan(correlation) else f"\nρ = {correlation:+.2f}".replace("-", "−")


def _named(letter: str, does: dict[str, str], width: int) -> str:
    """'b: weight of rkd_loss', in lines of so many letters."""
    return textwrap.fill(f"{letter}: {does[letter]}", width)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """By how far the measures reach, in units of what is by chance, on average; the farthest first."""
    reach = [table[measure].abs() / table[f"{measure}, by chance"].replace(0.0, np.nan) for measure in MEASURES]
    return table.loc[pd.concat(reach, axis=1).mean(axis=1).sort_values(ascending=False, kind="stable").index]


def _third(place: int, count: int) -> str:
    """Of the setting at a place, counted from the worst; each outer third holds at least one setting."""
    size = max(1, count // 3)
    if count < 2 or size <= place < count - size:
        return "between"
    return "worst third" if place < size else "best third"


def _place(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _scales(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """An upright line for each quantity with the values at its ends; from 0 to 1 in the figure's own units."""
    for place, (low, high) in enumerate(ends.values()):
        axes.plot([place, place], [0, 1], color="0.3", linewidth=0.9, zorder=0)
        axes.text(place, -0.03, f"{low:.3g}", ha="center", va="top", fontsize=7)
        axes.text(place, 1.03, f"{high:.3g}", ha="center", va="bottom", fontsize=7)
    axes.set(ylim=(-0.1, 1.12), yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(bottom=False)


def _trainings(counts: pd.Series) -> str:
    """Of how many trainings points are the mean, from the number of each."""
    fewest, most = (counts.min(), counts.max()) if len(counts) else (0, 0)
    if most == 1:
        return "one training"
    return f"mean of {most} trainings" if fewest == most else f"mean of {fewest} to {most} trainings"


def _forest_error(results: Results) -> str:
    """How well a forest knows the held-out accuracy of trials that it was not fitted to."""
    trials = complete_trials(results)
    if trials["number"].nunique() < FEWEST:
        return ""
    spread = trials.groupby("number")["top1"].mean().std()
    return f"\nforest: error {fit(trials, results.study.settings.space).error:.1f},\ntrials: spread {spread:.1f} points"
