"""NVIDIA's Multi-Process Service (MPS): processes on one GPU compute side by side, instead of in turns."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from vitlib.runs.workers.slots import Slot

DAEMON = "nvidia-cuda-mps-control"
PROBE = "import torch; torch.zeros(1, device='cuda')"
PATIENCE = 120  # seconds for the probe, which imports torch, and for the daemon's end
SILENT = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
log = logging.getLogger("vitlib")


@contextmanager
def side_by_side(slots: list[Slot]) -> Iterator[list[Slot]]:
    """The slots as clients of a daemon of their own, where several share a GPU and one can be started; otherwise as they are."""
    gpus = list(dict.fromkeys(slot.get("CUDA_VISIBLE_DEVICES") for slot in slots))
    if len(gpus) == len(slots) or gpus == [None] or not shutil.which(DAEMON):
        yield slots
        return
    with tempfile.TemporaryDirectory(prefix="mps") as folder:
        here = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        numbered = [slot | here | {"CUDA_VISIBLE_DEVICES": str(gpus.index(slot["CUDA_VISIBLE_DEVICES"]))} for slot in slots]
        daemon = subprocess.Popen([DAEMON, "-f"], env=os.environ | here | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}, **SILENT)
        try:
            yield numbered if _serves(numbered[0]) else slots
        finally:
            _end(daemon, here)


def _serves(slot: Slot) -> bool:
    """Whether a process reaches a GPU through the daemon."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], env=os.environ | slot, timeout=PATIENCE, **SILENT).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        log.warning("%s: no process reaches a GPU through it; the runs on a GPU take turns", DAEMON)
    return done


def _end(daemon: subprocess.Popen, here: Slot) -> None:
    try:
        subprocess.run([DAEMON], input=b"quit\n", env=os.environ | here, timeout=PATIENCE, capture_output=True)
        daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
