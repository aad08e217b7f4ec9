"""The comparison's explorer: how much accuracy you are ready to give, and what that saves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.comparison.figures import COSTS
from vitlib.papers.comparison.models import DENSE
from vitlib.papers.comparison.tables import table_models
from vitlib.report.figures import PALETTE, canvas, style
from vitlib.report.widgets import Explorer, NothingToExplore, slider


def explore_loss(results: Results) -> Explorer | NothingToExplore:
    """Pick the points of top-1 that may be lost against the dense model: what remains, and the least of each cost among it."""
    table = table_models(results).dropna(subset=["top-1"])
    if DENSE not in set(table["model"]):
        return NothingToExplore()
    return Explorer(lambda points: draw_within(table, points), {"points": slider("points lost", 2.0, 0.0, 30.0, 0.5)}, width=760)


@style()
def draw_within(table: pd.DataFrame, points: float) -> Figure:
    """Costs in percent of the dense model's; coloured is the least of each cost among the models that lose at most so many points."""
    dense = table["model"] == DENSE
    allowed = table["top-1"] >= table.loc[dense, "top-1"].item() - points - 1e-9
    costs = table[list(COSTS)].astype(float)  # NaN of a model that was not exported
    shares = 100 * costs / costs[dense].iloc[0]
    figure, axes = canvas(1, len(COSTS), height=0.9 + 0.26 * len(table), sharey=True)
    places = range(len(table), 0, -1)
    for panel, (column, (label, _, _)) in zip(axes[0], COSTS.items(), strict=True):
        share = shares[column]
        least = share.where(allowed).min()
        colours = [PALETTE[0] if ok and value == least else "0.6" if ok else "0.9" for ok, value in zip(allowed, share, strict=True)]
        panel.barh(list(places), share, color=colours, height=0.7)
        panel.set_title(label, fontsize="small")
        panel.set(xlabel="% of dense", xlim=(0, max(105.0, 1.03 * share.max())))
    axes[0, 0].set(yticks=list(places), yticklabels=table["model"])
    figure.suptitle(f"at most {points:g} points of top-1 lost: {_counted(int(allowed.sum()) - 1)} beside the dense one", fontsize="medium")
    return figure


def _counted(models: int) -> str:
    return "1 model" if models == 1 else f"{models or 'no'} models"
