"""The two searches side by side: what each found on held-out images, and what that is on the test images."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.tables import SEARCHES, held_out_frame
from vitlib.report.drawing.plots import points
from vitlib.report.figures import TEACHER, canvas, legend, look, style

LOOKS = {search: look(name) for search, name in SEARCHES.items()}
BESIDE = {"random": -0.14, "tpe": 0.14}  # places of the searches' marks beside the trial's number, where their trials differ


@style()
def figure_search(results: Results) -> Figure:
    """Left: held-out top-1 of each trial (marks, one training each) and the best so far (lines, means over selections, one a trial seed);
    the first trials are the same in both searches. Right: test top-1 of the settings chosen, trained anew, as given and scaled to an equal
    step (equal); large marks are means with 95 % intervals over selections.
    """
    settings, frame = results.study.settings, held_out_frame(results).dropna(subset="top1")
    figure, ((left, right),) = canvas(1, 2, height=2.8)
    for search, trials in frame.groupby("search", sort=False):
        own = trials[trials["number"] >= settings.started] if search == "tpe" else trials
        places = own["number"] + 1 + BESIDE[search] * (own["number"] >= settings.started)
        mark = LOOKS[search].points | {"markersize": 3, "mfc": "none", "mew": 0.7}
        left.plot(places, own["top1"], label=f"{SEARCHES[search]}, trials", **mark)
        best = trials.pivot(index="number", columns="seed", values="top1").cummax().ffill().mean(axis=1)
        left.step(best.index + 1, best, where="post", color=LOOKS[search].colour, label=SEARCHES[search])
    left.axvline(settings.started + 0.5, color=TEACHER, linestyle=":", label="TPE begins")
    left.set(xlabel="trial", ylabel="held-out top-1 (%)", title="the two searches")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    _chosen(right, results.frame("best").reindex(columns=["search", "step", "top1"]))
    right.set(xlabel="test top-1 (%)", title="their best settings, trained anew")
    legend(left, leave_out="trials", above=True)
    return figure


def _chosen(axes: Axes, frame: pd.DataFrame) -> None:
    """Test top-1 with its interval, a row a search and step."""
    rows = list(frame.groupby(["search", "step"], sort=False).groups)
    shown = {f"{SEARCHES[search]}, {step}": LOOKS[search] for search, step in rows}
    names = frame["search"].map(SEARCHES) + ", " + frame["step"]
    places = names.map({name: place for place, name in enumerate(shown)})
    points(axes, pd.DataFrame({"name": names, "place": places, "value": frame["top1"]}), shown)
    axes.set_yticks(range(len(shown)), [name.replace(", ", ",\n") for name in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
