"""A loan of a GPU without one: what it takes along, what it runs, that it ends in time, and what comes home."""

import re
import subprocess
import sys
import tarfile
import time
from types import SimpleNamespace

import pytest

from tests.support import ROOT, files_below, make_images
from vitlib.grid.entries import studies

FOLDER = ROOT / "benchmarks" / "gpu"
VITLIB = """
import sys, pathlib
arguments = sys.argv[1:]
with open(pathlib.Path({folder!r}) / "asked", "a") as asked:
    asked.write(" ".join(arguments) + chr(10))
if arguments[0] == "export":
    pathlib.Path(arguments[-1]).write_bytes(bytes(100 if "--without-weights" in arguments else {size}))
sys.exit(({statuses} if "cached" in arguments else {again}) if arguments[0] == "run" else 0)
"""


@pytest.fixture
def modules(monkeypatch):
    """The two scripts, which find each other where they lie."""
    monkeypatch.syspath_prepend(FOLDER)
    import carried
    import loan

    monkeypatch.setattr(loan, "RESERVE", 0.0)
    monkeypatch.setattr(loan, "PACKING", 0.5)
    yield SimpleNamespace(carried=carried, loan=loan)
    del sys.modules["carried"], sys.modules["loan"]


@pytest.fixture
def lent(modules, tmp_path, monkeypatch):
    """Calls the script with a vitlib in whose place one notes what it is asked."""

    def lent(*arguments, status=0, again=0, size=100):
        script = tmp_path / "vitlib.py"
        script.write_text(VITLIB.format(folder=str(tmp_path), statuses=status, again=again, size=size))
        monkeypatch.setattr(modules.loan, "VITLIB", (sys.executable, str(script)))
        done = modules.loan.main([*arguments, "--minutes", "0.5"])
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    for name in ("VITLIB_DATA", "VITLIB_RESULTS", "VITLIB_FIGURES", "OUT"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return lent


# ------------------------------------------------------------------------------------------------ what is carried


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250, 1000])
def test_an_archive_comes_home_in_small_files_and_is_whole_again_to_the_byte(size, modules, tmp_path, monkeypatch):
    monkeypatch.setattr(modules.carried, "PART", 100)
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "deit.results.tar").write_bytes(content)
    files = modules.carried.going_home(tmp_path / "deit.results.tar")
    assert all(path.stat().st_size <= 100 for path in files) and sorted(files) == sorted(tmp_path.iterdir())
    (tmp_path / "whole").mkdir()
    (archive,) = modules.carried.taken_in([*files, tmp_path / "loan6.log"], tmp_path / "whole")
    assert archive.name == "deit.results.tar" and archive.read_bytes() == content


def test_a_part_that_is_missing_is_refused_by_its_number(modules, tmp_path, monkeypatch):
    monkeypatch.setattr(modules.carried, "PART", 100)
    (tmp_path / "deit.results.tar").write_bytes(bytes(250))
    first, _, last = modules.carried.going_home(tmp_path / "deit.results.tar")
    with pytest.raises(modules.carried.Refused, match=r"deit.results.tar: its parts \[0, 2\] are here; allowed: all of them from 0 on"):
        modules.carried.taken_in([first, last], tmp_path)


def packed(folder, archive):
    subprocess.run(["tar", "cJf", archive, "-C", folder, *(path.name for path in folder.iterdir())], check=True)
    return archive


def test_image_sets_are_unpacked_by_the_names_that_a_profile_gives_them(modules, tmp_path):
    make_images(tmp_path / "one", classes=("train", "dog"))  # a class may be called so
    make_images(tmp_path / "two" / "flowers")
    make_images(tmp_path / "two" / "tiny172-32", splits=("train", "val"))
    data = tmp_path / "data"
    unpacked = modules.carried.unpacked
    assert unpacked(packed(tmp_path / "one", tmp_path / "cifar10-jpeg.tar.xz"), data, {}) == ["cifar10"]
    named = {"tiny172-32": "tiny-imagenet"}
    assert unpacked(packed(tmp_path / "two", tmp_path / "two.tar.xz"), data, named) == ["flowers", "tiny-imagenet"]
    assert sorted(path.name for path in data.iterdir()) == ["cifar10", "flowers", "tiny-imagenet"]
    assert files_below(data / "cifar10") == files_below(tmp_path / "one")
    assert files_below(data / "tiny-imagenet") == files_below(tmp_path / "two" / "tiny172-32")


def test_a_set_that_is_there_stays_and_what_holds_no_images_is_refused(modules, tmp_path):
    make_images(tmp_path / "one" / "cats")
    archive = packed(tmp_path / "one", tmp_path / "one.tar.xz")
    (tmp_path / "data" / "cats").mkdir(parents=True)
    assert modules.carried.unpacked(archive, tmp_path / "data", {}) == ["cats"]
    assert files_below(tmp_path / "data") == []
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(modules.carried.Refused, match=r"text.tar: cannot be unpacked"):
        modules.carried.unpacked(tmp_path / "text.tar", tmp_path / "data", {})
    with pytest.raises(modules.carried.Refused, match="no images in it; allowed: NAME/train"):
        modules.carried.unpacked(packed(tmp_path / "data", tmp_path / "empty.tar.xz"), tmp_path / "more", {})


