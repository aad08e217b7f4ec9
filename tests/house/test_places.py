"""Where things lie: `~`, relative places, notebooks started from other folders, a home that cannot be written."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.support import EXAMPLE, ROOT, files_below
from vitlib import load_study, paths
from vitlib.__main__ import main
from vitlib.grid.entries import documents
from vitlib.runs.manifest import StoreError
from vitlib.spec import SpecError
from vitlib.studies.headless import batch


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("RESULTS", "FIGURES", "DATA"):
        monkeypatch.delenv(f"VITLIB_{name}", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("place", "variable", "default"),
    [
        (paths.results_dir, "VITLIB_RESULTS", "results"),
        (paths.figures_dir, "VITLIB_FIGURES", "figures"),
        (paths.data_dir, "VITLIB_DATA", "data"),
    ],
)
def test_parameters_and_variables_start_at_the_checkout_and_know_the_home(place, variable, default, home, monkeypatch, tmp_path):
    for folder in (ROOT, ROOT / "notebooks", tmp_path):  # the last is in no checkout: then it is vitlib's own
        monkeypatch.chdir(folder)
        monkeypatch.delenv(variable, raising=False)
        assert place() == ROOT / default
        assert place("mine/r") == ROOT / "mine" / "r"
        assert place("~/r") == home / "r"
        assert place("/r") == Path("/r")
        monkeypatch.setenv(variable, "~/v")
        assert place() == home / "v"
        monkeypatch.setenv(variable, "v")
        assert place() == ROOT / "v"
        assert place("~/r") == home / "r"


def test_outside_any_checkout_places_start_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "_is_checkout", lambda folder: False)
    assert paths.results_dir("r") == tmp_path / "r"


def test_places_on_a_command_line_start_where_one_stands(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.from_shell("../r") == tmp_path / ".." / "r"
    assert paths.from_shell("~/runs.tar") == home / "runs.tar"


def test_every_command_puts_relative_places_where_one_stands(smoke, home, tmp_path, monkeypatch, capsys):
    """Results, figures and archives of `render`, `export` and `import`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "r").symlink_to(smoke.place.results_dir)
    study = ["deit", "--profile", "smoke", "--results-dir", "../r"]
    assert main(["render", *study, "--figures-dir", "pictures"]) == 0
    assert "figure_strategies.png" in os.listdir(tmp_path / "here" / "pictures" / "deit" / "smoke")
    assert main(["export", *study, "~/runs.tar"]) == 0
    assert main(["import", "~/runs.tar", "--results-dir", "copy"]) == 0
    assert len(list((tmp_path / "here" / "copy").glob("student*"))) == len(list(smoke.place.results_dir.glob("student*")))
    assert main(["status", "deit", "--profile", "smoke", "--results-dir", "copy"]) == 0
    assert "missing" not in capsys.readouterr().out


@pytest.mark.parametrize("given", ["~nobody-of-that-name/r", "a\0b", "x" * 300, 3])
def test_places_that_cannot_be_are_refused(given, tmp_path, monkeypatch):
    with pytest.raises(SpecError, match=r"results_dir: got .*; allowed: the path of a folder"):
        load_study("deit", "smoke", results_dir=given)


def test_a_place_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name in ("results_dir", "figures_dir", "data_dir"):
        with pytest.raises(StoreError, match=f"{name}: .*file is a file; allowed: a folder"):
            load_study("deit", "smoke", **{name: str(tmp_path / "file")})


# ------------------------------------------------------------------------------------------------ notebooks


SHOW = (
    "from vitlib import load_study\nstudy = load_study('deit', profile, overrides=overrides)\nprint(study.place.results_dir, study.folder)"
)


def small_notebook(path: Path, code: str) -> Path:
    """A notebook with parameters like those of a real one, and one cell of code."""
    parameters = nbformat.v4.new_code_cell('profile = "smoke"\noverrides = {}', metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)], metadata=kernel), path)
    return path


def papermill(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VITLIB_")} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "papermill", *arguments], cwd=cwd, env=inherited, capture_output=True, text=True, timeout=120
    )


def printed(path: Path) -> str:
    return "".join(output.get("text", "") for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", []))


def test_papermill_from_another_folder_uses_the_places_of_the_checkout(tmp_path):
    small_notebook(tmp_path / "deit.ipynb", SHOW)
    done = papermill("deit.ipynb", "out.ipynb", "-k", "python3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert printed(tmp_path / "out.ipynb").split() == [str(ROOT / "results"), str(ROOT / "figures" / "deit" / "smoke")]


def test_overrides_given_to_papermill_as_text_are_read_as_json_or_refused_with_the_cure(tmp_path):
    small_notebook(tmp_path / "deit.ipynb", SHOW)
    done = papermill("deit.ipynb", "out.ipynb", "-k", "python3", "-p", "overrides", json.dumps({"recipe": {"epochs": 8}}), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert printed(tmp_path / "out.ipynb").split()[1].endswith("deit/smoke-recipe.epochs=8")
    done = papermill("deit.ipynb", "out.ipynb", "-k", "python3", "-p", "overrides", "{epochs: 8}", cwd=tmp_path)
    assert done.returncode != 0
    assert "overrides: got the text '{epochs: 8}'; allowed: a table of settings" in done.stderr and "papermill -y" in done.stderr


def test_a_notebook_whose_signature_cannot_be_kept_is_done(tmp_path, monkeypatch, caplog):
    """The secret of signatures lies in the home folder; root may write everywhere, but nobody below a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "file" / "jupyter"))
    monkeypatch.setattr(batch, "described", lambda source, parameters: None)
    monkeypatch.setattr(batch, "leave", lambda study: None)
    with caplog.at_level(logging.WARNING, logger="vitlib"):
        receipt = batch.run_notebook(small_notebook(tmp_path / "deit.ipynb", "1 + 1"), {}, folder=tmp_path / "out")
    assert receipt.status == "done", receipt.error
    assert "deit.ipynb is not signed" in caplog.text and "its results stand" in caplog.text
    assert files_below(tmp_path / "out") == ["deit.ipynb", "receipt.json"]


def test_a_changed_notebook_puts_its_copy_and_receipt_beside_those_of_the_unchanged_one(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("VITLIB_RESULTS", str(tmp_path / "results"))
    source = small_notebook(tmp_path / "deit.ipynb", SHOW)
    default = tmp_path / "figures" / "deit" / "smoke"
    assert batch.run_notebook(source, {}).status == "done"
    before = {name: (default / name).read_bytes() for name in files_below(default)}
    assert set(before) == {"deit.ipynb", "receipt.json"}
    assert batch.run_notebook(source, {"overrides": EXAMPLE}).status == "done"
    beside = default.with_name("smoke-recipe.epochs=8")
    assert files_below(beside) == ["deit.ipynb", "receipt.json"]
    assert printed(beside / "deit.ipynb").split()[1] == str(beside)
    assert json.loads((beside / "receipt.json").read_text())["parameters"] == {"overrides": EXAMPLE}
    assert {name: (default / name).read_bytes() for name in files_below(default)} == before
    assert sorted(path.name for path in default.parent.iterdir()) == ["smoke", "smoke-recipe.epochs=8"]


def test_the_page_on_exploring_and_every_parameters_cell_give_the_example_that_is_tested():
    literal = json.dumps(EXAMPLE)
    assert f"overrides = {literal}" in (ROOT / "docs" / "exploring.md").read_text(encoding="utf-8")
    for source in (batch.notebooks()[name] for name in documents()):
        (tagged,) = [cell for cell in nbformat.read(source, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])]
        assert f"e.g. {literal}" in tagged.source
