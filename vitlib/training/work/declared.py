"""What a run does, as its spec says it in `work`: trainings and passes over images, each of networks as chains of layers.

A training step computes every chain forward, and backward what its gradients need; frozen chains stand beside it. Where a frozen chain
sees an image that always looks the same, it may be remembered: it then counts once for all epochs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vitlib.inputs.models import Model, Vit
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe
from vitlib.training.work.layers import Chain, Network, network

Part = Literal["all", "trained", "held-out"]
Split = Literal["train", "test", "watched"]  # watched: validation images where there are any, otherwise the test images
EVALUATED = 256  # images of a batch that is evaluated


@dataclass(frozen=True)
class Work:
    """Chains over the images of a split.

    Args:
        chains: computed on every image.
        recipe: of a training; None for a forward pass.
        epochs: passes over the images.
        held_out: share of each class that is kept from training; `part` says which images are taken.
        most: images at most.
        batch: images that are computed together.
        kept: chains that are computed once for all epochs, over all images.
        alone: so many images that come from no set; `data` is None.
        features: what is computed on are features that are held, of as many images; none is read.
    """

    data: Data | None
    split: Split
    chains: tuple[Chain, ...]
    recipe: Recipe | None = None
    epochs: float = 1
    held_out: float = 0.0
    part: Part = "all"
    most: int | None = None
    batch: int = EVALUATED
    kept: tuple[Chain, ...] = ()
    alone: int | None = None
    features: bool = False


def network_on(model: Model, data: Data, classes: int) -> Network:
    return network(model, data.image_size, data.channels, classes)


def training(
    data: Data, recipe: Recipe, *chains: Chain, epochs: float | None = None, held_out: float = 0.0, remembered: tuple[Chain, ...] = ()
) -> Work:
    """Epochs of a recipe; `remembered` chains are computed once where images always look the same, otherwise in each step."""
    plain = recipe.plain_images and data.resident
    live = chains if plain else (*chains, *remembered)
    count = recipe.epochs if epochs is None else epochs
    return Work(data, "train", live, recipe, count, held_out, "trained", batch=recipe.batch_size, kept=remembered if plain else ())


def looking(data: Data, split: Split, *chains: Chain, times: float = 1, held_out: float = 0.0, most: int | None = None) -> Work:
    """Passes forward over images as they are; with `held_out`, over those that are kept from training."""
    return Work(data, split, chains, epochs=times, held_out=held_out, part="held-out" if held_out else "all", most=most)


def training_on_features(data: Data, recipe: Recipe, chain: Chain) -> Work:
    """Of a probe: its features are those of the training images, and held."""
    return replace(training(data, recipe, chain), features=True)


def timing(images: int, *chains: Chain) -> Work:
    """Passes forward over images that are drawn and not read."""
    return Work(None, "test", chains, alone=images)


def evaluations(recipe: Recipe) -> int:
    """How often a training is evaluated: every `eval_every` epochs, and after the last."""
    return -(-recipe.epochs // recipe.eval_every)


def judged(data: Data, chain: Chain) -> Iterator[Work]:
    """The test images once, and the validation images where there are any."""
    yield looking(data, "test", chain)
    yield looking(data, "watched", chain)


def tokens_of(model: Vit, data: Data) -> int:
    return (data.image_size // model.patch_size) ** 2 + 1 + model.distilled
