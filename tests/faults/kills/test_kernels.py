"""Kernels that die, leave, flood or ask: the receipt says failed, the exit status is not 0, the next notebook runs, no process stays."""

import json
from types import SimpleNamespace

import nbformat
import pytest

from tests.faults.counted import count
from tests.faults.kills.marked import NAME, gone, mark
from vitlib.__main__ import main
from vitlib.studies.headless import batch, forks

SECONDS = 10.0  # after which no process is left
MEGABYTES = 50
FLOOD = f"for _ in range({MEGABYTES}):\n    print('x' * 2**20)"
BAD = {
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "killed by a fault of memory": "import ctypes; ctypes.string_at(0)",
    "exits": "import os; os._exit(0)",
    "asks": "input('which one? ')",
    "leaves": "raise SystemExit(0)",
    "floods and exits": f"{FLOOD}\nimport os; os._exit(0)",
}
GOOD = {"computes": "6 * 7", "floods": FLOOD}
LIMITED = {"stops": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "hangs": "while True:\n    pass"}


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """`notebooks(codes)`: a notebook for each, by a name; they belong to no document. `text` marks all processes."""
    text, made = mark(), {}
    monkeypatch.setenv(NAME, text)

    def notebooks(codes):
        for name, code in codes.items():
            tagged = nbformat.v4.new_code_cell('profile = "smoke"\noverrides = {}', metadata={"tags": ["parameters"]})
            cells = [tagged, nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("1 + 1")]
            made[name] = tmp_path / f"{name.replace(' ', '_')}.ipynb"
            nbformat.write(nbformat.v4.new_notebook(cells=cells), made[name])
        return list(codes)

    monkeypatch.setattr(batch, "notebooks", lambda: made)
    monkeypatch.setattr(batch, "described", lambda source, parameters: SimpleNamespace(folder=tmp_path / "figures" / source.stem))
    monkeypatch.setattr(batch, "leave", lambda study: None)
    return SimpleNamespace(notebooks=notebooks, text=text, figures=tmp_path / "figures", made=made)


def status_of(kernels, name):
    folder = kernels.figures / kernels.made[name].stem
    return json.loads((folder / "receipt.json").read_text(encoding="utf-8"))["status"]


@pytest.mark.parametrize("names", [["exits"], pytest.param([*BAD, *GOOD], marks=pytest.mark.faults)], ids=["one", "at length"])
def test_a_batch_goes_on_after_kernels_that_end_badly_and_says_so(names, kernels, capsys):
    asked = kernels.notebooks({name: (BAD | GOOD)[name] for name in [*names, "computes"]})
    assert main(["notebooks", *asked]) == 1
    seconds = gone(kernels.text, SECONDS)
    assert {name: status_of(kernels, name) for name in asked} == {name: "failed" if name in BAD else "done" for name in asked}
    assert "failed" in capsys.readouterr().out
    for name in GOOD.keys() & {*asked}:
        copy = nbformat.read(kernels.figures / kernels.made[name].stem / kernels.made[name].name, as_version=4)
        assert all(cell.execution_count for cell in copy.cells)
        assert name != "floods" or len(copy.cells[1].outputs[0].text) == MEGABYTES * (2**20 + 1)
    count("a kernel killed, exited, flooding or asking", tries=len(asked), recovery=seconds)


@pytest.mark.faults
@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("name", LIMITED)
def test_a_cell_beyond_its_time_limit_fails_its_notebook_and_leaves_no_process(name, forked, kernels):
    kernels.notebooks(LIMITED)
    if forked:
        with forks.started() as source:
            receipt = batch.run_notebook(kernels.made[name], {}, timeout=5.0, kernels=source)
    else:
        receipt = batch.run_notebook(kernels.made[name], {}, timeout=5.0)
    assert (receipt.status, status_of(kernels, name)) == ("failed", "failed") and "Timeout" in receipt.error
    count("a kernel that hangs", recovery=gone(kernels.text, SECONDS))
