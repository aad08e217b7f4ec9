"""A worker's times of the probes: a process of its own, which begins when it is told to."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from vitlib.computing import Context, result_of
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.runs.workers.one import one_thread
from vitlib.teachers.pretrain import SupervisedTeacher

ROUNDS = 3  # one after the other, so that a load that comes and goes falls on all probes; their mean counts


def probes() -> list[SupervisedTeacher]:
    """Runs that lean on one rate each: a run itself, kernels, heads, activations, products, convolutions; as large as those of quick."""
    sizes = [
        (Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2), 8, 30, 20, 2),
        (Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2), 8, 30, 20, 40),
        (Vit(embed_dim=32, depth=2, num_heads=8, patch_size=2), 8, 30, 20, 12),
        (Vit(embed_dim=48, depth=2, num_heads=4, patch_size=2), 8, 30, 20, 20),
        (Vit(embed_dim=192, depth=2, num_heads=3, patch_size=4), 16, 30, 12, 4),
        (ResNet(width=8, blocks=(1, 1, 1, 1)), 8, 30, 18, 24),
    ]
    return [_probe(*size) for size in sizes]


def _probe(model: Vit | ResNet, image_size: int, batch: int, per_class: int, epochs: int) -> SupervisedTeacher:
    recipe = Recipe(epochs=epochs, batch_size=batch, lr=1e-4, eval_every=epochs)
    return SupervisedTeacher(data=Data(source="digits", image_size=image_size, per_class=per_class), model=model, recipe=recipe, seed=0)


def main(device: str) -> None:
    """Say that all is warm, wait for a line, and answer with the mean seconds of each probe as JSON."""
    asked, context = probes(), Context(device, Path(), None, lambda parent: None)
    with one_thread(device):
        result_of(asked[0], context)
        print("warm", flush=True)
        sys.stdin.readline()
        seconds = np.mean([[_timed(probe, context) for probe in asked] for _ in range(ROUNDS)], axis=0)
    print(json.dumps(seconds.tolist()))


def _timed(probe: SupervisedTeacher, context: Context) -> float:
    began = time.perf_counter()
    result_of(probe, context)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
