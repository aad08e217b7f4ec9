"""One update of a model's weights: operations that a device is asked for, of which none waits for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from vitlib import distributed
from vitlib.recipe import Recipe
from vitlib.training.optimizer import clip_gradients

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
FULL = re.compile(  # the last two are oneDNN's words
    r"DefaultCPUAllocator|CUDA error: out of memory|ALLOC_FAILED|std::bad_alloc|could not create a (memory object|primitive(?! desc))"
)


class BrokenUpdateError(MemoryError):
    """Memory ran out while weights were changed: some are those of before it, some of after it."""


def ran_out(error: Exception) -> bool:
    """Whether memory ran out, of a device or of the process: torch says so in several ways."""
    said = isinstance(error, RuntimeError) and FULL.search(str(error))
    return bool(said) or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def mean_over_images(loss: Loss) -> Loss:
    """Say of a loss that it is a mean over the images of its batch, each with a term of its own: a decorator.

    Where memory runs out, a training goes on in halves of its batches only if its loss says so.
    """
    loss.mean_over_images = True
    return loss


def is_mean_over_images(loss: Loss) -> bool:
    return getattr(loss, "mean_over_images", False)


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager:
    """The recipe's precision for what is computed within."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


@dataclass(frozen=True)
class Update:
    """Loss, gradients, clipping, optimiser and moving average of one batch.

    `forward` is the model, compiled where the recipe says so; `parts` of a batch go through it one after the other.
    """

    model: nn.Module
    forward: nn.Module
    loss: Loss
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    parts: int

    def __call__(self, images: Tensor, targets: Tensor, number: int) -> Tensor:
        """The batch's loss, a scalar without gradient, before the update that is the training's `number`-th, counted from 1.

        Raises:
            BrokenUpdateError: for want of memory in the middle of changing the weights; before, the error is torch's.
        """
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        parts = zip(images.chunk(self.parts), targets.chunk(self.parts), strict=True)
        value = sum(self._part(some_images, some_targets, len(images)) for some_images, some_targets in parts)
        gradients = (parameter.grad for parameter in self.model.parameters() if parameter.grad is not None)
        distributed.average(chain([value], gradients))
        clip_gradients(self.model, self.recipe)
        self._change_weights(number)
        return value

    def _part(self, images: Tensor, targets: Tensor, batch: int) -> Tensor:
        """The share of the loss of a batch of so many images, and of its gradients, that some of them bring."""
        with autocast(self.recipe, images.device):
            value = self.loss(self.forward, images, targets) / (batch / len(images))
        value.backward()
        return value.detach()

    def _change_weights(self, number: int) -> None:
        try:
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.model, step=number)
        except Exception as error:
            if ran_out(error):
                raise BrokenUpdateError(str(error)) from error
            raise
