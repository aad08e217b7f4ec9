"""Workers, and a process alone, whose GPU is the pretended one. Each run that is computed is noted beside the store: process and run."""

import json
import os
import sys
import time
from pathlib import Path

import torch

from tests import pretended_gpu
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.workers import one
from vitlib.spec import RunSpec

WORKERS = 2  # that wait for each other, so that the first does not end before the second begins


def compute_alone(specs: list[RunSpec], results_dir: Path, data_dir: Path) -> None:
    """For a process of its own."""
    with pretending(results_dir):
        execute(specs, Place(results_dir, data_dir, device="cpu"))


def pretending(results_dir: Path):
    """The device, entered, on which all runs of this process are computed from now on."""
    torch.set_num_threads(1)
    result_of, one.device_of = one.result_of, lambda wanted: f"{pretended_gpu.NAME}:0"

    def noted(spec, context):
        with results_dir.with_suffix(".log").open("a") as log:
            log.write(json.dumps([os.getpid(), spec.id]) + "\n")
        return result_of(spec, context)

    one.result_of = noted
    return pretended_gpu.install()


if __name__ == "__main__":
    from vitlib.runs.workers import worker

    results_dir = Place.from_json(sys.argv[1]).results_dir
    with pretending(results_dir):
        results_dir.with_suffix(f".{os.getpid()}").touch()
        while len([*results_dir.parent.glob(f"{results_dir.name}.[0-9]*")]) < WORKERS:
            time.sleep(0.05)
        worker.main(*sys.argv[1:])
