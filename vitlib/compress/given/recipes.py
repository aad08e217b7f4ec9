"""How to train with so many photos and such a model: starting points that every keyword overrides, with the reason in words."""

from __future__ import annotations

from typing import Any

from vitlib.compress.given.models import parameters
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.teachers.teacher import Teacher, Untrained

FEW = 1_000  # training images


def for_weights(teacher: Teacher, data: Data, images: int, named: dict[str, Any]) -> Recipe:
    """Fine-tuning of this very model."""
    size = parameters(teacher.model, data.image_size, teacher.channels)
    return fine_tuning(images, size, is_trained=not isinstance(teacher.origin, Untrained), named=named)


def fine_tuning(images: int, parameters: int, *, is_trained: bool, named: dict[str, Any]) -> Recipe:
    """All weights on labels.

    Few photos: many epochs, small batches, and, where weights are trained already, a smaller rate and one that falls towards the input.
    """
    epochs = _epochs(images, {FEW: 30, 10_000: 15, 100_000: 8}, 5)
    lr = (1e-4 if parameters < 50e6 else 5e-5) if is_trained else 5e-4
    decay = {"layer_decay": 0.75} if is_trained and images < 100_000 else {}
    return _made(images, epochs, lr, named, decay | {"label_smoothing": 0.1, "clip_grad": 1.0, "augment": _views(named)})


def from_scratch(images: int, named: dict[str, Any]) -> Recipe:
    """A student that begins untrained: more epochs, a larger rate, DeiT's weight decay."""
    epochs = _epochs(images, {FEW: 100, 10_000: 60, 100_000: 40}, 30)
    return _made(images, epochs, 5e-4, named, {"label_smoothing": 0.1, "clip_grad": 1.0, "augment": _views(named)})


def adapters(images: int, stages: int, named: dict[str, Any]) -> Recipe:
    """Adapters on the teacher's features, which are learnt without augmentation so that the teacher's are computed once."""
    epochs = max(_epochs(images, {FEW: 30, 10_000: 15}, 10), stages + 5)
    return _made(images, epochs, 1e-3, named, {"beta2": 0.95})


def peers(images: int, named: dict[str, Any]) -> Recipe:
    """Networks that teach each other from scratch."""
    return _made(images, _epochs(images, {FEW: 60, 10_000: 40}, 30), 5e-4, named, {"clip_grad": 1.0, "augment": _views(named)})


def said(name: str, recipe: Recipe, images: int, given: dict[str, Any]) -> str:
    """'fine-tuning: 30 epochs of 160 photos, batch 32, adamw, rate 0.0001 (...)'."""
    own = f"; given: {', '.join(f'{knob}={value!r}' for knob, value in given.items())}" if given else ""
    falling = f", layer decay {recipe.layer_decay}" if recipe.layer_decay else ""
    views = recipe.augment.model_dump(exclude_defaults=True)
    augment = f", augment {views}" if views else ", no augmentation"
    rate = f"{recipe.optimizer}, rate {recipe.lr:g}{falling}"
    return f"{name}: {recipe.epochs} epochs of {images} photos, batch {recipe.batch_size}, {rate}{augment}{own}"


def _made(images: int, epochs: int, lr: float, named: dict[str, Any], more: dict[str, Any]) -> Recipe:
    """The starting point with what is named instead; a warm-up of a tenth of the epochs, no longer than they are."""
    epochs = named.get("epochs", epochs)
    fields = {"epochs": epochs, "batch_size": _batch(images), "lr": lr, "weight_decay": 0.05, "min_lr": 0.0, **more}
    if isinstance(epochs, int) and epochs > 1:
        fields |= {"warmup_epochs": float(max(1, epochs // 10)), "eval_every": max(1, epochs // 5)}
    return Recipe.made(**{name: value for name, value in fields.items() if name not in named}, **_whole(named))


def _whole(named: Any) -> dict[str, Any]:
    augment = named.get("augment")
    return named | ({"augment": Augment.made(**augment)} if isinstance(augment, dict) else {})


def _views(named: dict[str, Any]) -> Augment:
    return Augment(flip=0.5, crop_area=0.5)


def _epochs(images: int, upto: dict[int, int], beyond: int) -> int:
    return next((epochs for most, epochs in upto.items() if images < most), beyond)


def _batch(images: int) -> int:
    """A power of two: at most a fifth of the images, from 2 to 32 for few, 64 and 256 for many."""
    most = 32 if images < FEW else 64 if images < 50_000 else 256
    return max(2, min(most, 2 ** max(1, (max(images, 10) // 5).bit_length() - 1)))
