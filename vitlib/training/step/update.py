"""One update of a model's weights: operations that a device is asked for, of which none waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from vitlib import distributed
from vitlib.recipe import Recipe
from vitlib.training.optimizer import clip_gradients

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager:
    """The recipe's precision for what is computed within."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


@dataclass(frozen=True)
class Update:
    """Loss, gradients, clipping, optimiser and moving average of one batch; `forward` is the model, compiled where the recipe says so."""

    model: nn.Module
    forward: nn.Module
    loss: Loss
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None

    def __call__(self, images: Tensor, targets: Tensor, number: int) -> Tensor:
        """The batch's loss, a scalar without gradient, before the update that is the training's `number`-th, counted from 1."""
        recipe = self.recipe
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        parts = zip(images.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True)
        value = sum(self._part(some_images, some_targets) for some_images, some_targets in parts)
        distributed.average([value, *(parameter.grad for parameter in self.model.parameters() if parameter.grad is not None)])
        clip_gradients(self.model, recipe)
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.model, step=number)
        return value

    def _part(self, images: Tensor, targets: Tensor) -> Tensor:
        """The share of the loss, and of its gradients, that some of the images bring."""
        with autocast(self.recipe, images.device):
            value = self.loss(self.forward, images, targets) / self.recipe.accumulate
        value.backward()
        return value.detach()
