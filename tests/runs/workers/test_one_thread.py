"""A run on a CPU computes on one thread, whoever loads torch and when."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

PROGRAM = """
import sys
from pathlib import Path
{before}
from tests.support import Number
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers import one

result_of, threads = one.result_of, []

def counted(spec, context):
    {within}
    threads.append(sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None)
    return result_of(spec, context)

one.result_of = counted
place = Place(Path(sys.argv[1], "results"), Path(sys.argv[1]), device="cpu")
assert one.compute_one(Number(value=1), Store(place.results_dir), place, lambda *how_far: None).what == "stored"
print(*threads)
"""


@pytest.mark.parametrize(
    ("told", "before", "within", "seen"),
    [
        ("1", "", "pass", "None"),  # a run that needs no torch does not wait for it
        ("1", "", "import torch", "1"),
        ("1", "import torch; torch.set_num_threads(2)", "pass", "1"),
        ("2", "", "import torch", "1"),
    ],
)
def test_a_run_has_one_thread_and_torch_is_loaded_only_by_those_that_need_it(told, before, within, seen, tmp_path):
    command = [sys.executable, "-c", PROGRAM.format(before=before, within=within), str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": told}, capture_output=True, text=True, timeout=120)
    assert ran.stdout.split() == [seen], ran.stderr
