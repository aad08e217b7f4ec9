"""The combined model, drawn, and what its loss is made of over training."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vitlib.grid.results import Results
from vitlib.report.diagrams import arrow, box, note
from vitlib.report.figures import canvas, is_narrow, legend, look, style

NETWORK, EXITS = "0.35", "0.8"
MANY = 5  # epochs beside each other that are all named
GROUPS = {"kd": look("online peer").colour, "rkd": look("relations").colour, "skd": look("self-distillation").colour}
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
    "distance": "#8f3d00",
    "angle": "#f0995c",
    "relation KL": "#f8d3b8",
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
    figure, ((axes,),) = canvas(height=3.0, narrow_height=3.2)
    axes.set(xlim=(0, 9.4 if is_narrow() else 12.6), ylim=(-2.9 if is_narrow() else 0, 6.5))
    axes.axis("off")
    for y, name in ((4.3, "peer 1:"), (0.9, "peer 2 (trained likewise; its exits are not drawn):")):
        for stage in range(4):
            box(axes, 0.3 + 1.75 * stage, y, 1.45, 0.9, f"stage {stage + 1}", NETWORK)
            if stage < 3:
                arrow(axes, 1.75 + 1.75 * stage, y + 0.45, 2.0 + 1.75 * stage, y + 0.45)
        box(axes, 7.5, y, 1.8, 0.9, "classifier", NETWORK)
        arrow(axes, 7.0, y + 0.45, 7.45, y + 0.45)
        between = "\n" if is_narrow() and y < 1 else " "
        note(axes, 0.3, y - 0.15, f"{name}{between}{_network(results)}", va="top")
    for stage in range(3):
        box(axes, 0.35 + 1.75 * stage, 5.75, 1.35, 0.6, f"exit {stage + 1}", EXITS)
        arrow(axes, 1.02 + 1.75 * stage, 5.25, 1.02 + 1.75 * stage, 5.7)
    arrow(axes, 8.4, 5.25, 5.4, 6.1, GROUPS["skd"])
    if reading.compares_outputs:
        colour = GROUPS["kd" if "kl" in reading.kd else "rkd"]
        arrow(axes, 8.4, 1.85, 8.4, 4.2, colour)
        note(axes, 8.25, 3.0, "outputs", colour, ha="right")
    arrow(axes, 6.3, 1.85, 6.3, 4.2, GROUPS["rkd"])
    note(axes, 6.15, 3.0, "relations of features", GROUPS["rkd"], ha="right")
    note(axes, 9.35, 6.1, "deepest teaches exits", GROUPS["skd"], ha="right")
    x, top = (0.3, -0.8) if is_narrow() else (9.75, 4.9)
    note(axes, x, top, "loss of peer 1, the sum of")
    for place, (colour, (field, formulas)) in enumerate(zip(GROUPS.values(), FORMULAS.items(), strict=True)):
        note(axes, x, top - 0.6 * (place + 1), formulas[getattr(reading, field)], colour)
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
    figure, grid = canvas(1, len(chosen), height=2.9, abreast=len(chosen), sharey=True)
    for axes, (title, (table, point)) in zip(grid[0], chosen.items(), strict=True):
        _shares(axes, _mean_history(results.history(table), point))
        axes.set(xlabel="epoch", ylim=(0, 1))
        axes.set_title(textwrap.fill(title, 13) if is_narrow() else title, fontsize=8 if is_narrow() else None)
    grid[0, 0].set_ylabel("share of the total loss")
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    legend(grid[0, 0], above=True, ncols=7, columnspacing=0.9, handlelength=1.2)
    return figure


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
    epochs = np.asarray(history.index, float)
    axes.set_xticks(epochs[:: max(1, len(epochs) // MANY)])
    axes.grid(False)


def _mean_history(history: pd.DataFrame, point: dict[str, str]) -> pd.DataFrame:
    for axis, value in point.items():
        history = history[history[axis] == value] if axis in history else history[:0]
    return history.groupby("epoch").mean(numeric_only=True).dropna(subset=[name for name in history if name.startswith("term ")])


def _network(results: Results) -> str:
    model = results.study.settings.model
    if hasattr(model, "width"):
        return f"ResNet, {2 * sum(model.blocks) + 2} layers, width {model.width}"
    return f"ViT, {model.depth} blocks, width {model.embed_dim}"
