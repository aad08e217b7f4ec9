"""Test accuracy of every method and of experiment 2, by what sets their steps."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from vitlib.grid.results import Results
from vitlib.papers.multi_distillation.tables import METHODS, STEPS, frame_results, label_weights
from vitlib.report.drawing.palette import BLUE, GREY, VERMILLION
from vitlib.report.figures import Look, canvas, is_narrow, style
from vitlib.report.statistics import summary

PLAIN, EQUAL, OTHER = "label weight 1, as cross-entropy alone", "equal effective step", "another label weight, as given"
LETTERS = 24  # of a name in a line
LOOKS = {PLAIN: Look(BLUE, "o"), EQUAL: Look(VERMILLION, "s"), OTHER: Look(GREY, "^")}


@style()
def figure_results(results: Results) -> Figure:
    """Test top-1 of every method and of experiment 2 in groups of equal steps: dots are means, bars 95 % intervals over seeds, in brackets
    the label weight; the dotted line of a group is its cross-entropy alone. At an equal effective step the first gradient of all terms
    together is as long as that of cross-entropy alone in the same group.
    """
    table, steps = summary(frame_results(results), ["method"], "top1").set_index("method"), label_weights(results)
    grouped = {kind: [name for name in table.index if _kind(name, steps) == kind] for kind in LOOKS}
    figure, ((axes,),) = canvas(height=4.4, narrow_height=5.4)
    places, place, size = {}, 0, 6.5 if is_narrow() else 7.5
    for kind, names in grouped.items():
        look = LOOKS[kind]
        axes.text(-0.01, place, _in_lines(kind), transform=axes.get_yaxis_transform(), color=look.colour, ha="right", va="center", fontweight="bold", fontsize=size)
        for name in names:
            place += 1
            places[name] = place
            mean, half = table.loc[name, ["measured", "±"]]
            axes.errorbar([mean], [place], xerr=[half], label=name, **look.points)
            if name.startswith(METHODS["ce"]):
                ends = [place - 0.5, place + len(names) - names.index(name) - 0.5]
                axes.plot([mean, mean], ends, color=look.colour, linestyle=":", label=f"{name} (line)", zorder=1)
        place += 1.3
    axes.set_yticks(list(places.values()), [_in_lines(f"{name} ({steps[name]})") for name in places], fontsize=size)
    axes.set(xlabel="test top-1 (%)", ylim=(place - 0.7, -0.7))
    return figure


def _kind(name: str, steps: dict[str, str]) -> str:
    """Of a row, by what sets its step."""
    if name.endswith(STEPS["equal"]):
        return EQUAL
    return PLAIN if steps[name] == steps[METHODS["ce"]] else OTHER


def _in_lines(name: str) -> str:
    """In a column, as many letters a line as leave room for the intervals."""
    return textwrap.fill(name, LETTERS) if is_narrow() else name
