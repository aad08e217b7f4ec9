"""How many runs share a GPU: what its memory bears, a core for each, and no more than help."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from vitlib import paths
from vitlib.runs.workers.slots import visible_gpus
from vitlib.spec import RunSpec
from vitlib.studies.costs.amounts import memory
from vitlib.training.work.registry import Sets

PROCESS = 1.5 * 2**30  # bytes of a process beside its tensors: CUDA's context, kernels, workspaces; assumed
MOST = 4  # assumed: captured steps of small networks keep a card busy with few processes (benchmarks/gpu_fill.py measures it)
ASKING = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


def slots_per_gpu(specs: Iterable[RunSpec], sets: Sets) -> int:
    """For runs that are computed side by side, the largest of them in every slot; 1 where no card says how large it is."""
    card, gpus = smallest_card(), len(visible_gpus())
    if not card or not gpus:
        return 1
    largest = max((memory(spec, sets) for spec in specs), default=0.0)
    return max(1, min(int(card // (largest + PROCESS)), paths.cores() // gpus, MOST))


def smallest_card() -> int:
    """Bytes of the host's smallest GPU, by NVIDIA's tool; 0 without one."""
    if not shutil.which(ASKING[0]):
        return 0
    done = subprocess.run(ASKING, capture_output=True, text=True, timeout=60)
    sizes = [int(line) for line in done.stdout.split() if line.isdecimal()]
    return min(sizes, default=0) * 2**20
