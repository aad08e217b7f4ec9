# ruff: noqa: E501  (one case a line)
"""Bad command lines: exit status 2, one clear message, within seconds, nothing written."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support import ROOT, files_below
from vitlib.__main__ import main
from vitlib.grid.entries import read_entry

SECONDS = 5
OVERRIDES = "allowed: a table of settings"

LINES = {  # what is typed, and what is said; every path is inside the test's own folder, where `file` is a file
    "no command": ("", "the following arguments are required: command"),
    "unknown command": ("compute deit", "invalid choice: 'compute'"),
    "no document": ("status", "required: document"),
    "unknown document": ("status diet", "paper: got 'diet'; did you mean 'deit'?"),
    "a path for a document": ("run notebooks/deit.ipynb", "paper: got 'notebooks/deit.ipynb'"),
    "an empty document": ("run ''", "paper: got ''; allowed: afr_pruning"),
    "unknown profile": ("status deit --profile nope", "profile: got 'nope'; allowed: desk, paper, quick, smoke, tiny"),
    "misspelt profile": ("render deit --profile smok", "did you mean 'smoke'?"),
    "a profile of the teachers": ("run deit --profile micro", "profile: got 'micro'"),
    "unknown flag": ("run deit --profil smoke --gpu", "unrecognized arguments"),
    "unknown device": ("run deit --profile smoke --device gpu", "device: got 'gpu'; allowed: auto, cpu, cuda"),
    "unknown executor": ("run deit --profile smoke --executor slurm", "executor: got 'slurm'; allowed: inline, local, ray"),
    "unknown mode": ("run deit --profile smoke --mode readonly", "mode: got 'readonly'; did you mean 'read-only'?"),
    "a budget that is none": ("run deit --profile smoke --budget soon", "budget: got 'soon'; allowed: a number above 0 with s, m or h"),
    "a budget to read in": ("run deit --profile smoke --mode read-only --budget 5m", "budget: got one with mode='read-only', which computes nothing"),
    "a budget to begin anew in": ("run deit --profile smoke --mode force --budget 5m", "budget: got one with mode='force'", "allowed: mode='cached' or 'retry'"),
    "overrides that are no JSON": ("run deit --overrides seeds=0", "overrides: got the text 'seeds=0'", OVERRIDES),
    "overrides that are a list": ("run deit --overrides [0]", "overrides: got [0]", OVERRIDES),
    "overrides cut short": ("""run deit --overrides '{"seeds": [0'""", "overrides: got the text"),
    "overrides with one name twice": ("""run deit --overrides '{"seeds": [0], "seeds": [1]}'""", "'seeds' is given twice"),
    "an unknown setting": ("""run deit --profile smoke --overrides '{"seed": [0]}'""", "seed: unknown field; did you mean 'seeds'?"),
    "a setting of another type": ("""run deit --profile smoke --overrides '{"recipe": {"epochs": "three"}}'""", "recipe.epochs: got 'three'"),
    "a number for a table": ("""run deit --profile smoke --overrides '{"recipe": 3}'""", "recipe: got 3"),
    "no number": ("""run deit --profile smoke --overrides '{"recipe": {"lr": NaN}}'""", "recipe.lr: got nan"),
    "too few epochs for the stages": ("""run wecolora --profile smoke --overrides '{"recipe": {"epochs": 2}}'""", "leave none of 2 epochs", "allowed: recipe.epochs above 2"),
    "settings file that is absent": ("run deit --from nowhere.toml", "from: got 'nowhere.toml'; allowed: a TOML file", "No such file"),
    "settings file that is a folder": ("run deit --from folder", "from: got 'folder'", "Is a directory"),
    "settings file that is no TOML": ("run deit --from file", "from: got 'file'; allowed: a TOML file"),
    "settings file that is no text": ("run deit --from binary", "from: got 'binary'; allowed: a TOML file"),
    "settings file with a date": ("run deit --from date.toml", "day: got datetime.date(2024, 1, 1); allowed: plain numbers"),
    "results in a file": ("status deit --profile smoke --results-dir file", "results_dir: ", "file is a file; allowed: a folder"),
    "results below a file": ("run deit --profile smoke --results-dir file/below", "results_dir: ", "cannot be written (Not a directory)"),
    "figures in a file": ("render deit --profile smoke --figures-dir file", "figures_dir: ", "is a file; allowed: a folder"),
    "figures below a file": ("render deit --profile smoke --figures-dir file/below", "figures_dir: ", "cannot be written (Not a directory); choose a folder"),
    "data in a file": ("status deit --profile smoke --data-dir file", "data_dir: ", "is a file; allowed: a folder"),
    "an unknown home": ("status deit --profile smoke --results-dir ~nobody-of-that-name/r", "--results-dir: got '~nobody-of-that-name/r'", "no home folder is known"),
    "no archive": ("import", "required: archive"),
    "archive that is absent": ("import nowhere.tar", "archive ", "nowhere.tar: cannot be read as a plain tar", "No such file"),
    "archive that is a folder": ("import folder", "folder: cannot be read as a plain tar"),
    "archive that is none": ("import file", "file: cannot be read as a plain tar"),
    "archive that is compressed": ("import runs.tar.gz", "runs.tar.gz: cannot be read as a plain tar"),
    "import into a file": ("import runs.tar --results-dir file", "results_dir: ", "cannot be written"),
    "export onto a folder": ("export deit --profile smoke folder", "folder: is a folder; allowed: the path of a file"),
    "export with two wishes": ("export deit --profile smoke --needed-weights --without-weights runs.tar", "not allowed with argument"),
    "export below a file": ("export deit --profile smoke file/runs.tar", "archive: ", "cannot be written (Not a directory)"),
    "unknown notebook": ("notebooks diet", "notebook: got 'diet'; did you mean 'deit'?"),
    "notebook by its file": ("notebooks deit.ipynb", "notebook: got 'deit.ipynb'; allowed: afr_pruning, deit"),
    "notebooks at an unknown profile": ("notebooks --profile nope", "profile: got 'nope'"),
    "notebooks in an unknown mode": ("notebooks deit --profile smoke --mode nonsense", "mode: got 'nonsense'; allowed: cached, force"),
    "notebooks by an unknown executor": ("notebooks deit --profile smoke --executor nonsense", "executor: got 'nonsense'; allowed: inline, local, ray"),
    "notebooks with a budget without a unit": ("notebooks deit --budget 12", "budget: got '12'; allowed: a number above 0 with s, m or h"),
    "notebooks with a budget to read in": ("notebooks deit --profile smoke --mode read-only --budget 5m", "budget: got one with mode='read-only'"),
    "notebooks with an unknown setting": ("""notebooks deit --profile smoke --overrides '{"seed": [0]}'""", "seed: unknown field"),
    "notebooks with results below a file": ("notebooks deit --profile smoke --results-dir file/below", "results_dir: ", "cannot be written"),
    "notebooks with figures below a file": ("notebooks deit --profile smoke --figures-dir file/below", "figures_dir: ", "cannot be written"),
    "verify on an unknown device": ("verify --device gpu", "device: got 'gpu'"),
    "ship of an unknown profile": ("ship --profile quick", "profile: got 'quick'; allowed: micro, micro_cpu, smoke, tiny"),
    "a very long name": (f"status {'x' * 10_000}", "paper: got 'xxx"),
    "a very long place": (f"run deit --profile smoke --results-dir {'y' * 300}", "results_dir: ", "File name too long"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, with a file, a folder, and archives and settings that are none."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("neither TOML nor tar\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "date.toml").write_text("day = 2024-01-01\n")
    tarfile.open(tmp_path / "runs.tar", "w").close()
    tarfile.open(tmp_path / "runs.tar.gz", "w:gz").close()
    monkeypatch.chdir(tmp_path)
    for name in ("RESULTS", "FIGURES", "DATA"):
        monkeypatch.setenv(f"VITLIB_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr("vitlib.studies.headless.batch._executed", lambda *_: pytest.fail("a kernel was started"))
    return tmp_path


@pytest.mark.parametrize(("line", "words"), [(first, rest) for first, *rest in LINES.values()], ids=[*LINES])
def test_bad_command_lines_end_in_one_message_and_write_nothing(line, words, here, capsys):
    before, begun = everything_below(here), time.monotonic()
    assert status_of(line) == 2
    assert time.monotonic() - begun < SECONDS
    said = capsys.readouterr()
    message = said.err.splitlines()[-1]
    assert said.out == "" and "Traceback" not in said.err
    assert [word for word in words if word not in message] == []
    assert len(message) < 600
    assert everything_below(here) == before


def status_of(line: str) -> int:
    """Exit status; argparse leaves by SystemExit."""
    import shlex

    try:
        return main(shlex.split(line))
    except SystemExit as left:
        return left.code


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


# ------------------------------------------------------------------------------------------------ by a process of their own


def vitlib(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    command, inherited = [sys.executable, "-m", "vitlib", *arguments], os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=["ascii", "C"]
)
def test_a_terminal_without_japanese_shows_question_marks(environment, here):
    done = vitlib("list", cwd=here, **environment)
    assert done.returncode == 0, done.stderr
    assert read_entry("multi_distillation")["title_original"].encode("ascii", "replace") in done.stdout


def test_a_bad_name_is_refused_by_a_fresh_process_without_a_traceback(here):
    done = vitlib("run", "deit", "--profile", "日本語", cwd=here, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.decode().strip() == "refused: profile: got '???'; allowed: desk, paper, quick, smoke, tiny"


def test_a_settings_file_with_a_byte_order_mark_is_read(here, capsys):
    (here / "mine.toml").write_bytes('seeds = [3]\nteacher = "猫"\n'.encode("utf-8-sig"))
    assert status_of("status deit --profile smoke --from mine.toml") == 2
    assert "teacher='猫' is not among the teachers" in capsys.readouterr().err
    (here / "mine.toml").write_bytes(b"\xef\xbb\xbfseeds = [3]\n")
    assert status_of("status deit --profile smoke --from mine.toml") == 0


# ------------------------------------------------------------------------------------------------ make


def make(*arguments: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, env=inherited)


@pytest.mark.parametrize("profile", ["nonsense", "micro", "", "quick smoke", "quick;ls", "qui%"])
def test_make_figures_refuses_an_unknown_profile_before_it_builds_an_environment(profile):
    done = make("figures", f"PROFILE={profile}")
    assert done.returncode == 2
    assert f"PROFILE: got '{profile}'; allowed: desk paper quick smoke tiny" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("mode", ["readonly", "", "read only", "cached;ls", "read-onl%"])
def test_make_figures_refuses_an_unknown_mode_before_it_builds_an_environment(mode):
    done = make("figures", f"MODE={mode}")
    assert done.returncode == 2
    assert f"MODE: got '{mode}'; allowed: cached force read-only retry" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("mode", ["cached", "retry", "force", "read-only"])
def test_make_figures_passes_its_mode_on(mode):
    done = make("figures", f"MODE={mode}")
    assert done.returncode == 0, done.stderr
    assert f"-m vitlib notebooks --profile quick --mode {mode}" in done.stdout


@pytest.mark.parametrize("arguments", [("figures",), ("figures", "PROFILE=tiny"), ("test",)])
def test_make_goes_on_with_a_known_profile(arguments):
    done = make(*arguments)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_of_an_archive_that_could_not_be_finished(smoke, here, capsys, monkeypatch):
    monkeypatch.setattr("vitlib.runs.store.Store.files", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert status_of(f"export deit --profile smoke --results-dir {smoke.place.results_dir} runs2.tar") == 2
    assert "runs2.tar: cannot be written (No space left on device)" in capsys.readouterr().err
    assert [name for name in files_below(here) if "runs2" in name] == []
