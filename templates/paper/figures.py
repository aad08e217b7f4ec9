"""Paper name: its figure, from results alone."""

from __future__ import annotations

from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.report.figures import PALETTE, canvas, style
from vitlib.report.statistics import summary

COLOURS = {"plain": PALETTE[0], "smoothed": PALETTE[2]}


@style()
def figure_smoothing(results: Results) -> Figure:
    """Table 3 as a figure: top-1 on the test images by the labels that were trained on. Large dots: mean over seeds with its 95 % interval;
    small dots: single seeds.
    """
    figure, ((axes,),) = canvas(height=1.8)
    frame = results.frame("smoothing").reindex(columns=["labels", "top1"])
    table = summary(frame, ["labels"], "top1")
    for place, row in enumerate(table.to_dict("records")):
        labels, seeds = row["labels"], frame.loc[frame["labels"] == row["labels"], "top1"]
        axes.errorbar([row["measured"]], [place], xerr=[row["±"]], fmt="o", color=COLOURS[labels], label=labels)
        axes.scatter(seeds, [place + 0.25] * len(seeds), s=6, color=COLOURS[labels], alpha=0.6, label=f"{labels}, seeds")
    axes.set_yticks(range(len(table)), table["labels"])
    axes.set(xlabel="top-1 (%)", ylabel="labels")
    axes.margins(y=0.3)
    axes.invert_yaxis()
    return figure
