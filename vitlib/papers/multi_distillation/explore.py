"""Explorer of the nine weights: what the trials let one expect of a setting, and the measured trial nearest to it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.search.space import LETTERS, Space
from vitlib.papers.multi_distillation.search.surrogate import Surrogate, fit
from vitlib.papers.multi_distillation.tables import FEWEST, complete_trials
from vitlib.report.figures import PALETTE, canvas, style
from vitlib.report.widgets import Explorer, NothingToExplore, slider


def explore_weights(results: Results) -> Explorer | NothingToExplore:
    """Set the nine weights: predicted held-out top-1 with the forest's error, and the nearest measured trial."""
    trials = complete_trials(results)
    if trials["number"].nunique() < FEWEST:
        return NothingToExplore()
    space = results.study.settings.space
    surrogate = fit(trials, space)
    best = surrogate.trials.loc[surrogate.trials["top1"].idxmax()]
    ranges = {letter: getattr(space, letter) for letter in LETTERS}
    controls = {letter: slider(letter, float(best[letter]), each.low, each.high, each.step) for letter, each in ranges.items()}
    return Explorer(lambda **weights: draw_prediction(surrogate, space, weights), controls, width=720)


@style()
def draw_prediction(surrogate: Surrogate, space: Space, weights: dict[str, float]) -> Figure:
    """Left: the chosen weights (bars) and those of the nearest trial (diamonds), in their ranges. Right: prediction among the measured."""
    nearest, predicted = surrogate.nearest(weights), surrogate.predicted(weights)
    figure, ((left, right),) = canvas(1, 2, height=3.0)
    ranges = [getattr(space, letter) for letter in LETTERS]
    lows, spans = np.array([each.low for each in ranges]), surrogate.spans
    chosen, measured = (np.array([row[letter] for letter in LETTERS]) for row in (weights, nearest))
    left.bar(LETTERS, (chosen - lows) / spans, color=PALETTE[0], alpha=0.7, label="chosen")
    left.plot(LETTERS, (measured - lows) / spans, "D", color=PALETTE[1], label="nearest measured trial")
    left.set(ylim=(-0.05, 1.05), ylabel="place in its range")
    ordered = np.sort(surrogate.trials["top1"])
    right.plot(ordered, np.arange(1, len(ordered) + 1), ".", color="0.6", label="measured trials")
    right.axvspan(predicted - surrogate.error, predicted + surrogate.error, color=PALETTE[0], alpha=0.15, linewidth=0)
    right.axvline(predicted, color=PALETTE[0], label=f"predicted {predicted:.1f} ± {surrogate.error:.1f}")
    right.axvline(nearest["top1"], color=PALETTE[1], linestyle="--", label=f"nearest trial {nearest['top1']:.1f}")
    edges = ordered[0] - 1.1 * surrogate.error, ordered[-1] + 1.1 * surrogate.error  # a forest predicts no farther than it has seen
    right.set(xlabel="held-out top-1 (%)", ylabel="rank of the trial", xlim=edges)
    for axes in (left, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=6.5, columnspacing=0.9)
    return figure
