"""Statistical plots by their artists: means and intervals are those of the results, whoever draws them."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from vitlib.report import figures
from vitlib.report.drawing import labels, plots
from vitlib.report.statistics import half_width

SEEDS = pd.DataFrame({"name": ["AFR"] * 5 + ["SNIP"] * 2, "place": [0, 0, 0, 2, 2, 1, 1], "value": [1.0, 2.0, 6.0, 7, 9, 4.0, np.nan]})
CURVES = pd.DataFrame({"name": "AFR", "x": [1, 1, 2, 2], "value": [1.0, 3.0, 5.0, 6.0]})
LOOKS = {name: figures.look(name) for name in ("AFR", "SNIP")}


def series(figure, name):
    rows = figures.drawn(figure)
    return rows[rows["series"] == name][["x", "y"]].values.tolist()


@pytest.fixture(params=[False, True], ids=["page", "column"])
def canvas(request):
    with figures.style():
        if request.param:
            with figures.narrow():
                yield figures.canvas()
        else:
            yield figures.canvas()


@pytest.mark.parametrize("sideways", [True, False])
def test_points_are_means_over_seeds_with_t_intervals_and_each_seed(canvas, sideways):
    figure, ((axes,),) = canvas
    plots.points(axes, SEEDS, LOOKS, sideways=sideways)
    turned = (lambda rows: rows) if sideways else (lambda rows: [row[::-1] for row in rows])
    first, second = half_width(pd.Series([1.0, 2.0, 6.0])), half_width(pd.Series([7.0, 9.0]))
    assert turned(series(figure, "AFR")) == [[3, 0], [8, 2]] and turned(series(figure, "SNIP")) == [[4, 1]]
    ends = [[3 - first, 0], [3 + first, 0], [8 - second, 2], [8 + second, 2]]
    np.testing.assert_allclose(turned(series(figure, "AFR, interval")), ends)
    assert turned(series(figure, "AFR, seeds")) == [[1, 0], [2, 0], [6, 0], [7, 2], [9, 2]]
    assert series(figure, "SNIP, interval") == [] == series(figure, "SNIP, seeds")


@pytest.mark.parametrize(("bars", "name"), [(True, "AFR, interval"), (False, "AFR, band")])
def test_curves_are_means_over_seeds_with_t_intervals(canvas, bars, name):
    figure, ((axes,),) = canvas
    plots.curves(axes, CURVES, LOOKS, bars=bars)
    assert series(figure, "AFR") == [[1, 2], [2, 5.5]]
    ends = [[x, mean + sign * half_width(pd.Series(v))] for x, mean, v in ((1, 2, [1.0, 3.0]), (2, 5.5, [5.0, 6.0])) for sign in (-1, 1)]
    np.testing.assert_allclose(series(figure, name), ends)


def test_one_seed_has_no_interval_and_no_seed_nothing(canvas):
    figure, ((axes,),) = canvas
    plots.curves(axes, CURVES[::2], LOOKS)
    plots.points(axes, SEEDS[:0], LOOKS)
    assert set(figures.drawn(figure)["series"]) == {"AFR"}


@pytest.mark.parametrize(("panels", "said"), [(2, "–  not measured"), (7, "–")])
def test_a_panel_without_results_says_so_and_one_with_results_does_not(panels, said):
    @figures.style()
    def draw():
        figure, axes = figures.canvas(1, panels)
        axes[0, 0].plot([1], [1])
        axes[0, 1].plot([np.nan], [np.nan])
        axes[0, 1].axhline(3)
        return figure

    assert [[text.get_text() for text in axes.texts] for axes in draw().axes] == [[]] + [[said]] * (panels - 1)


def test_a_heat_map_holds_its_table(canvas):
    figure, ((axes,),) = canvas
    plots.heat_map(axes, pd.DataFrame([[1.0, np.nan], [3.0, 4.0]]), name="shares")
    rows = figures.drawn(figure)
    np.testing.assert_array_equal(rows["value"], [1, np.nan, 3, 4])
    assert set(rows["series"]) == {"shares"}


def test_labels_at_the_ends_are_a_line_of_text_apart_and_in_the_order_of_the_ends(canvas):
    figure, ((axes,),) = canvas
    for place, end in enumerate((1.0, 1.001, 1.002, 3.0)):
        axes.plot([0, 1], [place, end], label=f"line {place}")
    labels.label_ends(axes, fontsize=7)
    figure.draw(figure.canvas.get_renderer())
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [f"line {place}" for place in range(4)]
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(("wanted", "gap"), [([0, 1, 2], 1), ([0, 0, 0], 2), ([0, 5, 5.5, 20], 3)])
def test_spread_places_keep_the_gap_and_their_mean(wanted, gap):
    found = labels.spread(np.array(wanted, float), gap)
    assert (np.diff(found) >= gap - 1e-9).all() and found.mean() == pytest.approx(np.mean(wanted))


def test_a_legend_above_has_as_many_columns_as_the_width_holds():
    found = {}
    for width in ("page", "column"):
        with figures.style():
            if width == "column":
                with figures.narrow():
                    figure, ((axes,),) = figures.canvas()
            else:
                figure, ((axes,),) = figures.canvas()
            for number in range(4):
                axes.plot([0], [0], label=f"a label of some length {number}")
            figures.legend(axes, above=True)
        (shown,) = figure.legends
        found[width] = shown._ncols
        assert shown.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width
    assert found == {"page": 3, "column": 1}


def test_panels_of_a_row_follow_each_other_in_a_column():
    with figures.narrow(), figures.style():
        figure, axes = figures.canvas(1, 3, height=2.0)
        pairs, of_two = figures.canvas(2, 3, height=2.0, abreast=2)
    assert axes.shape == (1, 3) and tuple(figure.get_size_inches()) == (figures.NARROW, 6.0)
    assert of_two.shape == (2, 3) and tuple(pairs.get_size_inches()) == (figures.NARROW, 3.0)