# ------------------------------------------------------------------------------------------------ what is run


def test_a_document_is_computed_within_the_time_and_packed_with_the_weights_that_others_start_from(lent, tmp_path):
    done, asked = lent("3")
    run, status, export = asked
    seconds = float(re.search(r"--budget (\d+)s", run)[1])
    assert run.startswith("run afr_pruning --profile tiny --executor local --mode cached") and 20 < seconds <= 29.5
    assert status == "status afr_pruning --profile tiny"
    assert export == f"export afr_pruning --profile tiny --needed-weights {tmp_path / 'out' / 'afr_pruning.results.tar'}"
    assert done == 0 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["afr_pruning.results.tar", "loan3.log"]
    log = (tmp_path / "out" / "loan3.log").read_text()
    assert log.count("$ ") == 3 and "packed: afr_pruning.results.tar" in log and log.rstrip().endswith("done")


def test_teachers_come_home_with_all_weights(lent):
    export = lent("1")[1][-1]
    assert export.startswith("export teachers --profile tiny") and "weights" not in export


def test_committed_results_are_gone_on_from(lent, tmp_path):
    committed = tmp_path / "vitlib_figures" / "deit" / "tiny" / "results.tar.xz"
    committed.parent.mkdir(parents=True)
    committed.touch()
    assert lent("6")[1][0] == f"import {committed}"


@pytest.mark.parametrize(("status", "again", "done", "runs"), [(3, 0, 3, 1), (1, 0, 0, 2), (1, 1, 1, 2), (0, 1, 0, 1)])
def test_what_failed_is_tried_once_more_and_what_remains_is_said(status, again, done, runs, lent):
    found, asked = lent("2", status=status, again=again)
    assert found == done
    modes = [re.search(r"--mode (\w+)", line)[1] for line in asked if line.startswith("run")]
    assert modes == ["cached", "retry"][:runs]


def test_weights_that_do_not_fit_stay(lent, modules, monkeypatch, tmp_path):
    monkeypatch.setattr(modules.carried, "PART", 100)
    done, asked = lent("4", size=5000)
    assert done == 0 and ["--needed-weights" in line or "--without-weights" in line for line in asked][-2:] == [True, True]
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["dual_ssl_kd.results.tar", "loan4.log"] and files[0].stat().st_size == 100
    assert lent("4", size=700)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == modules.carried.FILES


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(modules, tmp_path):
    frame = modules.loan.Frame(tmp_path, tmp_path / "log", time.monotonic() + 1.0)
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(tmp_path / 'survived')!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    assert frame.run(sys.executable, "-c", code) is None
    assert time.monotonic() - began < 3 and "ended: the time is up" in frame.log.read_text()
    time.sleep(max(0.0, 3.5 - (time.monotonic() - began)))
    assert not (tmp_path / "survived").exists()


def test_scripts_are_run_as_long_as_there_is_time_and_what_they_wrote_comes_home(lent, modules, tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "old.json").touch()
    monkeypatch.setattr(modules.loan, "ROOT", tmp_path)
    writing = ("-c", "import pathlib; pathlib.Path('benchmarks/new.json').write_text('1')")
    monkeypatch.setitem(modules.loan.SCRIPTS, 7, [writing, ("-c", "import sys; sys.exit(0)")])
    time.sleep(0.02)
    assert lent("7")[0] == 0
    with tarfile.open(tmp_path / "out" / "benchmarks.tar") as tar:
        assert "new.json" in tar.getnames()
    monkeypatch.setitem(modules.loan.SCRIPTS, 7, [("-c", "import sys; sys.exit(4)")])
    assert lent("7")[0] == 1
    monkeypatch.setattr(modules.loan, "PACKING", 100.0)
    assert lent("7")[0] == 3


# ------------------------------------------------------------------------------------------------ refusals, and the table of loans


def test_places_that_nobody_named_are_refused_before_anything_is_done(lent, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("OUT")
    assert lent("3")[0] == 2
    assert "refused: OUT: not set; allowed: the path of a folder" in capsys.readouterr().err
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("number", ["9", "-1", "three", "1.0"])
def test_an_unknown_loan_is_refused(number, lent, capsys):
    assert lent("--", number)[0] == 2 if number == "-1" else lent(number)[0] == 2
    assert f"refused: loan: got {number!r}; allowed: unpack, home, or a number from 0 to 8" in capsys.readouterr().err


def test_the_page_lists_the_loans_of_the_script_and_every_study_has_one(modules):
    listed = re.findall(r"^\| (\d) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(map(int, listed)) == sorted(modules.loan.DOCUMENTS | modules.loan.SCRIPTS) == list(range(9))
    assert sorted(modules.loan.DOCUMENTS.values()) == sorted(studies())
    assert all((ROOT / "benchmarks" / f"{name}.py").exists() for name in modules.loan.MEASURED)


def test_the_log_of_gpus_says_that_there_was_none():
    log = (ROOT / "benchmarks" / "gpu_log.md").read_text()
    rows = [line for line in log.splitlines() if line.startswith("|")]
    assert len(rows) > 2 or "No GPU was lent so far" in log
