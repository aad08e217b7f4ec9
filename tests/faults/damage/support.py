"""What these tests share: runs that are quick, damaged stores, what a reader and a driver make of them, a training with checkpoints."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from tests.support import Number, Total, assert_same_result, computed
from vitlib.computing import Context
from vitlib.inputs.data import seed_everything, training_batches
from vitlib.inputs.models import Vit, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import execute
from vitlib.runs.manifest import DamagedError
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers.one import one_thread
from vitlib.studies.fsck.findings import NUMBERS_AT_RISK, findings
from vitlib.training import loop

NUMBERS = [Number(value=value) for value in range(3)]
TOTAL = Total(left=NUMBERS[0], right=NUMBERS[1])
SPECS = [*NUMBERS, TOTAL]
ATTRIBUTES = ("metrics", "history", "arrays", "provenance", "spec", "weights")


def place_in(folder: Path) -> Place:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    return Place(folder / "results", folder / "data", device="cpu")


def copied(place: Place, folder: Path) -> Place:
    """The same store below another folder, as if it had been computed there."""
    shutil.copytree(place.results_dir, folder / "results", symlinks=True)
    return place_in(folder)


def same(one, other) -> bool:
    """Equal to the bit; frames, arrays and tables of them."""
    if isinstance(one, pd.DataFrame):
        return isinstance(other, pd.DataFrame) and one.equals(other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if hasattr(one, "keys") and hasattr(other, "keys"):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return one == other


def shown_wrong(place: Place, truth: Store, specs=SPECS) -> tuple[int, int]:
    """How many attributes a reader is shown that are not those that were stored, and how many it is refused."""
    shown = execute(specs, place, mode="read-only")
    wrong = refused = 0
    for spec in specs:
        stored = truth.read(spec.id)
        for name in ATTRIBUTES:
            try:
                value = getattr(shown[spec.id], name)
                value = dict(value) if name == "arrays" else value
            except (KeyError, DamagedError):
                refused += 1
            else:
                wrong += not same(value, dict(stored.arrays) if name == "arrays" else getattr(stored, name))
    return wrong, refused


def at_risk(store: Store) -> set[str]:
    """The runs that `vitlib fsck` says are damaged."""
    return {finding.name for finding in findings(store) if finding.kind in NUMBERS_AT_RISK}


def again(place: Place, truth: Store, specs=SPECS) -> list[str]:
    """What a driver that reads every byte computes again; all is as it was then."""
    before = len(computed(place))
    execute(specs, place, mode="retry")
    store = Store(place.results_dir)
    for spec in specs:
        assert_same_result(store.read(spec.id, spec), truth.read(spec.id))
    return computed(place)[before:]


def quiet() -> None:
    logging.getLogger("vitlib").setLevel(logging.CRITICAL)


# ------------------------------------------------------------------------------------------------ a training

DATA = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(epochs=2, batch_size=8, lr=0.01, ema_decay=0.9, augment=Augment(crop=1, flip=0.5))
STEPS = 5  # of 8 images in an epoch of 40


class Stop(Exception):
    """A training ends here."""


def train(scratch: Path | None, seed: int = 0, stop_at: int | None = None) -> tuple[dict[str, np.ndarray], int]:
    """Weights after a training that writes a checkpoint after each step, and the steps that it took here."""
    steps = []

    def tick(*_) -> None:
        steps.append(1)
        if len(steps) == stop_at:
            raise Stop

    with one_thread("cpu"):
        seed_everything(seed)
        model = build(Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4), image_size=8, channels=1, num_classes=10)
        batches = training_batches(DATA, RECIPE, seed=seed, device="cpu", data_dir=Path())
        context = Context("cpu", Path(), scratch, parent=None, tick=tick, checkpoint_every=0.0)
        loop.train(model, batches, loop.cross_entropy, RECIPE, num_classes=10, context=context)
    return weights_of(model), len(steps)
