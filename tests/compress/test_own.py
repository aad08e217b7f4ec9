"""Your model as a notebook shows it: the same runs as the front door's, the smallest model within the tolerance, stored values alone."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import vitlib
from tests.legible import faults_at_both_widths
from vitlib import paths
from vitlib.compress import own
from vitlib.compress.given import example
from vitlib.compress.own.show.explore import draw_step
from vitlib.report.figures import drawn
from vitlib.runs.executors import inline
from vitlib.spec import SpecError

TINY = {"pretrained": False, "image_size": 32, "batch_size": 6, "device": "cpu", "augment": {}}


@pytest.fixture(scope="module")
def given(photos, tmp_path_factory):
    """Somebody's photos and an untrained network of timm's, at two sparsities."""
    folder = tmp_path_factory.mktemp("own")
    places = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures")}
    return {"model": "vit_tiny_patch16_224", "data": str(photos), "sparsities": [0.5, 0.9], "overrides": TINY, **places}


@pytest.fixture(scope="module")
def results(given):
    return own.load("smoke", **given).execute()


def test_each_step_is_the_run_of_the_front_door(results, given):
    places = {name: given[name] for name in ("results_dir",)}
    pruned = vitlib.prune(given["model"], given["data"], sparsity=0.9, epochs=2, read_only=True, **TINY, **places)
    assert pruned.run.id == results.study.rows["afr 90 %"].id
    mine = results.models.set_index("model").loc[["before", "afr 90 %"]].reset_index()
    pd.testing.assert_frame_equal(mine, pruned.summary())


def test_read_only_calls_compute_nothing_and_say_what_is_missing(photos, tmp_path):
    pruned = vitlib.prune("vit_tiny_patch16_224", photos, read_only=True, results_dir=tmp_path, **TINY)
    assert pruned.stored == {}
    assert pruned.summary().drop(columns="model").isna().all(axis=None)


def test_photos_are_counted_by_class_and_split(results):
    table = own.table_photos(results.study).set_index("class")
    assert table.loc["ant"].tolist() == [8, 2]
    assert table.loc["all"].tolist() == [24, 6]


def test_every_table_and_figure_of_the_notebook_is_drawn(results):
    for table in (own.table_given(results.study), own.table_models(results), own.table_times(results), own.table_distances(results)):
        assert not table.empty and not table.isna().any(axis=None)
    assert len(own.table_distances(results)) == 12
    distances = drawn(own.figure_distances(results))
    assert {"before", "afr 50 %", "afr 90 %", "to all alike"} <= {*distances["series"]}


def test_the_smallest_is_taken_among_those_within_the_tolerance(results, monkeypatch):
    top1 = {"before": 90.0, "afr 50 %": 88.0, "afr 90 %": 70.0}
    changed = results.models.assign(**{"top-1 %": results.models["model"].map(top1)})
    for tolerance, expected in ((1.0, None), (2.0, "afr 50 %"), (19.9, "afr 50 %"), (20.0, "afr 90 %")):
        study = type(results.study)(**{**vars_of(results.study), "tolerance": tolerance})
        again = type(results)(study, results.stored)
        again.__dict__["models"] = changed
        assert again.smallest() == expected
        assert (expected or "No model is within 1 points") in own.finding_answer(again)


def vars_of(study):
    return {name: getattr(study, name) for name in type(study).__dataclass_fields__}


def test_the_model_that_is_taken_away_is_loaded_by_the_line_that_is_given(given):
    results = own.load("smoke", **given, tolerance=100.0).execute()
    told = own.take_away(results)
    folder = results.study.place.results_dir / "your_model" / results.study.folder.name
    (line,) = [line for line in told.splitlines() if line.startswith("model = timm")]
    code = line.removeprefix("model = ").replace("model.safetensors", str(folder / "model.safetensors"))
    model = eval(code, {"timm": timm}).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        assert (model(images) - results.beside("afr 90 %").model(images)).abs().max() < 1e-5
    zeros = sum(int((value == 0).sum()) for name, value in model.state_dict().items() if name.startswith("blocks") and value.ndim == 2)
    assert zeros == pytest.approx(
        0.9 * sum(v.numel() for n, v in model.state_dict().items() if n.startswith("blocks") and v.ndim == 2), abs=1
    )
    assert "differ by at most 0" in told and str(folder) in told


def test_the_explorer_shows_stored_values_and_computes_nothing(results, monkeypatch):
    monkeypatch.setattr(inline, "compute_one", lambda *_: pytest.fail("something was computed"))
    explorer = own.explore_steps(results)
    slider = explorer.controls["model"]
    assert list(slider.options) == ["afr 50 %", "afr 90 %"]
    before = explorer.picture.value
    slider.value = "afr 90 %"
    assert explorer.picture.value != before
    table = results.models.set_index("model")
    for step in slider.options:
        shown = drawn(draw_step(results, step))
        points = shown[~shown["series"].str.endswith("interval")]
        for row in points.itertuples():
            assert row.y == table.loc[row.series, "top-1 %"]
            assert row.x in table.loc[row.series, ["packed MB", "latency ms"]].tolist()
        ends = shown[shown["series"].str.endswith("interval")]
        assert np.isin(ends["y"].round(9), table[["low", "high"]].to_numpy().round(9)).all()


@pytest.mark.parametrize("name", ["figure_sizes", "figure_times", "figure_distances"])
def test_no_text_of_a_figure_is_too_small_or_cut_off_on_a_page_and_in_a_column(name, results):
    assert faults_at_both_widths(getattr(own, name), results) == {}


def test_nothing_stored_is_nothing_shown(given):
    study = own.load("smoke", **given | {"results_dir": given["results_dir"] + "-empty"})
    results = study.execute(mode="read-only")
    assert results.models["top-1 %"].isna().all()
    assert "nothing" in own.finding_answer(results).lower() and "not" in own.take_away(results).lower()
    assert own.table_distances(results).empty
    assert drawn(own.figure_sizes(results)).empty
    own.explore_steps(results).show()


def test_stored_results_travel_and_are_shown_without_a_store(results, given):
    own.take_away(results)
    away = own.load("smoke", **given | {"results_dir": given["results_dir"] + "-away"}).execute(mode="read-only")
    pd.testing.assert_frame_equal(away.models, results.models)
    pd.testing.assert_frame_equal(own.table_distances(away), own.table_distances(results))


@pytest.mark.parametrize(
    ("method", "more", "rows"),
    [
        ("wecolora", {"reductions": [2, 3]}, ["before", "1 of 2 blocks", "1 of 3 blocks"]),
        ("one-teacher", {"teachers": ["vit_tiny_patch16_224"]}, ["teacher", "student alone", "student distilled"]),
        ("multi", {}, ["alone", "multi-distilled"]),
    ],
)
def test_other_methods_have_their_rows(method, more, rows, given):
    keywords = {"overrides": {name: value for name, value in TINY.items() if name != "batch_size"}}
    study = own.load("smoke", method=method, **given | keywords | more)
    assert list(study.rows) == rows
    assert study.reference == rows[0 if method == "wecolora" else -2]


def test_the_example_runs_without_anything_given(tmp_path):
    study = own.load("smoke", results_dir=str(tmp_path / "results"), figures_dir=str(tmp_path / "figures"))
    assert study.is_example and study.folder == tmp_path / "figures" / "your_model" / "smoke"
    assert len(own.table_photos(study)) == example.SIZES["smoke"].classes + 1
    assert study.rows["before"].teacher.origin.shipped == "dino"
    again = own.load("smoke", results_dir=str(tmp_path / "elsewhere"), figures_dir=str(tmp_path / "figures"))
    assert again.specs.keys() == study.specs.keys()


def test_what_is_set_has_a_folder_of_its_own(results, given):
    name = results.study.folder.name
    assert name.startswith("smoke-") and name != own.load("smoke", **given, tolerance=1.0).folder.name


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"method": "arf"}, "method: got 'arf'; did you mean 'afr'"),
        ({"profile": "desk"}, "profile: got 'desk'"),
        ({"method": "deit"}, "model: got none with method='deit'"),
        ({"sparsities": []}, "sparsities: got none"),
        ({"sparsities": [1.5]}, "sparsity: got 1.5"),
        ({"method": "wecolora", "reductions": [1]}, "reduction: got 1"),
        ({"tolerance": -1}, "tolerance: got -1"),
        ({"data": "/nowhere"}, "photos: /nowhere is not there"),
        ({"model": "gone.pth"}, "gone.pth; allowed"),
        ({"data": "gone"}, f"photos: {paths.root() / 'gone'} is not there"),
        ({"model": "shipped/dyno"}, "did you mean 'dino'"),
        ({"overrides": {"epoch": 3}}, "did you mean 'epochs'"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(parameters, said, tmp_path):
    with pytest.raises(SpecError) as refused:
        own.load(**{"profile": "smoke", "results_dir": str(tmp_path), **parameters})
    assert said in str(refused.value) and "\n" not in str(refused.value)
