"""Which function says what the runs of a class do: registered by `does`, or taken from the fields that runs share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitlib.inputs.models import ResNet, Timm, Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.spec import RunSpec
from vitlib.training.work import images
from vitlib.training.work.declared import Work, evaluations, looking, network_on, training
from vitlib.training.work.layers import frozen


@dataclass(frozen=True)
class Sets:
    """Sizes of the sets below a data folder."""

    data_dir: Path

    def classes(self, data: Data) -> int:
        return images.classes(data, self.data_dir)

    def images(self, data: Data, split: str) -> int:
        return images.images(data, split, self.data_dir)

    def held_out(self, data: Data, share: float) -> int:
        """Training images that a share of each class keeps back, as many of each class: rounded down, at least one."""
        classes = self.classes(data)
        return classes * max(1, int(share * self.images(data, "train") / classes + 1e-9))


Does = Callable[[Any, Sets], Iterable[Work]]
_FUNCTIONS: dict[type[RunSpec], Does] = {}


def does(*classes: type[RunSpec]) -> Callable[[Does], Does]:
    """Register the function that says what runs of these classes do: a decorator, in the module `work` beside a document's specs."""

    def register(function: Does) -> Does:
        _FUNCTIONS.update(dict.fromkeys(classes, function))
        return function

    return register


def work_of(spec: RunSpec, sets: Sets) -> list[Work]:
    """What a run does; of a class that says nothing, what its fields `model`, `data` and `recipe` say, or nothing."""
    if type(spec) not in _FUNCTIONS:
        package = type(spec).__module__.rpartition(".")[0]
        if package and find_spec(f"{package}.work"):
            importlib.import_module(f"{package}.work")
    return list(_FUNCTIONS.get(type(spec), _by_fields)(spec, sets))


def _by_fields(spec: RunSpec, sets: Sets) -> Iterable[Work]:
    """A training of `model` or `student`, with a frozen `teacher` beside it, and its evaluations."""
    data, recipe = getattr(spec, "data", None), getattr(spec, "recipe", None)
    models = [getattr(spec, name, None) for name in ("model", "student", "teacher")]
    found = [model for model in (getattr(model, "model", model) for model in models) if isinstance(model, Vit | ResNet | Timm)]
    if not isinstance(data, Data) or not found:
        return
    chains = [network_on(model, data, sets.classes(data)).layers for model in found]
    if isinstance(recipe, Recipe):
        yield training(data, recipe, chains[0], remembered=tuple(frozen(chain) for chain in chains[1:]))
    yield looking(data, "test", chains[0], times=evaluations(recipe) if isinstance(recipe, Recipe) else 1)
