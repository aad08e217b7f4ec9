"""Specs name no code: the function of a class is found beside it, and a missing one is an error that says where it was looked for."""

import sys
from pathlib import Path

import pytest

from vitlib import documents, load_study
from vitlib.computing import Context, Result, computes, module_of, result_of
from vitlib.grid.entries import studies
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.spec import RunSpec, SpecError

NOWHERE = Context("cpu", Path(), None, parent=None)


class Doubled(RunSpec):
    value: int


@computes(Doubled)
def double(spec, context):
    return Result({"value": 2 * spec.value})


class Forgotten(RunSpec):
    value: int = 0


def class_in(package, tmp_path, monkeypatch, compute):
    """A spec class of a package whose module `compute` holds that text; without the module for None."""
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "specs.py").write_text("from vitlib.spec import RunSpec\n\n\nclass Shown(RunSpec):\n    value: int = 1\n")
    if compute is not None:
        (folder / "compute.py").write_text(compute)
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(f"{package}.specs", fromlist=["Shown"]).Shown


def test_a_run_is_computed_by_the_function_registered_for_its_class():
    assert result_of(Doubled(value=21), NOWHERE).metrics == {"value": 42}


def test_the_module_beside_the_specs_is_imported_when_a_run_of_them_is_computed(tmp_path, monkeypatch):
    registers = "@computes(Shown)\ndef show(spec, context):\n    return Result({'value': spec.value})\n"
    text = f"from vitlib.computing import Result, computes\nfrom found_beside.specs import Shown\n\n\n{registers}"
    cls = class_in("found_beside", tmp_path, monkeypatch, text)
    assert module_of(cls) == "found_beside.compute" and "found_beside.compute" not in sys.modules
    assert result_of(cls(value=3), NOWHERE).metrics == {"value": 3}


@pytest.mark.parametrize(
    ("package", "compute", "said"),
    [
        ("without_module", None, "Shown: no function computes it; looked for the module without_module.compute, which there is not"),
        ("without_function", "", r"Shown: no function computes it; looked for @computes\(Shown\) in without_function.compute"),
    ],
)
def test_a_missing_function_is_an_error_that_says_where_it_was_looked_for(package, compute, said, tmp_path, monkeypatch):
    cls = class_in(package, tmp_path, monkeypatch, compute)
    with pytest.raises(SpecError, match=said):
        result_of(cls(), NOWHERE)


def test_a_module_that_cannot_import_something_else_says_that(tmp_path, monkeypatch):
    cls = class_in("broken_inside", tmp_path, monkeypatch, "import no_such_library_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library_anywhere"):
        result_of(cls(), NOWHERE)


def test_a_study_with_such_a_run_fails_by_name_and_leaves_no_failure_behind(place, store):
    with pytest.raises(RunsFailedError, match=r"looked for @computes\(Forgotten\)"):
        execute([Forgotten()], place)
    assert store.failure(Forgotten().id) is None  # of this machine's code, not of the run


@pytest.mark.parametrize("paper", [*documents(), *sorted(set(studies()) - set(documents()))])
def test_every_run_of_every_study_has_its_function(paper, tmp_path):
    """Of the class itself: a base's function would compute another run."""
    from vitlib.computing import _function_of

    study = load_study(paper, "smoke", results_dir=str(tmp_path), device="cpu")
    classes = {type(member) for spec in study.specs.values() for member in spec.family()}
    assert classes
    for cls in classes:
        assert _function_of(cls).__module__.startswith(module_of(cls).rpartition(".")[0])
