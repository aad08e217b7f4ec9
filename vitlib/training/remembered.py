"""What frozen networks give beside a training: for each batch anew, or once for every image and then looked up by its position.

An image that always looks the same gives the same frozen outputs in every epoch. Start from `lessons`, which computes them once where
that holds and they fit; either way gives the same loss and gradients, but for rounding. `remembered` is the part to use alone.
Runs of one process that name the same `source` of the outputs share them: the grid's seeds and variants have their frozen parts in common.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import wraps

import torch
from torch import Tensor, nn

from vitlib.inputs.data import Batches, ResidentBatches
from vitlib.recipe import Recipe
from vitlib.training.loop import Targets, target_maker
from vitlib.training.step.memory import fitted
from vitlib.training.step.update import Loss, autocast

Frozen = Callable[[Tensor], tuple[Tensor, ...]]  # images (B, C, H, W) -> tensors (B, ...)
Beside = tuple[Tensor, tuple[Tensor, ...], Tensor]  # images, what the frozen networks give for them, targets or labels
LossBeside = Callable[[nn.Module, Tensor, tuple[Tensor, ...], Tensor], Tensor]

MOST_BYTES = 4 * 2**30  # of remembered outputs; more are computed anew
KEPT_BYTES = 2**30  # from one run of a process to the next
_KEPT: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()


@torch.no_grad()
def remembered(frozen: Frozen, images: Tensor) -> tuple[Tensor, ...]:
    """The frozen outputs for all images (N, C, H, W), each (N, ...); computed 256 images at a time, or as many as fit into memory."""
    chunks = [fitted(frozen, chunk) for chunk in images.split(256)]
    return tuple(torch.cat(column) for column in zip(*chunks, strict=True))


def shared(key: Hashable, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What an earlier run of this process computed under the same key, or `compute()`; the latest `KEPT_BYTES` are kept."""
    if key not in _KEPT:
        _KEPT[key] = compute()
    _KEPT.move_to_end(key)
    while len(_KEPT) > 1 and sum(values.nbytes for outputs in _KEPT.values() for values in outputs) > KEPT_BYTES:
        _KEPT.popitem(last=False)
    return _KEPT[key]


@dataclass(frozen=True)
class Lessons:
    """Batches with frozen outputs beside them.

    `batches` and `loss` go to `train` with `num_classes=None`; `epoch` yields the same to whoever evaluates.
    """

    batches: Batches
    unpack: Callable[[Tensor, Tensor], Beside]

    def loss(self, beside: LossBeside) -> Loss:
        """`beside(model, images, given, targets)` as a loss of the training loop, a mean over images if `beside` says so of itself."""

        @wraps(beside)
        def loss(model: nn.Module, images: Tensor, marks: Tensor) -> Tensor:
            return beside(model, *self.unpack(images, marks))

        return loss

    def epoch(self, epoch: int) -> Iterator[Beside]:
        return (self.unpack(images, marks) for images, marks in self.batches.epoch(epoch))


def lessons(frozen: Frozen, batches: Batches, recipe: Recipe, num_classes: int, source: Hashable) -> Lessons:
    """Training batches with frozen outputs and dense targets (B, num_classes); outputs are those of the mixed, augmented images.

    Args:
        source: all that the outputs follow from, but for split, device and precision: equal sources share outputs between runs.
    """
    mix = target_maker(recipe, num_classes)
    if not recipe.plain_images or not _fits(frozen, batches):
        return _anew(frozen, Mixed(batches, mix))
    with autocast(recipe, batches.labels.device):
        return _looked_up(frozen, batches, mix, ("lessons", source, recipe.precision))


def examples(frozen: Frozen, batches: Batches, source: Hashable) -> Lessons:
    """The images of a split as they are, with frozen outputs and labels (B,); `source` as in `lessons`, and the split."""
    as_they_are: Targets = lambda images, labels: (images, labels)  # noqa: E731
    return _looked_up(frozen, batches, as_they_are, ("examples", source)) if _fits(frozen, batches) else _anew(frozen, batches)


class Mixed:
    """Batches whose images are mixed, and in place of labels what is to be learnt of them."""

    def __init__(self, batches: Batches, mix: Targets):
        self._batches, self._mix = batches, mix
        self.steps, self.images, self.labels = batches.steps, batches.images, batches.labels

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return (self._mix(images, labels) for images, labels in self._batches.epoch(epoch, start))


def _anew(frozen: Frozen, batches: Batches) -> Lessons:
    @torch.no_grad()
    def unpack(images: Tensor, marks: Tensor) -> Beside:
        return images, frozen(images), marks

    return Lessons(batches, unpack)


def _looked_up(frozen: Frozen, batches: ResidentBatches, mix: Targets, key: Hashable) -> Lessons:
    kept = shared((key, batches.images, str(batches.labels.device)), lambda: remembered(frozen, batches.plain()))

    def unpack(images: Tensor, positions: Tensor) -> Beside:
        images, targets = mix(images, batches.labels[positions])
        return images, tuple(values[positions] for values in kept), targets

    return Lessons(batches.indexed(), unpack)


@torch.no_grad()
def _fits(frozen: Frozen, batches: Batches) -> bool:
    """Whether outputs can be kept by image, and are not too many to."""
    if not isinstance(batches, ResidentBatches):
        return False
    images, _ = next(batches.epoch(0))
    return sum(values.nbytes for values in frozen(images[:1])) * batches.images <= MOST_BYTES
