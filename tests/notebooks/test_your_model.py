"""The notebook for one's own model: its parameters are papermill's, and the command for all notebooks knows what it is."""

import json
import logging

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vitlib.__main__ import main
from vitlib.compress.own import loading
from vitlib.grid.entries import documents
from vitlib.runs.clock.budget import Budget
from vitlib.spec import SpecError
from vitlib.studies.headless import batch
from vitlib.studies.pages.page import Page, changed, profiles_of

NOTEBOOK = batch.notebooks()["your_model"]
TINY = {"pretrained": False, "image_size": 32, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """CLASS/*.png of two classes: noise of 40 x 32 pixels, one brighter."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, name in enumerate(("day", "night")):
        (root / name).mkdir()
        for number in range(10):
            pixels = generator.integers(100 - 100 * label, 256 - 100 * label, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def executed(folder, **parameters):
    places = {"results_dir": str(folder / "results"), "figures_dir": str(folder / "figures")}
    return batch.run_notebook(NOTEBOOK, {"profile": "smoke", "executor": "inline", **places, **parameters})


def text_of(path):
    """What the cells of an executed copy show, as text."""
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    return "\n".join(str(each.get("text/markdown", each.get("text/html", each.get("text/plain", "")))) for each in data)


def test_somebodys_model_and_photos_take_the_place_of_the_example(photos, tmp_path):
    receipt = executed(tmp_path, model="vit_tiny_patch16_224", data=str(photos), sparsities=[0.6], tolerance=100.0, overrides=TINY)
    assert receipt.status == "done", receipt.error
    (folder,) = (tmp_path / "figures" / "your_model").iterdir()
    assert folder.name.startswith("smoke-data=") and (folder / "receipt.json").exists()
    assert json.loads((folder / "changes.json").read_text())["changes"]["data"] == str(photos)
    assert pd.read_csv(folder / "table_models.csv")["model"].tolist() == ["before", "afr 60 %"]
    assert pd.read_csv(folder / "table_photos.csv").set_index("class").loc["night"].tolist() == [8, 2]
    shown = text_of(folder / "your_model.ipynb")
    assert "timm.create_model('vit_tiny_patch16_224', num_classes=2, img_size=32, checkpoint_path='model.safetensors')" in shown
    assert (tmp_path / "results" / "your_model" / folder.name / "model.safetensors").exists()


def test_a_method_that_there_is_not_fails_in_its_first_cell_with_one_line(tmp_path):
    receipt = executed(tmp_path, method="arf")
    assert receipt.status == "failed"
    assert "SpecError: method: got 'arf'; did you mean 'afr'" in receipt.error.splitlines()[-1]
    assert not list(tmp_path.glob("results/*/manifest.json"))


def test_the_parameters_cell_and_the_library_agree_on_the_defaults():
    cell = batch.default_parameters(NOTEBOOK)
    assert {name: cell[name] for name in loading.DEFAULTS} == loading.DEFAULTS
    assert profiles_of(NOTEBOOK) == list(loading.example.SIZES)
    keywords = loading.load.__kwdefaults__
    assert {
        name: list(keywords[name]) if isinstance(keywords[name], tuple) else keywords[name] for name in loading.DEFAULTS
    } == loading.DEFAULTS


def test_a_page_lies_where_the_library_writes_it(photos, tmp_path):
    parameters = {"profile": "smoke", "method": "wecolora", "overrides": {"seed": 3, "image_size": 16}, "figures_dir": str(tmp_path)}
    page = batch.described(NOTEBOOK, parameters)
    study = loading.load(
        "smoke", method="wecolora", overrides={"seed": 3, "image_size": 16}, results_dir=str(tmp_path / "r"), figures_dir=str(tmp_path)
    )
    assert isinstance(page, Page) and page.folder == study.folder == tmp_path / "your_model" / "smoke-method=wecolora,image_size=16,seed=3"


def test_where_results_lie_is_no_change():
    defaults = batch.default_parameters(NOTEBOOK)
    assert changed(defaults, defaults | {"results_dir": "x", "executor": "inline", "mode": "retry", "profile": "smoke"}) == {}
    assert changed(defaults, defaults | {"tolerance": 1.0, "overrides": '{"epochs": 3}'}) == {"tolerance": 1.0, "epochs": 3}


def test_a_command_for_all_leaves_it_out_at_a_profile_it_does_not_have_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "vitlib"):
        chosen = batch.for_all({"profile": "desk"})
    assert set(documents()) <= set(chosen) and "your_model" not in chosen
    assert "your_model.ipynb is left out: it has no profile 'desk', only smoke, quick" in caplog.messages
    for parameters in ({}, {"profile": "quick"}, {"profile": "smoke", "mode": "force"}):
        assert "your_model" in batch.for_all(parameters)


def test_a_command_that_changes_all_documents_leaves_it_out_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "vitlib"):
        assert "your_model" not in batch.for_all({"overrides": {"seeds": [0]}})
    assert "your_model.ipynb is left out: overrides are settings of documents" in caplog.text


def titled(path, **metadata):
    """A notebook with a parameters cell and nothing else."""
    tagged = nbformat.v4.new_code_cell('profile = "smoke"\noverrides = {}', metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged], metadata={"vitlib": metadata} if metadata else {}), path)
    return path


def test_a_notebook_may_show_a_study_of_another_name(tmp_path):
    study = batch.described(titled(tmp_path / "overview.ipynb", study="teachers"), {"profile": "smoke"})
    assert (study.paper, study.folder.parts[-2:]) == ("teachers", ("teachers", "smoke"))
    with pytest.raises(SpecError, match="paper: got 'overview'"):
        batch.described(titled(tmp_path / "overview.ipynb"), {})


def test_within_a_budget_a_page_is_executed_once_and_not_after_the_deadline(tmp_path, monkeypatch):
    times = []

    def execute(source, target, parameters, timeout, kernels=None):
        times.append(target)
        target.write_text("executed")
        return ""

    monkeypatch.setattr(batch, "_executed", execute)
    monkeypatch.setattr(batch, "is_current", lambda study, source, parameters: bool(times))
    parameters = {"profile": "smoke", "figures_dir": str(tmp_path / "f"), "results_dir": str(tmp_path / "r")}
    late = Budget(0.001)
    late.begun = True
    assert batch.run_within(late, NOTEBOOK, parameters).status == "unfinished"
    assert [batch.run_within(Budget(100.0), NOTEBOOK, parameters).status for _ in range(2)] == ["done", "done"]
    assert times == [tmp_path / "f" / "your_model" / "smoke" / "your_model.ipynb"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"profile": "desk"}, "profile: got 'desk'"),
        ({"profile": "quik"}, "did you mean 'quick'"),
        ({"modle": "x"}, "did you mean 'mod"),
        ({"mode": "cashed"}, "did you mean 'cached'"),
        ({"sparsities": 0.9}, "allowed: a list"),
        ({"overrides": [1]}, "overrides"),
    ],
)
def test_named_with_a_bad_parameter_it_is_refused_before_a_kernel_starts(parameters, said, monkeypatch):
    monkeypatch.setattr(batch, "_executed", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(SpecError, match=said):
        batch.run_all(["your_model"], parameters)


def test_from_the_shell_an_unknown_profile_is_one_line(capsys):
    assert main(["notebooks", "your_model", "--profile", "tiny"]) == 2
    assert capsys.readouterr().err.startswith("refused: profile: got 'tiny'")
