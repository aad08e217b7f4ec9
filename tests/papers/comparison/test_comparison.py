"""The comparison: equal footing, and what the rows of its tables are of."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from tests.legible import faults_at_both_widths
from vitlib import load_study
from vitlib.inputs import data as reading
from vitlib.papers import comparison
from vitlib.papers.comparison import findings
from vitlib.papers.comparison.explore import draw_within
from vitlib.papers.comparison.figures import COSTS, front
from vitlib.papers.comparison.left.measured import Exported, Written
from vitlib.papers.comparison.models import DENSE, KINDS, MODELS
from vitlib.papers.dual_ssl_kd.specs import Tuned
from vitlib.runs.store import Store
from vitlib.spec import SpecError, families
from vitlib.studies.costs.amounts import amounts_of
from vitlib.training.work.registry import Sets

AFR = {"AFR 50 %": 0.5, "AFR 80 %": 0.8, "AFR 90 %": 0.9, "WeCoLoRA r = 2, AFR 50 %": 0.5}


@pytest.fixture(scope="module")
def results(finished):
    return finished("comparison").execute(mode="read-only")


@pytest.fixture(scope="module")
def table(results):
    return comparison.table_models(results).set_index("model")


def own(run):
    """A row's run and those that it begins with; what teaches it is left out."""
    return [member for member in run.family() if not isinstance(member, Tuned)]


@pytest.mark.parametrize(("profile", "name"), list(product(["smoke", "quick"], MODELS)))
def test_every_model_is_made_in_the_same_number_of_passes_over_the_same_images(profile, name):
    settings = load_study("comparison", profile, data_dir="/nowhere").settings
    runs = own(MODELS[name](settings, 0))
    assert sum(run.recipe.epochs for run in runs) == settings.epochs
    assert sum(amounts_of(run, Sets(None)).epochs for run in runs) == settings.epochs, "by what the runs do"
    assert {(run.data.source, run.data.per_class, run.data.image_size, run.data.mean) for run in runs} == {
        (settings.data.source, settings.data.per_class, settings.data.image_size, settings.teacher.normalised(settings.data).mean)
    }


@pytest.mark.parametrize("name", ["tuning", "scratch"])
def test_a_budget_of_its_own_is_refused(name):
    with pytest.raises(SpecError, match=rf"{name}\.epochs=9 beside epochs=2; allowed: 2"):
        load_study("comparison", "smoke", overrides={name: {"epochs": 9}}, data_dir="/nowhere")


def test_adapters_leave_something_of_the_budget():
    with pytest.raises(SpecError, match=r"adapters\.epochs=2; allowed: below epochs=2"):
        load_study("comparison", "smoke", overrides={"adapters": {"epochs": 2}}, data_dir="/nowhere")


def test_the_rows_are_all_kinds_of_compressed_models_and_the_dense_one(table):
    assert list(table.index) == list(MODELS) == [name for models in KINDS.values() for name in models]
    assert table["top-1"].notna().all() and (table["n"] == 1).all()


def test_scattered_zeros_change_the_packed_file_and_neither_arithmetic_nor_the_dense_one(table):
    rows = table.loc[[DENSE, "AFR 50 %", "AFR 80 %", "AFR 90 %"]]
    assert rows[["parameters", "MACs"]].nunique().eq(1).all()
    assert rows["file kB"].nunique() == 1
    assert rows["non-zero"].is_monotonic_decreasing and rows["packed kB"].is_monotonic_decreasing


def test_dropped_blocks_are_gone_from_parameters_and_arithmetic(table):
    """A plain transformer of 12, 6 and 4 equal blocks: what the blocks hold falls in that proportion."""
    whole, half, third = (table.loc[name] for name in (DENSE, "WeCoLoRA r = 2", "WeCoLoRA r = 3"))
    for column in ("parameters", "MACs"):
        assert (whole[column] - half[column]) / (whole[column] - third[column]) == pytest.approx(6 / 8)


@pytest.mark.parametrize(("name", "sparsity"), AFR.items())
def test_of_the_weights_of_the_blocks_the_asked_share_is_zero(results, name, sparsity):
    run = results.run("models", model=name)
    beside = DENSE if name.startswith("AFR") else "WeCoLoRA r = 2"
    dense = results.run("models", model=beside).metrics["non-zero"]
    width, depth = 64, 12 if beside == DENSE else 6
    scored = depth * 12 * width**2  # qkv 3, projection 1, perceptron 8 square matrices
    assert dense - run.metrics["non-zero"] == pytest.approx(sparsity * scored, rel=0.01)


def test_files_say_what_pytorch_says(results):
    exported = comparison.table_exported(results)
    assert (exported["largest |Δlogit|"] < 1e-4).all() and (exported["in another class"] == 0).all()
    assert (exported["images"] == 100).all() and (exported["threads"] == 1).all()


