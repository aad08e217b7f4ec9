"""Where runs are computed at the same time: several on a GPU, or one on each core without. A slot is its worker's environment."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

from vitlib import paths

Slot = dict[str, str]
PROCESS = 1.5 * 2**30  # bytes of a process on a GPU beside its tensors: CUDA's context, kernels, workspaces; assumed
MOST = 4  # assumed: captured steps of small networks keep a card busy with few processes (benchmarks/gpu_fill.py measures it)
ASKING = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


def slots(device: str, per_gpu: int) -> list[Slot]:
    """`per_gpu` slots of each visible GPU, GPU after GPU in turn; for a CPU, or without GPUs, one for each core."""
    gpus = [] if device == "cpu" else visible_gpus()
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus * per_gpu] or [{"OMP_NUM_THREADS": "1"}] * paths.cores()


def visible_gpus() -> list[str]:
    """By the numbers that CUDA gives them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    nodes = glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dxg")  # a container's nodes keep the host's numbers, CUDA counts from 0
    return [str(number) for number in range(len(nodes))]


def smallest_card() -> int:
    """Bytes of the host's smallest GPU, by NVIDIA's tool; 0 without one."""
    if not shutil.which(ASKING[0]):
        return 0
    done = subprocess.run(ASKING, capture_output=True, text=True, timeout=60)
    sizes = [int(line) for line in done.stdout.split() if line.isdecimal()]
    return min(sizes, default=0) * 2**20
