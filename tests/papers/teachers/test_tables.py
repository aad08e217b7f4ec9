"""Tables and figures of the teachers, from stored runs and from none."""

import importlib

import pytest
from scipy.stats import t

from tests.legible import faults_at_both_widths
from vitlib import load_study


@pytest.mark.parametrize("paper", ["teachers", "wecolora"])
def test_every_table_and_figure_is_made_from_an_empty_store(paper, tmp_path):
    results = load_study(paper, "smoke", results_dir=str(tmp_path), device="cpu").execute(mode="read-only")
    made = [name for name in dir(module(paper)) if name.startswith(("table_", "figure_"))]
    assert len(made) >= 4
    for name in made:
        getattr(module(paper), name)(results)


def test_the_table_of_quality_has_a_row_for_each_teacher_and_each_untrained_network(finished):
    table = module("teachers").table_quality(finished("teachers").execute(mode="read-only"))
    assert table["method"].tolist() == ["supervised", "dino", "mae", "untrained", "convnet", "untrained"]
    assert table.set_index("method")["top-1"].notna().to_dict() == dict.fromkeys(table["method"], False) | {
        "supervised": True,
        "convnet": True,
    }


def test_deep_blocks_are_the_last_third_and_pairs_are_over_the_same_images(finished):
    results = finished("teachers").execute(mode="read-only")
    arrays = {point["method"]: run.arrays["distance"] for point, run in results.runs("distances")}
    row = module("teachers").table_deep_blocks(results).query("first == 'dino' and second == 'mae'").iloc[0]
    last = {name: array[:, 1].mean(axis=1) for name, array in arrays.items()}  # of two blocks
    difference = last["dino"] - last["mae"]
    assert row["difference, px"] == pytest.approx(difference.mean())
    half = t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5
    assert row["±"] == pytest.approx(half)


@pytest.mark.parametrize("name", ["figure_training", "figure_attention_distance"])
def test_no_text_of_a_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(name, finished):
    assert faults_at_both_widths(getattr(module("teachers"), name), finished("teachers").execute(mode="read-only")) == {}


def module(paper):
    return importlib.import_module(f"vitlib.papers.{paper}")