def test_the_stored_file_in_a_runtime_of_its_own_gives_the_accuracy_of_the_model(finished, results):
    onnxruntime = pytest.importorskip("onnxruntime")
    study = finished("comparison")
    student = MODELS["DeiT student"](study.settings, 0)
    written = Store(study.place.results_dir, writable=False).open(Written(model=student).id)
    session = onnxruntime.InferenceSession(written.arrays["onnx"].tobytes())
    test = reading.test_batches(student.data, device="cpu", data_dir=study.place.data_dir)
    right = [session.run(None, {"images": images.numpy()})[0].argmax(axis=1) == labels.numpy() for images, labels in test.epoch(0)]
    assert 100 * np.concatenate(right).mean() == pytest.approx(results.run("models", model="DeiT student").metrics["top1"])


def test_files_are_written_beside_other_runs_and_only_timed_alone():
    study = load_study("comparison", "smoke", data_dir="/nowhere")
    timed = [spec for spec in study.specs.values() if isinstance(spec, Exported)]
    assert all(spec.timed and not spec.written.timed and spec.written.id in families([spec]) for spec in timed)


def test_the_front_is_what_no_other_model_beats_in_both():
    costs, gains = pd.Series([1.0, 2, 2, 3, 4, 4]), pd.Series([50.0, 60, 40, 60, 70, 70])
    beaten = {
        one
        for one in costs.index
        for other in costs.index
        if (costs[other], -gains[other]) != (costs[one], -gains[one]) and costs[other] <= costs[one] and gains[other] >= gains[one]
    }
    found = front(costs, gains)
    assert {(costs[place], gains[place]) for place in found} == {
        (costs[place], gains[place]) for place in costs.index if place not in beaten
    }
    assert found == [0, 1, 4]


def test_of_models_of_one_cost_the_best_alone_is_in_the_front():
    assert front(pd.Series([1.0, 2, 2, 2]), pd.Series([50.0, 55, 60, 57])) == [0, 2]


def test_the_answer_names_models_of_the_table_and_says_what_is_missing(results, tmp_path):
    said = comparison.finding_answer(results)
    assert "the dense model" in said and "Within one point" in said
    empty = load_study("comparison", "smoke", results_dir=str(tmp_path), data_dir="/nowhere").execute(mode="read-only")
    assert comparison.finding_answer(empty) == "The dense model is not measured yet."
    assert comparison.table_models(empty)["top-1"].isna().all()


def test_a_file_of_thousands_of_kilobytes_is_said_as_the_table_says_it(results, monkeypatch):
    table = comparison.table_models(results)
    monkeypatch.setattr(findings, "table_models", lambda results: table.assign(**{"packed kB": 2273.4}))
    assert "packed 2,273 kB" in comparison.finding_answer(results)


def test_the_figure_draws_each_model_at_its_cost_and_students_at_most_a_tenth_beside_it(results, table):
    figure = comparison.figure_pareto(results)
    for axes, (column, (_, _, unit)) in zip(figure.axes, COSTS.items(), strict=True):
        marks = sorted(tuple(bar.lines[0].get_xydata()[0]) for bar in axes.containers)
        stored = table.dropna(subset=["top-1", column])
        assert sorted(y for _, y in marks) == pytest.approx(sorted(stored["top-1"]))
        for label, models in (("AFR", "AFR"), ("two-teacher student", "two-teacher"), ("DeiT student", "DeiT")):
            found = sorted(bar.lines[0].get_xdata()[0] for bar in axes.containers if bar.get_label() == label)
            costs = sorted(stored.loc[stored.index.str.startswith(models), column] / unit)
            assert found == pytest.approx(costs, rel=0.101 if label == "DeiT student" else 1e-9)


def test_no_text_of_the_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(results):
    assert faults_at_both_widths(comparison.figure_pareto, results) == {}


def test_the_explorer_has_no_bars_of_a_cost_that_the_dense_model_lacks(results):
    table = comparison.table_models(results)
    table.loc[table["model"] == DENSE, "ONNX ms"] = float("nan")
    drawn = [np.isfinite([bar.get_width() for bar in axes.patches]).sum() for axes in draw_within(table, 100.0).axes]
    assert drawn == [len(table)] * 3 + [0]


def test_the_explorer_colours_the_least_of_each_cost_among_what_is_allowed(results):
    table = comparison.table_models(results)
    figure = draw_within(table, 100.0)
    for axes, column in zip(figure.axes, ("non-zero", "packed kB", "MACs", "ONNX ms"), strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        coloured = [bar.get_width() for bar in axes.patches if bar.get_facecolor()[2] > bar.get_facecolor()[0]]
        assert set(coloured) == {np.nanmin(widths)}
        assert np.nanmin(widths) == pytest.approx(100 * (table[column] / table[column][0]).min())
