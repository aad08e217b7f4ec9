"""AFR's explorer shows the accuracy of what was chosen, or says that it was not measured, on axes that stand still."""

import numpy as np
import pandas as pd
import pytest

from vitlib.papers import afr_pruning
from vitlib.papers.afr_pruning.explore import draw_sparsity, measured_with


@pytest.fixture
def drawn(results):
    def drawn(teacher, criterion, sparsity):
        run = results.run("diagnosis", teacher=teacher)
        figure = draw_sparsity(run, measured_with(results, teacher), teacher, criterion, sparsity)
        figure.draw_without_rendering()
        return figure

    return drawn


def top1(results, table, **point):
    frame = results.frame(table)
    for axis, value in point.items():
        frame = frame[frame[axis] == value]
    return frame["top1"].mean()


def test_the_title_says_the_accuracy_of_the_chosen_teacher_criterion_and_sparsity(results, drawn):
    found = top1(results, "generic", teacher="supervised", criterion="snip", sparsity=0.9)
    density, measured = drawn("supervised", "snip", 0.9).axes
    assert density.get_title() == "SNIP at 90 %"
    assert measured.get_title() == f"supervised, digits: {found:.1f} %"


def test_another_teacher_has_accuracies_of_its_own(results, drawn):
    """Table 2 is measured with the first teacher alone; the other's come from Table 1, whose sparsity this curve does not hold."""
    found = measured_with(results, "dino").set_index(["criterion", "sparsity"])["measured"]
    assert set(measured_with(results, "dino")["dataset"]) == {"few"}
    assert found["afr", 0.8] == top1(results, "fine", teacher="dino", criterion="afr")
    assert found["afr", 0.0] == found["snip", 0.0] == top1(results, "dense", teacher="dino", dataset="few")
    assert drawn("dino", "afr", 0.9).axes[1].get_title() == "DINO, few: not measured"
    assert drawn("dino", "afr", 0.0).axes[1].get_title() == f"DINO, few: {found['afr', 0.0]:.1f} %"


def test_a_teacher_with_no_accuracies_is_drawn_and_said_to_be_not_measured(results):
    nothing = measured_with(results, "dino").iloc[:0]
    axes = draw_sparsity(results.run("diagnosis", teacher="dino"), nothing, "dino", "afr", 0.9).axes[1]
    assert axes.get_title() == "DINO: not measured"


def test_the_slider_stops_at_what_is_stored_alone_and_the_line_and_titles_agree_with_it(results):
    explorer = afr_pruning.explore_sparsity(results)
    stored = results.run("diagnosis", teacher="dino").arrays["sparsities"]
    assert [value for _, value in explorer.controls["sparsity"].options] == sorted(stored.tolist())
    assert explorer.controls["sparsity"].value == 0.9 and not explorer.controls["sparsity"].continuous_update


def test_axes_stand_still_and_legends_lie_outside_them(drawn):
    figures = [
        drawn(teacher, criterion, sparsity)
        for teacher in ("supervised", "dino")
        for criterion in ("afr", "random")
        for sparsity in (0.0, 0.9)
    ]
    for place in (0, 1):
        assert len({(figure.axes[place].get_xlim(), figure.axes[place].get_ylim()) for figure in figures}) == 1
        for figure in figures:
            axes, renderer = figure.axes[place], figure.canvas.get_renderer()
            box = axes.get_legend().get_window_extent(renderer)
            assert box.y1 < axes.get_window_extent(renderer).y0 and box.y0 > 0
    line = next(line for line in figures[1].axes[1].get_lines() if line.get_label() == "90 %")
    assert line.get_xdata()[0] == 90


def test_the_explorer_draws_every_criterion(results):
    accuracy_table = pd.DataFrame({"dataset": ["digits"], "criterion": ["afr"], "sparsity": [0.9], "measured": [50.0], "±": [1.0]})
    _, run = results.runs("diagnosis")[0]
    for criterion in ("snip", "random"):
        figure = afr_pruning.draw_sparsity(run, accuracy_table, "supervised", criterion, 0.9)
        kept = np.mean([line.get_ydata() for line in figure.axes[0].get_lines()], axis=0)
        assert figure.axes[0].get_title().endswith("at 90 %") and kept.shape == (12,)
