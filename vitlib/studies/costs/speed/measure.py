"""This machine's rates: some small pretrainings on the embedded digits, timed as any run is, and the seconds a unit that explain them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from vitlib import paths
from vitlib.computing import Context, result_of
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.runs.provenance import facts
from vitlib.runs.workers.one import device_of, one_thread
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.costs.speed.rates import SHIPPED, Rates
from vitlib.teachers.pretrain import SupervisedTeacher
from vitlib.training.work.registry import Sets

FITTED = ("products", "convolutions", "elements", "kernels", "moved", "runs")
ROUNDS = 2  # one after the other, so that a load that comes and goes falls on all probes; their mean counts
DRAWN = 1.0  # how much a rate that is off the usual by a factor of e weighs, beside a probe that is


def probes() -> list[SupervisedTeacher]:
    """Runs that lean on one rate each: kernels, products, activations, convolutions, weights."""
    sizes = [
        (Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2), 8, 30, 20, 20),
        (Vit(embed_dim=64, depth=12, num_heads=4, patch_size=4), 16, 15, 12, 2),
        (Vit(embed_dim=192, depth=2, num_heads=3, patch_size=4), 16, 30, 12, 2),
        (ResNet(width=8, blocks=(1, 1, 1, 1)), 8, 30, 18, 12),
        (ResNet(width=32, blocks=(1, 1, 1, 1)), 16, 30, 9, 2),
    ]
    return [_probe(*size) for size in sizes]


def _probe(model: Vit | ResNet, image_size: int, batch: int, per_class: int, epochs: int) -> SupervisedTeacher:
    recipe = Recipe(epochs=epochs, batch_size=batch, lr=1e-4, eval_every=epochs)
    return SupervisedTeacher(data=Data(source="digits", image_size=image_size, per_class=per_class), model=model, recipe=recipe, seed=0)


def measure(device: str) -> Rates:
    """Rates that give the measured times of `probes`; another load of the machine means other rates."""
    here, asked = device_of(device), probes()
    context = Context(here, Path(), None, lambda parent: None)
    with one_thread(here):
        result_of(asked[0], context)  # warms up
        seconds = np.mean([[_timed(probe, context) for probe in asked] for _ in range(ROUNDS)], axis=0)
    cuda = here.startswith("cuda")
    found = fitted(asked, seconds, SHIPPED["h100" if cuda else "cpu-2-cores"])
    half = found["products"] / (10 if cuda else 1)  # a GPU's bfloat16 units beside float32
    return Rates(facts(type(asked[0]), here)["device"], "measured here", 1 if cuda else paths.cores(), half=half, **found)


def fitted(asked: list[SupervisedTeacher], seconds: np.ndarray, usual: Rates) -> dict[str, float]:
    """Seconds a unit: least squares of the logarithms of the times, drawn to those of a `usual` device, so that few probes suffice."""
    sets, start = Sets(Path()), np.log([getattr(usual, name) for name in FITTED])
    units = np.array([[getattr(amounts_of(probe, sets), name) for name in FITTED] for probe in asked], dtype=float)

    def errors(rates: np.ndarray) -> np.ndarray:
        faster = (rates - start).mean()  # a machine that is faster in all is no surprise
        return np.concatenate([np.log(units @ np.exp(rates)) - np.log(seconds), DRAWN * (rates - start - faster)])

    return dict(zip(FITTED, np.exp(least_squares(errors, start).x).tolist(), strict=True))


def _timed(probe: SupervisedTeacher, context: Context) -> float:
    began = time.perf_counter()
    result_of(probe, context)
    return time.perf_counter() - began
