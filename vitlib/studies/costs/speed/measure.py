"""This machine's rates: some small pretrainings on the embedded digits, timed as runs are, and the seconds a unit that explain them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vitlib import paths
from vitlib.runs.provenance import facts
from vitlib.runs.workers.one import device_of
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.costs.speed.probing import probes
from vitlib.studies.costs.speed.rates import SHIPPED, Rates
from vitlib.teachers.pretrain import SupervisedTeacher
from vitlib.training.work.registry import Sets

FITTED = ("products", "convolutions", "elements", "heads", "kernels", "moved", "runs")
DRAWN = 1.0  # how much a rate that is off the usual by a factor of e weighs, beside a probe that is
PROBING = (sys.executable, "-m", "vitlib.studies.costs.speed.probing")


def measure(device: str) -> Rates:
    """Rates that give the measured times of `probes`, with all slots at work; another load of the machine means other rates."""
    here = device_of(device)
    cuda = here.startswith("cuda")
    slots = 1 if cuda else paths.cores()
    start, seconds = _side_by_side(here, slots)
    found = fitted(probes(), seconds, SHIPPED["h100" if cuda else "cpu-2-cores"])
    half = found["products"] / (10 if cuda else 1)  # a GPU's bfloat16 units beside float32
    return Rates(facts(SupervisedTeacher, here)["device"], "measured here", slots, half=half, start=2 * start, **found)


def _side_by_side(device: str, slots: int) -> tuple[float, np.ndarray]:
    """Seconds until a process computes, and the mean of each probe in as many as compute at once: cores share units."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    began = time.monotonic()
    workers = [subprocess.Popen([*PROBING, device], **options) for _ in range(slots)]
    for worker in workers:
        worker.stdout.readline()
    start = time.monotonic() - began
    return start, np.mean([json.loads(answer) for answer in _answers(workers)], axis=0)


def _answers(workers: list[subprocess.Popen]) -> list[str]:
    """All begin at once."""
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    return [worker.communicate()[0] for worker in workers]


def fitted(asked: list[SupervisedTeacher], seconds: np.ndarray, usual: Rates) -> dict[str, float]:
    """Seconds a unit: least squares of the logarithms of the times, drawn to those of a `usual` device, so that few probes suffice."""
    from scipy.optimize import least_squares  # slow to import

    sets, start = Sets(Path()), np.log([getattr(usual, name) for name in FITTED])
    units = np.array([[getattr(amounts_of(probe, sets), name) for name in FITTED] for probe in asked], dtype=float)

    def errors(rates: np.ndarray) -> np.ndarray:
        faster = (rates - start).mean()  # a machine that is faster in all is no surprise
        return np.concatenate([np.log(units @ np.exp(rates)) - np.log(seconds), DRAWN * (rates - start - faster)])

    return dict(zip(FITTED, np.exp(least_squares(errors, start).x).tolist(), strict=True))
