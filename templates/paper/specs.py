"""Paper name: its settings and runs, and which run fills which point of a table's grid. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from vitlib.inputs.foreign.demands import TrainsOn, Uses
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Demand, Part, RunSpec


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        recipe: of the training on smoothed labels; that on plain ones differs in `label_smoothing` alone, which is 0 there.
    """

    data: Data
    model: Vit
    recipe: Recipe
    seeds: Seeds


class PaperNameTraining(RunSpec):
    """A transformer trained on labels and measured on the test images."""

    data: Data
    model: Vit
    recipe: Recipe
    seed: int

    @model_validator(mode="after")
    def _uses_its_recipe(self) -> Self:
        self.recipe.require_unset("ema_decay", why="because no moving average is measured")
        return self

    def demands(self) -> Iterator[Demand]:
        yield Uses("model", self.model, self.data.image_size, self.data.channels, drop_path=self.recipe.drop_path)
        yield TrainsOn(self.data, self.recipe.batch_size)


def run_training(settings: Settings, *, labels: str, seed: int) -> PaperNameTraining:
    """Table 3: on `smoothed` or `plain` labels."""
    recipe = settings.recipe if labels == "smoothed" else settings.recipe.changed(label_smoothing=0.0)
    return PaperNameTraining(data=settings.data, model=settings.model, recipe=recipe, seed=seed)
