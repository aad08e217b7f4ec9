"""`make new-paper`: a document that every command finds and nbval repeats, or nothing; and what it leaves when it is taken away."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import templates.__main__ as new_paper
from vitlib.grid.entries import documents, read_entry
from vitlib.spec import SpecError

ROOT = new_paper.ROOT
NAME = "made_for_a_test"
PLACES = [f"notebooks/{NAME}.ipynb", f"tests/nbref/{NAME}.ipynb", f"vitlib/papers/{NAME}"]
NBVAL = ["-q", "-p", "tests.nbval_plugin", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-sanitize-with"]


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def python(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """In the copy, on the copy's library, without a trace of compiling."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what the command reads and where it writes."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("vitlib", "templates", "notebooks", "tests/nbref"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (
        "pyproject.toml",
        "Makefile",
        "tests/arithmetic.py",
        "tests/renew_nbref.py",
        "tests/nbval_plugin.py",
        "tests/nbval_sanitize.cfg",
    ):
        shutil.copy(ROOT / file, copy / file)
    (copy / "figures").mkdir()
    return copy


@pytest.fixture(scope="module")
def made(checkout) -> Path:
    """The copy with a document in it."""
    before = files_below(checkout)
    done = python(checkout, "-m", "templates", NAME)
    assert done.returncode == 0, done.stderr
    assert [line for line in sorted(done.stdout.splitlines()) if line in PLACES] == PLACES
    after = files_below(checkout)
    assert {name: after[name] for name in before} == before
    assert {place for place in PLACES for name in after.keys() - before.keys() if name.startswith(place)} == set(PLACES)
    assert all(name.startswith(tuple(PLACES)) for name in after.keys() - before.keys())
    return checkout


# ------------------------------------------------------------------------------------------------ what is written


