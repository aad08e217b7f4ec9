"""Notebooks: sources are clean, papermill regenerates them, nbval would notice, and a dead kernel is a failure."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from tests.support import ROOT
from vitlib.__main__ import main
from vitlib.grid.entries import documents, studies
from vitlib.spec import SpecError
from vitlib.studies.headless import batch, copies, forks
from vitlib.studies.pages.page import profiles_of, study_of

NBREF = ROOT / "tests" / "nbref"
NBVAL = [sys.executable, "-m", "pytest", "-q", "-p", "tests.nbval_plugin", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
NBVAL += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg", "--nbval-cell-timeout", "300", "--nbval-kernel-startup-timeout", "120"]
TIMED = {"figure_throughput", "figure_times", "table_models", "table_times", "table_costs", "table_speed", "claims_times", "figure_pareto"}
SUFFIXES = {"table": (".csv", ".md"), "figure": (".csv", ".png", ".pdf")}
CLAIMS_ON_TIME = {"wecolora": {"claims", "table_1"}}
SPEEDS = {"deit": "table_models", "wecolora": "table_costs", "overview": "table_models"}  # tables with columns of measured times


LINK = r"\]\((\.\.?/[^)\s]*)\)"


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def without_links(cell) -> str:
    return re.sub(LINK, "]()", cell.source) if cell.cell_type == "markdown" else cell.source


def saved(path: Path) -> list[tuple[str, str]]:
    """Kind and name of each table and figure that a notebook saves."""
    return re.findall(r'study\.save_(table|figure)\(.*, "(\w+)"\)', "\n".join(cell.source for cell in cells(path)))


def executed_or_not() -> list[Path]:
    """Notebooks and executed copies, but for those of a notebook that is gone."""
    found = [path for folder in ("notebooks", "tests/nbref", "figures") for path in (ROOT / folder).rglob("*.ipynb")]
    return sorted(path for path in found if path.stem in batch.notebooks())


@pytest.fixture(scope="module", params=sorted(batch.notebooks()))
def source(request) -> Path:
    return batch.notebooks()[request.param]


def test_every_document_has_a_notebook_and_every_other_notebook_a_study_or_profiles_of_its_own():
    others = {name: path for name, path in batch.notebooks().items() if name not in documents()}
    assert len(others) == len(batch.notebooks()) - len(documents())
    for path in others.values():
        assert profiles_of(path) or study_of(path) in studies()


def test_sources_carry_no_outputs_and_short_cells(source):
    for cell in cells(source):
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            assert len(cell.source.splitlines()) <= 15


def test_the_parameters_cell_holds_literals_with_a_comment_each(source):
    (tagged,) = [cell for cell in cells(source) if "parameters" in tags(cell)]
    assert all("#" in line for line in tagged.source.splitlines())
    assert batch.default_parameters(source)["profile"] == "quick"


def test_the_reference_is_its_notebook_executed_at_smoke(source):
    """The source cells are equal but for the injected parameters and places of links; every code cell was run, none failed."""
    reference = cells(NBREF / source.name)
    (injected,) = [cell for cell in reference if "injected-parameters" in tags(cell)]
    assert 'profile = "smoke"' in injected.source
    kept = [cell for cell in reference if cell is not injected]
    assert [without_links(cell) for cell in kept] == [without_links(cell) for cell in cells(source)], "run `make nbref`"
    for cell in reference:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert all(output.output_type != "error" for output in cell.outputs)


@pytest.mark.parametrize("path", executed_or_not(), ids=str)
def test_relative_links_of_sources_and_copies_lead_somewhere(path):
    links = [link for cell in cells(path) if cell.cell_type == "markdown" for link in re.findall(LINK, cell.source)]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_a_copy_elsewhere_reads_relative_links_from_there_and_leaves_others(tmp_path):
    text = "[a](../vitlib/spec.py), [b](./x.md), [c](https://example.org/../d), [e](#part), ![f](../g.png)"
    for folder in (tmp_path / "here", tmp_path / "far" / "away"):
        folder.mkdir(parents=True)
    moved = copies.links_from(tmp_path / "far" / "away", tmp_path / "here", text)
    assert moved == "[a](../../vitlib/spec.py), [b](../../here/x.md), [c](https://example.org/../d), [e](#part), ![f](../../g.png)"


def test_the_sanitise_file_touches_no_number():
    patterns = re.findall(r"^regex: (.*)$", (ROOT / "tests" / "nbval_sanitize.cfg").read_text(), re.MULTILINE)
    for text in ("81.5", "12,346", "+1.0", "-0.063", "3", "0.000", "2.3 s", "1e-05"):
        for pattern in patterns:
            assert re.sub(pattern, "", text) == text


@pytest.fixture(scope="module")
def kernels():
    with forks.started() as started:
        yield started


@pytest.fixture(scope="module")
def executed(source, kernels, finished, tmp_path_factory) -> list[Path]:
    """Two papermill runs of a notebook at smoke: one computes in the kernel, the other reads what a process of its own computed backwards;
    a page, which has no study that another process could compute, leaves it to workers.
    """
    folders = [tmp_path_factory.mktemp(source.stem) for _ in range(2)]
    ways = [{"executor": "inline", "results_dir": str(folders[0] / "results")}]
    if profiles_of(source):
        ways.append({"executor": "local", "results_dir": str(folders[1] / "results")})
    else:
        ways.append({"results_dir": str(finished(study_of(source)).place.results_dir)})
    known = batch.default_parameters(source)
    for way, folder in zip(ways, folders, strict=True):
        asked = {"profile": "smoke", "figures_dir": str(folder / "figures"), **way}
        receipt = batch.run_notebook(source, {name: value for name, value in asked.items() if name in known}, kernels=kernels)
        assert receipt.status == "done", receipt.error
    return [folder / "figures" / study_of(source) / "smoke" for folder in folders]


def test_two_papermill_runs_give_identical_tables_and_figures(executed, source):
    one, two = executed
    timed = TIMED | CLAIMS_ON_TIME.get(source.stem, set())
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    compared = [name for name in names if name.partition(".")[0] not in timed and name.endswith((".csv", ".md", ".png", ".pdf"))]
    assert compared == sorted(f"{name}{suffix}" for kind, name in saved(source) if name not in timed for suffix in SUFFIXES[kind])
    assert [name for name in compared if (one / name).read_bytes() != (two / name).read_bytes()] == []


def test_timed_tables_differ_in_nothing_but_times(executed, source):
    if source.stem not in SPEEDS:
        pytest.skip("none of its tables holds a speed")
    one, two = (pd.read_csv(folder / f"{SPEEDS[source.stem]}.csv") for folder in executed)
    times = [name for name in one if name.endswith((" ms", "images/s"))]
    one, two = one.drop(columns=times), two.drop(columns=times)
    assert times
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_the_executed_copy_and_its_receipt_lie_beside_the_figures(executed, source):
    receipt = json.loads((executed[0] / "receipt.json").read_text())
    assert (receipt["status"], receipt["notebook"]) == ("done", source.name)
    assert (executed[0] / "results.tar.xz").exists()
    copy = (executed[0] / source.name).read_text()
    assert '"image/png"' in copy
    assert "widget-view" not in copy


def test_every_picture_of_an_executed_copy_has_an_alt_text_where_nbconvert_and_where_myst_nb_read_it(executed, source):
    shown = [
        cell
        for cell in cells(executed[0] / source.name)
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    assert shown
    for cell in shown:
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        texts = [picture.metadata["image/png"]["alt"] for picture in pictures]
        assert all(20 < len(text) <= 300 for text in texts)
        assert cell.metadata["mystnb"]["image"]["alt"] == " ".join(texts)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"profil": "smoke"}, "did you mean 'profile'"),
        ({"profile": "smok"}, "did you mean 'smoke'"),
        ({"profile": 3}, "allowed: a str"),
        ({"overrides": {"recipe": {"epoch": 2}}}, "did you mean 'epochs'"),
        ({"overrides": {"seeds": "0"}}, "seeds"),
        ({"x = 1; import os; os._exit(0); y": 1}, "unknown parameter"),
        ({"profile": "smoke'; import os; os._exit(0); '"}, "allowed: desk"),
    ],
)
def test_bad_parameters_are_refused_before_a_kernel_starts(parameters, said, monkeypatch):
    monkeypatch.setattr(batch, "_executed", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(SpecError, match=re.escape(said)):
        batch.run_all(documents(), parameters)


def test_outside_the_checkout_nothing_is_run_and_nothing_is_said_to_be_done(tmp_path, monkeypatch):
    monkeypatch.setattr("vitlib.paths.root", lambda: tmp_path)
    with pytest.raises(SpecError, match=r"notebooks: none in .*; run this in the checkout of vitlib"):
        batch.run_all([], {})


def test_an_unknown_notebook_is_refused_with_the_nearest_name():
    with pytest.raises(SpecError, match="did you mean 'deit'"):
        batch.run_all(["diet"], {})


def notebook(path: Path, *sources: str) -> Path:
    """A notebook with the parameters of a real one and some code cells."""
    parameters = nbformat.v4.new_code_cell('profile = "smoke"\noverrides = {}', metadata={"tags": ["parameters"]})
    code = [nbformat.v4.new_code_cell(text) for text in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, *code], metadata=kernel), path)
    return path


DEATH = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("code", "said"),
    [(DEATH, "DeadKernel"), ("raise ValueError('no')", "ValueError"), ("import time; time.sleep(60)", "Timeout")],
)
def test_a_notebook_that_does_not_finish_is_reported_failed_within_30_s(code, said, tmp_path):
    start = time.monotonic()
    receipt = batch.run_notebook(notebook(tmp_path / "deit.ipynb", code, "1 + 1"), {}, folder=tmp_path / "out", timeout=10)
    assert time.monotonic() - start < 30
    assert receipt.status == "failed" and 0 < receipt.seconds < 120
    assert said in receipt.error
    assert json.loads((tmp_path / "out" / "receipt.json").read_text())["status"] == "failed"


def test_the_next_notebook_runs_after_a_failing_one(tmp_path, monkeypatch):
    known = {"bad": notebook(tmp_path / "deit.ipynb", "1 / 0"), "good": notebook(tmp_path / "deit2.ipynb", "1 + 1")}
    monkeypatch.setattr(batch, "notebooks", lambda: known)
    monkeypatch.setattr(batch, "described", lambda source, parameters: SimpleNamespace(folder=tmp_path / "figures"))
    monkeypatch.setattr(batch, "leave", lambda study: None)
    assert [receipt.status for receipt in batch.run_all(["bad", "good"], {})] == ["failed", "done"]


def test_who_comes_beside_the_last_notebooks_finds_all_runs_stored_and_is_no_notebook(finished, tmp_path, monkeypatch):
    study, seen = finished("deit"), []
    places = {"results_dir": str(study.place.results_dir), "figures_dir": str(tmp_path)}
    monkeypatch.setattr(batch, "run_notebook", lambda source, *_, **__: source.stem)
    receipts = batch.run_all(
        ["deit"], {"profile": "smoke", **places}, beside=lambda: seen.append(study.status()["state"].unique().tolist())
    )
    assert receipts == ["deit"] and seen == [["stored"]]


@pytest.mark.parametrize("is_called", [True, False])
def test_the_scoreboard_is_drawn_once_beside_the_notebooks_or_after_them(is_called, monkeypatch, capsys):
    drawn, done = [], batch.Receipt("deit.ipynb", "done", 1.0, "", "")
    monkeypatch.setattr("vitlib.__main__._scoreboard", lambda options: drawn.append(options.profile) or Path("here"))
    monkeypatch.setattr(batch, "run_all", lambda *others: (is_called and others[-1]()) or [done])
    assert main(["notebooks", "--profile", "smoke"]) == 0
    assert drawn == ["smoke"] and "scoreboard of all documents: here" in capsys.readouterr().out


def run_nbval(path: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*NBVAL, str(path)], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def executed_copy(folder: Path, *sources: str) -> Path:
    folder.mkdir(exist_ok=True)
    receipt = batch.run_notebook(notebook(folder / "source.ipynb", *sources), {}, folder=folder / "ref")
    assert receipt.status == "done", receipt.error
    return folder / "ref" / "source.ipynb"


@pytest.fixture
def unchecked(monkeypatch):
    """Small notebooks that belong to no document."""
    monkeypatch.setattr(batch, "described", lambda source, parameters: None)
    monkeypatch.setattr(batch, "leave", lambda study: None)


def test_nbval_passes_on_an_equal_copy_and_fails_when_one_number_changed(tmp_path, unchecked):
    path = executed_copy(tmp_path, "import pandas as pd\npd.DataFrame({'top1': ['81.5']}).style.set_uuid('t')")
    assert run_nbval(path).returncode == 0
    changed = path.read_text().replace("81.5</td>", "81.6</td>")
    assert changed != path.read_text()
    path.write_text(changed)
    assert run_nbval(path).returncode != 0


def test_nbval_reports_a_killed_kernel_within_30_s(tmp_path, unchecked):
    path = executed_copy(tmp_path, "print('alive')", "print('after')")
    path.write_text(path.read_text().replace("print('alive')", DEATH))
    start = time.monotonic()
    outcome = run_nbval(path)
    assert time.monotonic() - start < 30
    assert outcome.returncode != 0
    assert "the kernel died" in outcome.stdout
