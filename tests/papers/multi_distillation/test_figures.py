"""Multi-distillation's figures by their artists: what is drawn is what the trials hold, readable at both widths."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.legible import faults_at_both_widths, texts_inside
from tests.papers.multi_distillation.support import smoke_of
from vitlib.grid.results import Results
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.space import LETTERS
from vitlib.report import figures

FIGURES = [name for name in vars(multi_distillation) if name.startswith("figure_")]
MEASURES = ("PED-ANOVA", "fANOVA", "rank correlation")


@pytest.fixture(scope="module")
def planted():
    """Twelve trials whose accuracy falls with b alone."""
    study = smoke_of("/nowhere", overrides={"numbers": 12})
    trials = {cell.spec.id: cell.spec.objective.weights.model_dump() for cell in study.cells if cell.table == "trials"}
    stored = {name: SimpleNamespace(metrics=each | {"top1": 90.0 - 20 * each["b"]}, arrays={}) for name, each in trials.items()}
    return Results(study, stored)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_small_or_cut_off(name, results):
    assert faults_at_both_widths(getattr(multi_distillation, name), results) == {}


@pytest.mark.parametrize("name", FIGURES)
def test_without_runs_no_panel_is_empty(name, results):
    figure = getattr(multi_distillation, name)(Results(results.study, {}))
    assert all(axes.texts or axes.get_lines() or axes.collections or axes.patches for axes in figure.axes)


@pytest.mark.parametrize("narrow", [False, True], ids=["page", "column"])
def test_what_is_written_in_the_drawing_lies_inside_it(narrow, results):
    with figures.narrow() if narrow else nullcontext():
        figure = multi_distillation.figure_method(results)
    assert texts_inside(figure) == 22


def test_the_best_and_the_worst_third_are_told_by_the_weight_that_decides(planted):
    """Of twelve settings four have the smallest and four the largest b, which stands beside the accuracy, from low to high of its range."""
    (axes,) = multi_distillation.figure_parallel(planted).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines() if "setting" in line.get_label()}
    thirds = pd.Series({name: values[-2] for name, values in lines.items()}).groupby(lambda name: name.partition(",")[0])
    assert thirds.size().to_dict() == {"best third": 4, "between": 4, "worst third": 4}
    space, trials = planted.study.settings.space.b, planted.frame("trials")
    places = sorted((trials["b"] - space.low) / (space.high - space.low))
    assert sorted(thirds.get_group("best third")) == pytest.approx(places[:4])
    assert sorted(thirds.get_group("worst third")) == pytest.approx(places[-4:])
    said = [label.get_text() for label in axes.get_xticklabels()]
    assert said[-2] == "b: weight of rkd_loss\nρ = −1.00" and said[-1] == "held-out\ntop-1 (%)"
    assert [values[-1] for name, values in lines.items() if name.startswith(("best", "worst"))][::7] == [0.0, 1.0]


def test_weights_that_matter_are_filled_and_come_first(planted):
    axes = multi_distillation.figure_importance(planted).axes
    assert axes[0].get_yticklabels()[0].get_text() == "b: weight of rkd_loss"
    (filled,) = [line for line in axes[-1].get_lines() if line.get_label() == "rank correlation, beyond chance"]
    assert filled.get_ydata()[0] == 0 and filled.get_xdata()[0] == pytest.approx(-1)


def test_whiskers_of_importances_end_at_the_lowest_and_highest_training(planted):
    """Rows are sorted; the tick labels say which weight each is of."""
    figure, table = multi_distillation.figure_importance(planted), multi_distillation.table_importance(planted)
    order = [label.get_text()[0] for label in figure.axes[0].get_yticklabels()]
    assert sorted(order) == list(LETTERS)
    table, found = table.set_index("weight").loc[order], figures.drawn(figure)
    for measure in MEASURES:
        ends = found[found["series"] == f"{measure}, interval"]
        assert ends["y"].tolist() == [place for place in range(9) for _ in range(2)]
        np.testing.assert_allclose(ends["x"].to_numpy().reshape(-1, 2), table[[f"{measure}, lowest", f"{measure}, highest"]], atol=1e-12)
        chance = found[found["series"] == f"{measure}, by chance"]
        np.testing.assert_allclose(np.abs(chance["x"])[:9], table[f"{measure}, by chance"])
        assert len(chance) == (18 if measure == "rank correlation" else 9)


def test_methods_stand_in_groups_of_equal_steps_each_with_its_cross_entropy(results):
    (axes,) = multi_distillation.figure_results(results).axes
    headings = [text.get_text() for text in axes.texts]
    assert headings == ["label weight 1, as cross-entropy alone", "equal effective step", "another label weight, as given"]
    colours = [container.lines[0].get_color() for container in axes.containers]
    assert [one != other for one, other in pairwise(colours)].count(True) == 2
