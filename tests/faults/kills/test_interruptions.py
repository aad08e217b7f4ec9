"""Ctrl-C wherever the program may be: at the first call of each function that a study calls, it is stopped, and no run has failed."""

import sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

from tests.faults.counted import count
from tests.support import files_below
from vitlib.__main__ import main
from vitlib.runs.executors import driver

STOPPED = 130
GOES_ON = "the same command goes on from there"


def interrupted(folder: Path, at: int) -> None:
    """For a process of its own: a study interrupted at the first call of the at-th function (0: none); what became of it lies there."""
    called: dict = {}

    def profile(frame, event, argument):
        code = frame.f_code
        if event == "call" and code not in called:
            called[code] = f"{code.co_qualname} in {code.co_filename}"
            if len(called) == at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    command = ["run", "deit", "--profile", "smoke", "--executor", "inline", "--device", "cpu", "--results-dir", str(folder / "results")]
    with (folder / "said").open("w") as said, redirect_stderr(said):
        sys.setprofile(profile)
        try:
            status = main(command)
        finally:
            sys.setprofile(None)
    driving = driver.drive.__code__ in called
    (folder / "became").write_text(f"{status}\n{len(called)}\n{driving}\n{list(called.values())[-1]}")


def became(forking, folder: Path, at: int) -> tuple[int, int, bool, str]:
    folder.mkdir()
    child = forking.Process(target=interrupted, args=(folder, at), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0, (folder / "said").read_text()
    status, functions, driving, last = (folder / "became").read_text().split("\n")
    return int(status), int(functions), driving == "True", last


FIRST = 1200  # functions that a study calls in any case


@pytest.fixture(scope="module")
def functions(forking, tmp_path_factory):
    """How many a study calls that is not interrupted."""
    status, functions, *_ = became(forking, tmp_path_factory.mktemp("interruptions") / "whole", 0)
    assert status == 0
    return functions


@pytest.mark.parametrize(("tries", "at_length"), [(3, False), pytest.param(60, True, marks=pytest.mark.faults)])
def test_an_interruption_in_any_function_stops_a_study_and_fails_no_run(tries, at_length, forking, tmp_path, request):
    functions = request.getfixturevalue("functions") if at_length else FIRST
    for at in np.random.default_rng(tries).choice(functions, tries, replace=False) + 1:
        folder = tmp_path / str(at)
        status, _, driving, where = became(forking, folder, at)
        said = (folder / "said").read_text()
        if "weakref" in said and status == 0:  # one in a callback of the garbage collector Python itself swallows
            continue
        assert status == STOPPED and GOES_ON in said, f"at {where}: {status}, {said}"
        assert not driving or " left; " in said or "what was computed is stored" in said, f"at {where}: {said}"
        assert [files_below(folder / "results" / name) for name in (".failed", ".claims", ".asked")] == [[]] * 3, where
    count("an interruption in any function of a study", tries=tries)
