"""SIGINT and SIGTERM in every phase of a command: no process stays, claims are free, and the same command ends in the same numbers."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.counted import count
from tests.faults.kills.marked import NAME, gone, mark
from tests.support import assert_same_result, execute_smoke, files_below
from vitlib.runs.store import Store

SECONDS = 10.0  # after which no process is left
PATIENCE = 60.0
SMALL = ("--profile", "smoke")
COMMANDS = {
    "run": ("run", "deit", *SMALL, "--device", "cpu", "--executor", "local"),
    "run, inline": ("run", "deit", *SMALL, "--device", "cpu", "--executor", "inline"),
    "notebooks": ("notebooks", "deit", *SMALL),
    "render": ("render", "deit", *SMALL, "--columns"),
}
PHASES = {  # what lies there when it is reached
    "starting": lambda results, figures, seconds: seconds > 1.0,
    "computing": lambda results, figures, seconds: any(results.glob("[!.]*/manifest.json")),
    "training": lambda results, figures, seconds: any(results.glob(".scratch/*/code")),
    "storing": lambda results, figures, seconds: any(results.glob(".partial/*")),
    "executing": lambda results, figures, seconds: len(list(results.glob("student-*/manifest.json"))) > 1 and any(figures.glob("*/*")),
    "drawing": lambda results, figures, seconds: any(figures.glob("*/*/*.csv")),
}
CASES = [
    *((name, phase) for name in ("run", "run, inline") for phase in ("starting", "computing", "training", "storing")),
    *(("notebooks", phase) for phase in ("starting", "computing", "executing", "drawing")),
    ("render", "drawing"),
]
SHORT = ("run", "computing", signal.SIGTERM)
EVERY = [(*case, number) for case in CASES for number in (signal.SIGINT, signal.SIGTERM) if (*case, number) != SHORT]


def started(command, results, figures, text):
    """As from a terminal: SIGINT goes to the group of processes in its foreground, SIGTERM to the command alone."""
    places = ("--results-dir", str(results), "--figures-dir", str(figures))
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell's background jobs do not hear it
    return subprocess.Popen(
        [sys.executable, "-m", "vitlib", *command, *places],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
        env=os.environ | {"OMP_NUM_THREADS": "1", NAME: text},
    )


def send(process, number):
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)


@pytest.mark.parametrize(
    ("name", "phase", "number"), [SHORT, *(pytest.param(*case, marks=pytest.mark.faults) for case in EVERY)], ids=lambda value: str(value)
)
def test_a_signal_leaves_no_process_and_the_same_command_goes_on_to_the_same_numbers(name, phase, number, smoke, forking, tmp_path):
    results, figures, text = tmp_path / "results", tmp_path / "figures", mark()
    if name == "render":
        results = smoke.place.results_dir
    command, began = started(COMMANDS[name], results, figures, text), time.monotonic()
    while command.poll() is None and not PHASES[phase](results, figures, time.monotonic() - began):
        time.sleep(0.002)
    assert command.poll() is None, command.communicate()[1]
    send(command, number)
    _, said = command.communicate(timeout=PATIENCE)
    seconds = gone(text, SECONDS)
    assert command.returncode != 0 or phase == "drawing", said
    if number == signal.SIGINT and phase != "starting":
        assert command.returncode == 130 and "the same command goes on from there" in said, said
    if name == "render":
        return
    if results.exists():
        Store(results).sweep()
        assert files_below(results / ".claims") == files_below(results / ".partial") == files_below(results / ".failed") == []
    require_right(results, smoke, forking)
    count("SIGINT or SIGTERM in a phase of a command", recovery=seconds)


def require_right(results, smoke, forking):
    child = forking.Process(target=execute_smoke, args=(results,), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    resumed, whole = Store(results, writable=False), Store(smoke.place.results_dir, writable=False)
    assert resumed.ids() == whole.ids()
    for run_id in whole.ids():
        if not run_id.startswith("throughput"):  # its numbers are times
            assert_same_result(resumed.read(run_id), whole.read(run_id))
