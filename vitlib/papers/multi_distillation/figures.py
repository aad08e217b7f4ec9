"""Multi-distillation's figures, from results alone; the document prints none of results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.search.importance import MEASURES
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.papers.multi_distillation.search.surrogate import fit
from vitlib.papers.multi_distillation.tables import (
    FEWEST,
    METHODS,
    SEARCHES,
    STEPS,
    complete_trials,
    frame_results,
    held_out_frame,
    label_weights,
    table_importance,
)
from vitlib.report.diagrams import arrow, box
from vitlib.report.figures import PALETTE, TEACHER, canvas, legend, style
from vitlib.report.statistics import summary

COLOURS = {"random": PALETTE[0], "tpe": PALETTE[1]}
GROUPS = {"kd": PALETTE[0], "rkd": PALETTE[1], "skd": PALETTE[2]}
FORMULAS = {  # of each loss, by the field of the reading that shapes it
    "kd": {"ce+kl": "a [CE + KL(peer ‖ self)]", "ce": "a CE", "kl": "a KL(peer ‖ self)"},
    "relation_reading": {
        "threshold": "b [d distance$_f$ + e angle$_g$]",
        "multiplicative": "b [d f distance + e g angle]",
        "trade-off": "b f [d distance + e angle]",
        "ctsl": "b [d distance + e f angle\n    + g KL(peer ‖ self)]",
    },
    "exit_form": {"additive": "c [CE + h soft + i hint]", "convex": "c [(1 - h) CE + h soft + i hint]"},
}
TERMS = {  # of the total loss, by group: darker and lighter shades
    "CE": "#01456b",
    "KL": "#5aa9d6",
    "distance": "#8a5803",
    "angle": "#f0b858",
    "relation KL": "#f7dcae",
    "exits CE": "#015a42",
    "exits soft": "#2fb88d",
    "exits hint": "#a3dfcb",
}


@style()
def figure_method(results: Results) -> Figure:
    """The combined model: two peers of one shape with exits, and the three losses of peer 1 with the nine weights that scale them. Coloured
    arrows lead from what teaches to what learns; peer 2 is trained likewise. A drawing: nothing in it is measured.
    """
    reading = results.study.settings.reading
    figure, ((axes,),) = canvas(height=3.1)
    axes.set(xlim=(0, 12.6), ylim=(0, 6.6))
    axes.axis("off")
    for y, name in ((4.3, "peer 1"), (0.9, "peer 2 (trained likewise; its exits are not drawn)")):
        for stage in range(4):
            box(axes, 0.3 + 1.75 * stage, y, 1.45, 0.9, f"stage {stage + 1}", PALETTE[2])
            if stage < 3:
                arrow(axes, 1.75 + 1.75 * stage, y + 0.45, 2.0 + 1.75 * stage, y + 0.45)
        box(axes, 7.7, y, 1.5, 0.9, "classifier", PALETTE[2])
        arrow(axes, 7.0, y + 0.45, 7.65, y + 0.45)
        axes.text(0.3, y - 0.35, f"{name}: {_network(results)}", fontsize=7.5)
    for stage in range(3):
        box(axes, 0.35 + 1.75 * stage, 5.75, 1.35, 0.6, f"exit {stage + 1}", "#a3dfcb")
        arrow(axes, 1.02 + 1.75 * stage, 5.25, 1.02 + 1.75 * stage, 5.7)
    arrow(axes, 8.45, 5.25, 5.4, 6.1, GROUPS["skd"])
    if reading.compares_outputs:
        colour = GROUPS["kd" if "kl" in reading.kd else "rkd"]
        arrow(axes, 8.45, 1.85, 8.45, 4.2, colour)
        axes.text(8.6, 3.0, "outputs", fontsize=7, color=colour)
    arrow(axes, 6.3, 1.85, 6.3, 4.2, GROUPS["rkd"])
    axes.text(6.15, 3.0, "relations of features", fontsize=7, color=GROUPS["rkd"], ha="right")
    axes.text(7.3, 6.0, "deepest teaches exits", fontsize=7, color=GROUPS["skd"])
    for y, colour, (field, formulas) in zip((5.1, 4.4, 3.7), GROUPS.values(), FORMULAS.items(), strict=True):
        axes.text(9.5, y, formulas[getattr(reading, field)], fontsize=7.5, color=colour)
    return figure


@style()
def figure_weights(results: Results) -> Figure:
    """Experiment 1: held-out top-1 against each of the nine weights, a point a trial. The legend says of how many trainings a point is the
    mean, so points of different colours scatter differently by chance. The star is the prior-work row, the grey band the search range.
    """
    figure, grid = canvas(3, 3, height=5.2, sharey=True)
    by_number = complete_trials(results).groupby("number", sort=False)
    guided = results.frame("guided").reindex(columns=[*LETTERS, "top1"]).dropna()
    prior = results.frame("prior").reindex(columns=[*LETTERS, "top1"]).dropna()
    shown = [
        ("random", by_number.mean(), f"random search ({_trainings(by_number.size())})"),
        ("tpe", guided, "TPE (one training)"),
    ]
    for axes, letter in zip(grid.flat, LETTERS, strict=True):
        for name, trials, label in shown:
            axes.scatter(trials[letter], trials["top1"], s=12, color=COLOURS[name], alpha=0.7, linewidths=0, label=label)
        label = f"prior-work row ({_trainings(pd.Series([len(prior)]))})"
        axes.scatter([prior[letter].mean()], [prior["top1"].mean()], s=45, marker="*", color=PALETTE[3], label=label, zorder=3)
        space = getattr(results.study.settings.space, letter)
        axes.axvspan(space.low, space.high, color="0.95", zorder=0)
        axes.set_xlabel(letter, labelpad=1)
    for axes in grid[:, 0]:
        axes.set_ylabel("held-out top-1 (%)")
    legend(grid[0, 0], above=True)
    return figure


@style()
def figure_parallel(results: Results) -> Figure:
    """Experiment 1: every trial of the random search as a line over the nine weights, each in units of its search range, coloured by
    held-out top-1 (mean over the trial's trainings).
    """
    figure, ((axes,),) = canvas(height=2.8)
    trials = complete_trials(results).groupby("number", sort=False).mean().sort_values("top1")
    if len(trials):
        shades = ScalarMappable(Normalize(trials["top1"].min(), trials["top1"].max()), "viridis")
        for number, row in trials.iterrows():
            axes.plot(range(9), _in_range(results, row), color=shades.to_rgba(row["top1"]), alpha=0.8, label=f"trial {number}")
        figure.colorbar(shades, ax=axes, label="held-out top-1 (%)")
    axes.set_xticks(range(9), [_span(results, letter) for letter in LETTERS], fontsize=7)
    axes.set(ylabel="place in its range", ylim=(-0.05, 1.05))
    return figure


@style()
def figure_importance(results: Results) -> Figure:
    """How much each weight matters in the random search: two importances, shares of 1 (left), and the rank correlation with held-out top-1
    (right). Bars are means over trainings of the same settings, whiskers reach from the lowest to the highest training, dashes are the
    highest of 19 shuffles of the first training's accuracies, within which all may be chance. The title sets a forest's out-of-bag error
    against the standard deviation of the trials.
    """
    figure, ((left, right),) = canvas(1, 2, height=2.7)
    found, places = table_importance(results), np.arange(len(LETTERS))
    for place, (axes, measure) in enumerate(zip((left, left, right), MEASURES, strict=True)):
        if measure in found:
            shift, width = (0.0, 0.7) if axes is right else (0.38 * (place - 0.5), 0.36)
            mean, chance = found[measure], found[f"{measure}, by chance"]
            ends = np.abs([found[f"{measure}, lowest"] - mean, found[f"{measure}, highest"] - mean])
            axes.bar(places + shift, mean, width, yerr=ends, error_kw={"linewidth": 0.8}, color=PALETTE[place], label=measure)
            for sign in (1, -1) if axes is right else (1,):
                axes.plot(places + shift, sign * chance, "_", color="0.3", markersize=20 * width, label=f"{measure}, by chance")
    for axes in (left, right):
        axes.set_xticks(places, LETTERS)
    left.set(ylabel="importance (share)", title=_forest_error(results), ylim=(0, 1))
    right.set(ylabel="rank correlation", ylim=(-1, 1), title="with held-out top-1")
    right.axhline(0, color="0.4", linewidth=0.8)
    legend(left, leave_out="by chance", above=True)
    return figure


@style()
def figure_search(results: Results) -> Figure:
    """Left: held-out top-1 of each trial (points, one training each) and the best so far (lines, means over selections, one a trial seed).
    Both searches share their first trials, and the settings of the random search are the same draw in every selection. Right: test top-1
    of the settings chosen, trained anew, as given and scaled to an equal step (equal); dots are means, bars 95 % intervals over selections.
    """
    settings = results.study.settings
    figure, ((left, right),) = canvas(1, 2, height=2.6)
    for search, trials in held_out_frame(results).dropna(subset="top1").groupby("search", sort=False):
        left.plot(trials["number"] + 1, trials["top1"], ".", color=COLOURS[search], alpha=0.5, label=f"{SEARCHES[search]}, trials")
        best = trials.pivot(index="number", columns="seed", values="top1").cummax().ffill().mean(axis=1)
        left.step(best.index + 1, best, where="post", color=COLOURS[search], label=SEARCHES[search])
    left.axvline(settings.started + 0.5, color=TEACHER, linestyle=":", label="TPE begins")
    left.set(xlabel="trial", ylabel="held-out top-1 (%)", title="the two searches")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    table = summary(results.frame("best"), ["search", "step"], "top1")
    for place, row in enumerate(table.itertuples(index=False)):
        right.errorbar([row[2]], [place], xerr=[row[3]], fmt="o", color=COLOURS[row[0]], label=f"{SEARCHES[row[0]]}, {row[1]}")
    right.set_yticks(range(len(table)), [f"{SEARCHES[row[0]]},\n{row[1]}" for row in table.itertuples(index=False)])
    right.set(xlabel="test top-1 (%)", title="their best settings, trained anew")
    right.margins(y=0.2)
    right.invert_yaxis()
    legend(left, leave_out="trials", above=True)
    return figure


@style()
def figure_results(results: Results) -> Figure:
    """Test top-1 of every method and of experiment 2: dots are means, bars 95 % intervals over seeds, in brackets the label weight. Orange
    dots have an equal effective step: the first gradient of all terms together is as long as that of cross-entropy at the label weight of
    its orange row. Blue dots have label weight 1, grey ones another; the dotted line of a colour is its cross-entropy alone.
    """
    table, steps = summary(frame_results(results), ["method"], "top1"), label_weights(results)
    colours = {name: _colour(name, steps) for name in table["method"]}
    figure, ((axes,),) = canvas(height=3.8)
    for place, (name, mean, half, _) in enumerate(table.itertuples(index=False)):
        axes.errorbar([mean], [place], xerr=[half], fmt="o", color=colours[name], label=name)
        if name.startswith(METHODS["ce"]):
            axes.axvline(mean, color=colours[name], linestyle=":", label=f"{name} (line)")
    axes.set_yticks(range(len(table)), [f"{name} ({steps[name]})" for name in table["method"]])
    axes.set(xlabel="test top-1 (%)")
    axes.invert_yaxis()
    return figure


@style()
def figure_terms(results: Results) -> Figure:
    """Share of each weighted term in the total loss of peer 1 by epoch, on the first 64 held-out images, mean over seeds, for the
    prior-work row, the best settings of the random search as given, and one step on the sum of the three losses.
    """
    chosen = {
        "prior-work row": ("methods", {"method": "prior"}),
        "best of random search": ("best", {"search": "random", "step": "as given"}),
        "a = b = c = 1": ("curriculum", {"order": "sum"}),
    }
    figure, grid = canvas(1, len(chosen), height=2.9, sharey=True)
    for axes, (title, (table, point)) in zip(grid[0], chosen.items(), strict=True):
        _shares(axes, _mean_history(results.history(table), point))
        axes.set(title=title, xlabel="epoch", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0, 0].set_ylabel("share of the total loss")
    legend(grid[0, 0], above=True, ncols=7, columnspacing=0.9, handlelength=1.2)
    return figure


def _colour(name: str, steps: dict[str, str]) -> str:
    """Of a row, by what sets its step."""
    if name.endswith(STEPS["equal"]):
        return PALETTE[1]
    return PALETTE[0] if steps[name] == steps[METHODS["ce"]] else TEACHER


def _shares(axes: Axes, history: pd.DataFrame) -> None:
    """Stacked bars, one an epoch."""
    present = [name for name in TERMS if f"term {name}" in history and history[f"term {name}"].notna().all()]
    values = history.reindex(columns=[f"term {name}" for name in present])
    shares = values.div(values.sum(axis=1), axis=0)
    width = 0.95 * np.diff(history.index, append=np.nan)[0] if len(history) > 1 else 0.95
    below = np.zeros(len(shares))
    for name in present:
        axes.bar(history.index, shares[f"term {name}"], width, bottom=below, color=TERMS[name], label=name)
        below = below + shares[f"term {name}"].to_numpy()


def _mean_history(history: pd.DataFrame, point: dict[str, str]) -> pd.DataFrame:
    for axis, value in point.items():
        history = history[history[axis] == value] if axis in history else history[:0]
    return history.groupby("epoch").mean(numeric_only=True).dropna(subset=[name for name in history if name.startswith("term ")])


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
        return "importance"
    spread = trials.groupby("number")["top1"].mean().std()
    return f"forest: error {fit(trials, results.study.settings.space).error:.1f}, spread {spread:.1f} points"


def _in_range(results: Results, row: pd.Series) -> list[float]:
    ranges = [getattr(results.study.settings.space, letter) for letter in LETTERS]
    return [(row[letter] - each.low) / (each.high - each.low) for letter, each in zip(LETTERS, ranges, strict=True)]


def _span(results: Results, letter: str) -> str:
    space = getattr(results.study.settings.space, letter)
    return f"{letter}\n{space.low:g}–{space.high:g}"


def _network(results: Results) -> str:
    model = results.study.settings.model
    if hasattr(model, "width"):
        return f"ResNet, {2 * sum(model.blocks) + 2} layers, width {model.width}"
    return f"ViT, {model.depth} blocks, width {model.embed_dim}"
