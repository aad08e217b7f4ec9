"""Kernels that fork from a process with the libraries loaded: they answer as fresh ones do, die alone, and do not outlive their driver."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError

from vitlib.studies.headless import forks, kernel

pytestmark = pytest.mark.skipif(not forks.AVAILABLE, reason="forked kernels need Linux")
PATIENCE = 30.0  # seconds

SEEN_BY_A_CELL = [
    "import os, sys, signal; os.getcwd() == os.environ['PWD_ASKED'], sys.path[0], __name__, sys.modules['__main__'].__dict__ is globals()",
    "signal.getsignal(signal.SIGCHLD), os.getsid(0) == os.getpid(), sys.stdin.isatty(), 'torch' in globals()",
    "import subprocess; subprocess.run(['true']).returncode, subprocess.run(['cat'], capture_output=True).stdout",
    "import matplotlib; matplotlib.get_backend()",
    "import matplotlib.pyplot as plt; plt.figure(figsize=(1, 1)).add_axes((0, 0, 1, 1)).plot([1, 2]); plt.show()",
    "import torch; torch.manual_seed(0); torch.rand(3), (torch.ones(200, 200) @ torch.ones(200, 200)).sum()",
]


@pytest.fixture(scope="module")
def source():
    with forks.started() as kernels:
        yield kernels


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """The outputs of cells, executed in a kernel of the source, or in a fresh one."""
    monkeypatch.setenv("PWD_ASKED", str(tmp_path))

    def execute(cells, kernels, name="cells"):
        tagged = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]})
        notebook = nbformat.v4.new_notebook(cells=[tagged, *map(nbformat.v4.new_code_cell, cells)])
        path, target = tmp_path / f"{name}.ipynb", tmp_path / f"{name}.out.ipynb"
        nbformat.write(notebook, path)
        kernel.execute(path, target, {}, PATIENCE, kernels)
        return [[output.get("data", output.get("text")) for output in cell.outputs] for cell in nbformat.read(target, 4).cells[1:]]

    return execute


def test_a_forked_kernel_shows_what_a_fresh_one_shows(executed, source):
    assert executed(SEEN_BY_A_CELL, source) == executed(SEEN_BY_A_CELL, None)


def test_kernels_share_neither_names_nor_random_numbers(executed, source):
    drawn = "import random, uuid; print('told' in globals(), random.random(), uuid.uuid4()); told = True"
    ((first,),), ((second,),) = executed([drawn], source), executed([drawn], source)
    assert first.startswith("False") and second.startswith("False")
    assert first != second


def test_a_kernel_that_is_killed_fails_its_notebook_alone(executed, source):
    with pytest.raises(DeadKernelError):
        executed(["import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], source)
    assert executed(["6 * 7"], source)[0][0]["text/plain"] == "42"


def test_no_kernel_outlives_the_process_it_forked_from(tmp_path):
    """As when the driver was killed: the process that forks sees the end of its input."""
    with forks.started() as kernels:
        connection = tmp_path / "connection.json"
        forked = kernels.fork(["-f", str(connection)], str(tmp_path), dict(os.environ))
        _until(connection.exists)
        assert forked.poll() is None
    _until(lambda: forked.poll() is not None)
    assert forked.wait() == forked.OVER


def test_a_source_that_is_gone_says_so(tmp_path):
    with forks.started() as kernels:
        kernels.process.kill()
        kernels.process.wait()
        with pytest.raises(OSError):
            kernels.fork([], str(tmp_path), {})


def test_a_driver_that_is_killed_leaves_nothing(tmp_path):
    script = (
        "import os, pathlib, time\nfrom vitlib.studies.headless import forks\n"
        "with forks.started() as kernels:\n"
        f"    forked = kernels.fork(['-f', {str(tmp_path / 'connection.json')!r}], {str(tmp_path)!r}, dict(os.environ))\n"
        "    print(forked.pid, kernels.process.pid, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        _until((tmp_path / "connection.json").exists)
        driver.send_signal(signal.SIGKILL)
    _until(lambda: not any(_lives(pid) for pid in pids))


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(come):
    latest = time.monotonic() + PATIENCE
    while not come():
        assert time.monotonic() < latest
        time.sleep(0.05)
