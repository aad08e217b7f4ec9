"""Stopped by hand: one line says what is stored and what is left, no worker stays, and the same call goes on."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from tests.support import Number, Total
from vitlib.runs.execute import RunsFailedError, StoppedError, execute
from vitlib.runs.executors import inline
from vitlib.runs.store import Store
from vitlib.runs.workers import local
from vitlib.runs.workers.one import compute_one

SMALL = ["deit", "--profile", "smoke", "--device", "cpu"]


@pytest.fixture
def total():
    return Total(left=Number(value=1), right=Number(value=2))


def stopping_at(run):
    """`compute_one` that someone interrupts in a run's middle."""

    def compute(spec, *arguments, **options):
        if spec.id == run.id:
            raise KeyboardInterrupt
        return compute_one(spec, *arguments, **options)

    return compute


def test_inline_one_line_says_what_is_stored_and_what_is_left_and_the_same_call_goes_on(total, place, store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(inline, "compute_one", stopping_at(total.right))
        with pytest.raises(StoppedError) as stopped:
            execute([total], place)
    assert (stopped.value.stored, stopped.value.left, str(stopped.value)) == (1, 2, "stopped: 1 run stored, 2 left")
    assert stopped.value.__cause__ is None and stopped.value.__suppress_context__
    assert store.ids() == [total.left.id]
    assert execute([total], place)[total.id].metrics["value"] == 3


def test_an_error_of_taking_down_what_was_interrupted_is_no_failure_of_the_run(total, place, store, monkeypatch):
    """As numpy's archives do: interrupted in writing a member, closing them raises a ValueError."""

    def put(*arguments):
        with zipfile.ZipFile(io.BytesIO(), "w") as packed:
            member = packed.open("a member", "w")  # noqa: F841  left open, as by an interruption within
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", put)
        with pytest.raises(StoppedError, match="stopped: 0 runs stored, 3 left"):
            execute([total], place)
    assert execute([total], place)[total.id].metrics["value"] == 3


def test_what_was_to_be_computed_anew_and_was_not_counts_as_left(total, place, monkeypatch):
    execute([total], place)
    monkeypatch.setattr(inline, "compute_one", stopping_at(total))
    with pytest.raises(StoppedError, match="stopped: 2 runs stored, 1 left"):
        execute([total], place, mode="force")


def test_workers_are_ended_and_what_was_under_way_is_left(total, place, store, monkeypatch):
    def stop(pool, worker):
        raise KeyboardInterrupt

    started = []
    start = local.Workers._start
    with monkeypatch.context() as patched:
        patched.setattr(local.Workers, "_start", lambda pool, slot: started.append(start(pool, slot)) or started[-1])
        patched.setattr(local.Workers, "_listen", stop)
        with pytest.raises(StoppedError) as stopped:
            execute([total], place, executor="local")
    assert started and all(worker.process.poll() is not None for worker in started)
    assert stopped.value.stored + stopped.value.left == 3 and stopped.value.stored == len(store.ids())


def test_a_notebook_shows_one_line_instead_of_a_traceback(total):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown = []
    shell._showtraceback = lambda kind, error, lines: shown.append(lines)
    shell.user_ns["stop"] = lambda: (_ for _ in ()).throw(StoppedError(12, 46))
    shell.run_cell("stop()")
    assert shown == [["stopped: 12 runs stored, 46 left; run this cell again, or all cells, and it goes on from there"]]


def test_failures_are_told_in_words_beside_the_id(total, place):
    (place.data_dir / f"break-{total.left.id}").touch()
    with pytest.raises(RunsFailedError, match=rf"{total.left.id} \(the first number\): "):
        execute([total], place, titles={total.left.id: "the first number"})


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_ctrl_c_in_a_terminal_leaves_a_line_and_no_process(executor, tmp_path):
    """The terminal interrupts the whole group of processes in its foreground."""
    command = [sys.executable, "-m", "vitlib", "run", *SMALL, "--executor", executor, "--results-dir", str(tmp_path)]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell's background jobs do not hear it
    how = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True, "preexec_fn": heard}
    run = subprocess.Popen(command, **how, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while run.poll() is None and not list(tmp_path.glob("[!.]*/manifest.json")):
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    lines = [line for line in said.splitlines() if line and not line.startswith("runs ")]
    assert run.returncode == 130
    assert len(lines) == 1 and lines[0].startswith("stopped: ") and lines[0].endswith(" left; the same command goes on from there")
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
    assert not processes_with(str(tmp_path))


def processes_with(text):
    ran = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in ran.stdout.splitlines() if text in line]
