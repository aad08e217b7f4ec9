"""Notebooks within a budget: their runs are computed first, one with runs left keeps its artefacts, and calling again comes to the last."""

import os
import shutil
from itertools import count

import nbformat
import pytest

from tests.support import files_below
from vitlib.__main__ import main
from vitlib.runs.clock.budget import Budget
from vitlib.runs.manifest import MANIFEST
from vitlib.runs.store import Store
from vitlib.spec import SpecError
from vitlib.studies.headless import batch

NAMES = ("teachers", "afr_pruning")


@pytest.fixture
def parameters(tmp_path):
    return {"profile": "smoke", "executor": "inline", "results_dir": str(tmp_path / "results"), "figures_dir": str(tmp_path / "figures")}


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Which notebooks were executed: here a copy is all that comes of it."""
    executed = []
    cell = 'profile = "quick"\nexecutor = "local"\nmode = "cached"\noverrides = {}\nresults_dir = ""\nfigures_dir = ""\n'
    for name in NAMES:
        tagged = nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[tagged]), tmp_path / f"{name}.ipynb")

    def execute(source, target, parameters, timeout, kernels=None):
        executed.append(source.stem)
        target.write_text(f"executed for the {len(executed)}th time")
        return ""

    monkeypatch.setattr(batch, "_executed", execute)
    monkeypatch.setattr(batch, "notebooks", lambda: {name: tmp_path / f"{name}.ipynb" for name in NAMES})
    return executed


@pytest.fixture
def all_stored(finished, parameters):
    """Both documents' runs in one store."""
    for name in NAMES:
        parameters["results_dir"] = str(finished(name).place.results_dir)


def statuses(receipts):
    return {receipt.notebook.removesuffix(".ipynb"): receipt.status for receipt in receipts}


def test_calling_again_computes_and_executes_notebook_after_notebook_and_ends(parameters, executed, tmp_path):
    seen = []
    for calls in count(1):
        receipts = batch.run_all(list(NAMES), parameters, Budget(3.0))
        seen.append(statuses(receipts))
        if set(seen[-1].values()) == {"done"}:
            break
        assert calls < 60
        for receipt in receipts:
            if receipt.status == "unfinished":
                assert "time is up" in receipt.error and receipt.error.endswith("the same command goes on")
    assert executed == list(NAMES) and calls > 1
    ways = [("unfinished", "unfinished"), ("done", "unfinished"), ("done", "done")]
    stages = [dict(zip(NAMES, way, strict=True)) for way in ways]
    assert [stages.index(each) for each in seen] == sorted(stages.index(each) for each in seen)
    assert all((tmp_path / "figures" / name / "smoke" / "results.tar.xz").exists() for name in NAMES)


def test_a_notebook_with_runs_left_keeps_its_earlier_artefacts(parameters, executed, tmp_path):
    earlier = tmp_path / "figures" / "afr_pruning" / "smoke" / "receipt.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text('{"status": "done"}')
    (receipt,) = batch.run_all(["afr_pruning"], parameters, Budget(0.01))
    assert receipt.status == "unfinished" and receipt.error.startswith("afr_pruning, smoke: time is up: 1 run(s) stored, ")
    assert executed == [] and files_below(tmp_path / "figures") == ["afr_pruning/smoke/receipt.json"]
    assert earlier.read_text() == '{"status": "done"}'


@pytest.mark.usefixtures("all_stored")
def test_nothing_is_executed_after_the_deadline_but_for_one_notebook_a_call(parameters, executed):
    budget = Budget(0.001)
    assert statuses(batch.run_all(list(NAMES), parameters, budget)) == {"teachers": "done", "afr_pruning": "unfinished"}
    (receipt,) = batch.run_all(["afr_pruning"], parameters, budget)
    assert receipt.error == "all runs are stored; not executed, for the time is up; the same command goes on"
    assert statuses(batch.run_all(list(NAMES), parameters, Budget(0.001))) == {"teachers": "done", "afr_pruning": "done"}
    assert executed == list(NAMES)


@pytest.mark.usefixtures("all_stored")
@pytest.mark.parametrize("what", ["nothing", "a run", "its source", "its parameters", "its copy"])
def test_a_notebook_is_executed_again_when_something_that_it_is_made_of_changed(what, parameters, executed, tmp_path):
    run, later = batch.run_all, os.stat(__file__).st_mtime + 10**9
    run(["afr_pruning"], parameters, Budget(100.0))
    if what == "a run":
        store = Store(parameters["results_dir"], writable=False)
        study = batch.described(tmp_path / "afr_pruning.ipynb", parameters)
        os.utime(store.root / next(iter(study.specs)) / MANIFEST, (later, later))
    elif what == "its source":
        os.utime(tmp_path / "afr_pruning.ipynb", (later, later))
    elif what == "its parameters":
        parameters["executor"] = "local"
    elif what == "its copy":
        (tmp_path / "figures" / "afr_pruning" / "smoke" / "afr_pruning.ipynb").unlink()
    run(["afr_pruning"], parameters, Budget(100.0))
    assert len(executed) == (1 if what == "nothing" else 2)


def test_a_notebook_whose_runs_fail_is_not_executed_and_the_next_one_is(parameters, executed, finished, tmp_path, monkeypatch):
    study = finished("afr_pruning")
    for run_id in study.specs:
        shutil.copytree(study.place.results_dir / run_id, tmp_path / "results" / run_id)

    def no_data(specs, *_):
        if list(specs):
            raise SpecError("data.source: not here")

    monkeypatch.setattr("vitlib.runs.execute.preflight", no_data)
    first, second = batch.run_all(list(NAMES), parameters, Budget(100.0))
    assert (first.status, first.error, second.status) == ("failed", "data.source: not here", "done")
    assert executed == ["afr_pruning"]


@pytest.mark.parametrize("mode", ["read-only", "force"])
def test_a_mode_that_has_no_use_for_a_budget_is_refused_before_anything_is_computed(mode, parameters, executed, tmp_path):
    with pytest.raises(SpecError, match=f"budget: got one with mode='{mode}'"):
        batch.run_all(list(NAMES), parameters | {"mode": mode}, Budget(100.0))
    assert executed == [] and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("became", "status"),
    [({"done"}, 0), ({"done", "failed"}, 1), ({"done", "unfinished"}, 3), ({"failed", "unfinished"}, 3)],
)
def test_the_exit_status_says_whether_the_same_command_goes_on(became, status, monkeypatch, capsys):
    receipts = [batch.Receipt(f"{each}.ipynb", each, 1.0, "", "", error=each) for each in sorted(became)]
    monkeypatch.setattr(batch, "run_all", lambda names, parameters, budget, *_: receipts if budget.seconds == 90 else [])
    assert main(["notebooks", "teachers", "--budget", "1.5m"]) == status
    said = capsys.readouterr().out
    assert all(f"{each}.ipynb: {each}" in said for each in became)
