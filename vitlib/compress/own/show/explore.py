"""The explorer of an own model: a slider over the stored steps, and what was measured of each."""

from __future__ import annotations

from matplotlib.figure import Figure

from vitlib.compress.own.show.figures import LATENCY, SIZE, draw_trade_off
from vitlib.compress.own.study import OwnResults
from vitlib.report.figures import canvas, legend, style
from vitlib.report.widgets import Explorer, NothingToExplore


def explore_steps(results: OwnResults) -> Explorer | NothingToExplore:
    """Move along the stored steps: accuracy with its interval, size and latency, beside the model before."""
    import ipywidgets

    stored = results.models.dropna(subset="top-1 %")["model"].tolist()
    steps = [name for name in results.study.candidates if name in stored]
    if not steps or results.study.reference not in stored:
        return NothingToExplore()
    slider = ipywidgets.SelectionSlider(options=steps, value=steps[0], description="model", continuous_update=False)
    return Explorer(lambda model: draw_step(results, model), {"model": slider}, width=760)


@style()
def draw_step(results: OwnResults, model: str) -> Figure:
    """Left: accuracy against the packed file. Right: against latency. The chosen model and the reference stand out."""
    figure, (panels,) = canvas(1, 2, height=3.0, sharey=True)
    for axes, (column, title) in zip(panels, (SIZE, LATENCY), strict=True):
        draw_trade_off(axes, results, column, title, model)
    panels[1].set_ylabel("")
    row = results.models.set_index("model").loc[model]
    panels[0].set_title(f"{model}: {row['top-1 %']:.1f} % ({row['low']:.1f} to {row['high']:.1f})", fontsize="small")
    panels[1].set_title(f"{row['packed MB']:.3g} MB packed, {row['latency ms']:.3g} ms (p90 {row['latency p90 ms']:.3g})", fontsize="small")
    table = results.models.dropna(subset="top-1 %")
    panels[0].set_ylim(max(0.0, table["low"].min() - 3), min(100.0, table["high"].max()) + 3)
    legend(panels[0], above=True)
    return figure
