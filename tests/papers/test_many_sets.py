"""Figures of studies with many sets of images: nothing that is written in them lies on something else."""

from itertools import combinations

import pytest

from vitlib import load_study
from vitlib.papers import afr_pruning, dual_ssl_kd


def empty(document, profile):
    study = load_study(document, profile, results_dir="/nowhere", data_dir="/nowhere", figures_dir="/nowhere")
    return study.execute(mode="read-only")


def written(figure):
    """Where titles and tick labels of the x axes stand, in pixels."""
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels()) if text.get_text() and axes.axison]
    return {(id(text), text.get_text()): text.get_window_extent() for text in texts}


FIGURES = [
    (afr_pruning.figure_backbones, "afr_pruning"),
    (afr_pruning.figure_accuracy, "afr_pruning"),
    (dual_ssl_kd.figure_downstream, "dual_ssl_kd"),
]


@pytest.mark.parametrize(("draw", "document"), FIGURES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("profile", ["tiny", "paper", "quick"])
def test_no_two_labels_overlap_and_none_leaves_the_figure(draw, document, profile):
    figure = draw(empty(document, profile))
    found = written(figure)
    assert [(one[1], other[1]) for one, other in combinations(found, 2) if found[one].overlaps(found[other])] == []
    width, height = figure.canvas.get_width_height()
    assert [name for (_, name), box in found.items() if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height] == []


def test_every_fine_set_has_its_axes_and_the_last_row_may_end_early():
    figure = afr_pruning.figure_backbones(empty("afr_pruning", "tiny"))
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes if axes.axison]
    assert titles == list(empty("afr_pruning", "tiny").study.settings.fine)
    assert {axes.get_ylabel() for axes in figure.axes} == {"top-1 (%), sparsity 80 %", ""}
