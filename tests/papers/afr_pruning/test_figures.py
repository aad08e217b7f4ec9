"""AFR pruning's figures by their artists: what is drawn is what the runs hold, readable at both widths."""

import numpy as np
import pytest

from tests.legible import faults_at_both_widths
from tests.papers.afr_pruning.support import without_runs
from vitlib.papers import afr_pruning
from vitlib.papers.afr_pruning.specs import CRITERIA
from vitlib.papers.afr_pruning.tables import NAMES, TEACHERS
from vitlib.report.figures import LOOKS, drawn

FIGURES = [name for name in vars(afr_pruning) if name.startswith("figure_")]
FAMILIES = ("qkv", "proj", "fc1", "fc2")


def tables(figure, series):
    """What a heat map holds, (rows, columns)."""
    rows = drawn(figure)
    return rows[rows["series"] == series].pivot(index="y", columns="x", values="value").to_numpy()


def lines(figure, panel):
    rows = drawn(figure)
    return {name: group["y"].to_numpy() for name, group in rows[rows["panel"].str.startswith(panel)].groupby("series")}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_small_or_cut_off(name, results):
    assert faults_at_both_widths(getattr(afr_pruning, name), results) == {}


@pytest.mark.parametrize("name", FIGURES)
def test_without_runs_no_panel_is_empty(name, tmp_path):
    figure = getattr(afr_pruning, name)(without_runs("smoke", tmp_path))
    assert all(axes.texts or axes.get_lines() or axes.images or axes.collections for axes in figure.axes)


def test_criteria_look_as_everywhere_and_no_two_alike():
    for name in CRITERIA:
        assert afr_pruning.LOOKS[name] == LOOKS[NAMES[name]]
    assert len({(found.colour, found.marker) for found in afr_pruning.LOOKS.values()}) == len(CRITERIA)


def test_the_densities_drawn_are_the_stored_ones_at_the_middle_sparsity(results):
    figure, sparsities = afr_pruning.figure_density(results), results.study.settings.sparsities
    _, run = results.runs("diagnosis")[0]
    place = list(run.arrays["sparsities"]).index(sparsities[len(sparsities) // 2])
    for number, family in enumerate(FAMILIES):
        np.testing.assert_allclose(tables(figure, family), 100 * run.arrays["densities"][:, place, number::4])
    assert len({tuple(axes.collections[0].get_clim()) for axes in figure.axes if axes.get_title() in FAMILIES}) == 1


def test_the_correlations_drawn_are_the_stored_ones_and_teachers_share_a_scale(results):
    figure = afr_pruning.figure_correlation(results)
    for point, run in results.runs("diagnosis"):
        found = tables(figure, f"{TEACHERS[point['teacher']]}: within each matrix")
        np.testing.assert_allclose(found, run.arrays["correlation by matrix"].reshape(-1, 4).T)
    assert len({axes.collections[0].get_clim() for axes in figure.axes if axes.get_title().endswith("matrix")}) == 1


def test_pairs_of_ranks_are_counted_in_units_of_chance(results):
    figure = afr_pruning.figure_correlation(results)
    for point, run in results.runs("diagnosis"):
        one, other = np.minimum(run.arrays["percentiles"] // 10, 9).astype(int)
        counts = np.zeros((10, 10))
        for snip, refer in zip(one, other, strict=True):
            counts[refer, snip] += 1
        found = tables(figure, f"{TEACHERS[point['teacher']]}: ranks")
        np.testing.assert_allclose(found, 100 * counts / len(one))
        assert found.mean() == pytest.approx(1)


@pytest.mark.parametrize(("panel", "state"), [("after the mask", "pruned"), ("after fine-tuning", "tuned")])
def test_what_is_left_is_in_percent_of_the_dense_model(results, panel, state):
    """One seed and one set: no means to take."""
    spectra, spread = (lines(getattr(afr_pruning, name)(results), panel) for name in ("figure_spectra", "figure_spread"))
    sparsity = results.study.settings.sparsities[len(results.study.settings.sparsities) // 2]
    for name in CRITERIA:
        arrays = results.run("generic", criterion=name, sparsity=sparsity).arrays
        after, dense = arrays[f"spectrum {state}"], arrays["spectrum dense"]
        np.testing.assert_allclose(spectra[NAMES[name]], 100 * after[-1] / dense[-1])
        np.testing.assert_allclose(spread[NAMES[name]], 100 * after.sum(axis=1) / dense.sum(axis=1))
    assert set(spectra["dense"]) == set(spread["dense"]) == {100}
