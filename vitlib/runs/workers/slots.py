"""Where runs are computed at the same time: several on a GPU, or one on each core without. A slot is its worker's environment."""

from __future__ import annotations

import glob
import os

from vitlib import paths

Slot = dict[str, str]


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
