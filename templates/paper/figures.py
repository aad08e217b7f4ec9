"""Paper name: its figure, from results alone."""

from __future__ import annotations

from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.report.drawing.plots import points
from vitlib.report.figures import canvas, distinct, style

LOOKS = distinct(("plain", "smoothed"))  # a method that other documents have too: look("AFR")


@style()
def figure_smoothing(results: Results) -> Figure:
    """Table 3 as a figure: top-1 on the test images by the labels that were trained on. Large marks: mean over seeds with its 95 % interval
    (none with one seed); small dots: single seeds.
    """
    figure, ((axes,),) = canvas(height=1.8)
    frame = results.frame("smoothing").reindex(columns=["labels", "top1"]).rename(columns={"labels": "name", "top1": "value"})
    places = {name: place for place, name in enumerate(LOOKS)}
    points(axes, frame.assign(place=frame["name"].map(places)), LOOKS)
    axes.set_yticks(list(places.values()), places)
    axes.set(xlabel="top-1 (%)", ylabel="labels", ylim=(len(places) - 0.5, -0.5))
    return figure