def test_the_document_is_found_by_name_with_every_profile_that_all_documents_have(made):
    listed = python(made, "-m", "vitlib", "list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith(f"{NAME} ")]
    common = set.intersection(*(set(read_entry(paper)["profile"]) for paper in documents()))
    assert common <= set(line.split(maxsplit=1)[1].split(", "))


def test_make_allows_the_profiles_that_it_did(made):
    allowed = [subprocess.run(["make", "-n", "PROFILE=x"], cwd=root, capture_output=True, text=True).stderr for root in (ROOT, made)]
    assert allowed[0] == allowed[1] and "allowed: desk paper quick smoke tiny" in allowed[0]


def test_its_grid_is_two_trainings_a_seed_at_every_profile_without_any_data(made):
    code = (
        "from vitlib import load_study; "
        f"print(*(len(load_study('{NAME}', name, data_dir='/nowhere', results_dir='/nowhere').specs) for name in "
        "('smoke', 'quick', 'desk', 'tiny', 'paper')))"
    )
    assert python(made, "-c", code).stdout.split() == ["2", "6", "24", "6", "6"]


def test_the_executed_copy_shows_table_figure_finding_and_claim_without_pictures(made):
    cells = nbformat.read(made / f"tests/nbref/{NAME}.ipynb", as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count and not any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code)
    shown = json.dumps([cell.outputs for cell in code])
    for text in ("76.9", "77.2", "Label smoothing improves accuracy", "Training on smoothed labels"):
        assert text in shown


@pytest.mark.parametrize("name", ["x", NAME, "a" * new_paper.LONGEST, "_".join(["ab"] * 13)])
def test_the_generated_files_pass_the_linter_whatever_the_name(name, tmp_path):
    shutil.copytree(ROOT / "vitlib", tmp_path / "vitlib", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    folder = tmp_path / "vitlib" / "papers" / name
    folder.mkdir(exist_ok=True)
    for path in new_paper.TEMPLATE.iterdir():
        (folder / path.name).write_text(new_paper.filled(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    for command in (["check"], ["format", "--check", "--exclude", "*.ipynb"]):
        done = python(tmp_path, "-m", "ruff", *command, "--no-cache", str(folder))
        assert done.returncode == 0, done.stdout


def test_nbval_repeats_the_copy_and_skips_one_with_a_word_whose_document_is_gone(made):
    gone = made / "tests/nbref/gone.ipynb"
    shutil.copy(made / f"tests/nbref/{NAME}.ipynb", gone)
    done = python(made, "-m", "pytest", *NBVAL, "tests/nbval_sanitize.cfg", "-rs", f"tests/nbref/{NAME}.ipynb", str(gone))
    gone.unlink()
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(made / f"tests/nbref/{NAME}.ipynb", as_version=4).cells)
    assert done.returncode == 0 and f"{cells} passed" in done.stdout, done.stdout
    assert "notebooks/gone.ipynb is gone: remove its copy in tests/nbref" in done.stdout


# ------------------------------------------------------------------------------------------------ the template


def test_a_name_takes_all_three_forms_of_the_placeholder_and_none_is_left():
    filled = "".join(new_paper.filled(path.read_text(encoding="utf-8"), "two_words") for path in new_paper.TEMPLATE.iterdir())
    assert not re.search(r"paper.?name", filled, re.IGNORECASE)
    assert all(form in filled for form in ("vitlib.papers.two_words.specs", "class TwoWordsTraining", "# Two words: "))


def test_its_claim_has_every_key_that_claims_of_the_documents_have():
    entry = tomllib.loads((new_paper.TEMPLATE / "entry.toml").read_text(encoding="utf-8"))
    known = {key for paper in documents() for claim in read_entry(paper)["claim"] for key in claim}
    (claim,) = entry["claim"]
    assert known - claim.keys() == {"margin"}  # of claims of equality alone; the entry says so in a comment


def test_its_notebook_has_the_parameters_cell_of_the_others():
    def parameters(path):
        (cell,) = [cell.source for cell in nbformat.read(path, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])]
        return cell

    assert parameters(new_paper.TEMPLATE / new_paper.NOTEBOOK) == parameters(ROOT / "notebooks" / "deit.ipynb")


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "allowed: lower-case words joined by underscores"),
        ("Trial", "allowed: lower-case words"),
        ("my-paper", "allowed: lower-case words"),
        ("2papers", "allowed: lower-case words"),
        ("_paper", "allowed: lower-case words"),
        ("a b", "allowed: lower-case words"),
        ("../x", "allowed: lower-case words"),
        ("論文", "allowed: lower-case words"),
        ("x\n", "allowed: lower-case words"),
        ("a" * (new_paper.LONGEST + 1), "at most 40 characters"),
        ("lambda", "a word of Python"),
        ("match", "a word of Python"),
        ("print", "a word of Python"),
        ("results", "which the notebook calls something else"),
        ("torch", "which the notebook calls something else"),
        ("deit", "but vitlib/papers/deit is there"),
        ("de_it", "but vitlib/papers/deit is there"),  # their run classes would share a name
        ("teachers", "is there"),
        ("spec", "but vitlib/spec.py is there"),
        ("nbref", "but tests/nbref is there"),
        ("scoreboard", "but figures/scoreboard is there"),
    ],
)
def test_a_name_that_no_document_can_have_is_refused_before_anything_is_written(name, said, monkeypatch, capsys):
    monkeypatch.setattr(new_paper.subprocess, "run", lambda *_, **__: pytest.fail("a notebook was run"))
    with pytest.raises(SpecError, match=r"^NAME: got "):
        new_paper.new_paper(name)
    assert new_paper.main([name]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.startswith("refused: NAME: got ") and captured.out == ""


# ------------------------------------------------------------------------------------------------ all or nothing


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """The folders of a checkout, with one file each."""
    for folder in new_paper.NAMED:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "kept.txt").write_text("kept")
    monkeypatch.setattr(new_paper, "ROOT", tmp_path)
    return tmp_path


def failing(error: BaseException):
    """A run of the notebook that leaves half a copy."""

    def run(command, cwd, check):
        assert (cwd / "vitlib/papers/trial/specs.py").exists() and command[-1] == "trial"
        (cwd / "tests/nbref/trial.ipynb").write_text("{")
        raise error

    return run


@pytest.mark.parametrize("error", [subprocess.CalledProcessError(1, "x"), OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_of_a_document_whose_notebook_did_not_run(error, bare, monkeypatch):
    before = sorted(bare.rglob("*"))
    monkeypatch.setattr(new_paper.subprocess, "run", failing(error))
    with pytest.raises(type(error)):
        new_paper.new_paper("trial")
    assert sorted(bare.rglob("*")) == before


def test_nothing_is_left_of_a_document_that_could_not_be_written(bare, monkeypatch):
    before = sorted(bare.rglob("*"))
    monkeypatch.setattr(new_paper, "filled", lambda text, name: "\ud800" if "[[claim]]" in text else text)
    with pytest.raises(UnicodeEncodeError):
        new_paper.new_paper("trial")
    assert sorted(bare.rglob("*")) == before


def test_a_failed_notebook_is_said_in_a_line(bare, monkeypatch, capsys):
    monkeypatch.setattr(new_paper.subprocess, "run", failing(subprocess.CalledProcessError(1, "x")))
    assert new_paper.main(["trial"]) == 1
    assert capsys.readouterr().err == "new-paper: its notebook did not run, as said above; nothing is left of it\n"
