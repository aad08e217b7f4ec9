"""Trainings that run out of memory: once, the rest of them goes on in halves of its batches. `fitted` is the same for evaluations.

The gradient of a mean over images is the mean of the halves' gradients, each weighted by its images: the batch, the updates, the learning
rates and the mixing of images are those of the recipe, and so are the numbers but for rounding. What a model draws itself (dropout, drop
path, masks) it draws for each half: other values of the same distribution, as on another device. A training goes on from its last whole
update: gradients are taken anew, and a model that changes its buffers, as batch norm does, is not halved, nor is a loss over the batch.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitlib import distributed
from vitlib.training.step.steps import Step
from vitlib.training.step.update import BrokenUpdateError, Update, is_mean_over_images, ran_out

SMALLER = "take a smaller recipe.batch_size"
Forward = Callable[[Tensor], tuple[Tensor, ...]]


class NoMemoryError(RuntimeError):
    """A run does not fit into the memory of its device; the message of a training names the batch, what was tried, and what to change."""


class Position(Protocol):
    """Where a training stands: whole `updates`, and since when its batches go in halves ('' while they do not), kept in checkpoints."""

    updates: int
    halved: str


class Halving:
    """Takes updates as `make` does, and goes on in halves once memory ran out; `measured` says so for the provenance, as `halved`."""

    def __init__(self, update: Update, make: Callable[[Update], Step], position: Position):
        self._update, self._make, self._position = update, make, position
        self._buffers = _versions(update.model)
        self._step = make(self._halved() if position.halved else update)

    @property
    def measured(self) -> dict[str, float | str]:
        return self._step.measured | ({"halved": self._position.halved} if self._position.halved else {})

    def __call__(self, images: Tensor, targets: Tensor, number: int, kind: Hashable) -> Tensor:
        return self._step(images, targets, number, kind)

    def through(self, updates: Callable[[], None]) -> None:
        """Do `updates()`, which goes on from the training's position; where memory runs out in it, halve and do it once more.

        Raises:
            NoMemoryError: where halves do not fit either, or would not give the same update.
        """
        refused = self._tried(updates)
        if refused is None:
            return
        self._position.halved = f"from update {self._position.updates + 1} on, out of memory: {refused}"
        self._make_room()
        self._step = self._make(self._halved())
        self._tried(updates)

    def _tried(self, updates: Callable[[], None]) -> str | None:
        """None if all went well; otherwise, where halves may be tried, what was refused. No frame of it is kept, nor its tensors."""
        try:
            updates()
        except Exception as error:
            if not ran_out(error):
                raise
            said = _first_line(error)
            if why := self._against(error):
                raise NoMemoryError(self._report(said, why)) from error
            return said
        return None

    def _against(self, error: Exception) -> str:
        """Why halves are not tried, with what to do instead; or nothing."""
        update, part = self._update, self._update.recipe.batch_size // self._update.parts
        if isinstance(error, BrokenUpdateError):
            return "weights, gradients and the optimiser's state alone do not fit; take a smaller model or another recipe.optimizer"
        if self._position.halved:
            return f"nor in halves, {part // 2} images at a time; {SMALLER}, or a larger recipe.accumulate for the same batch"
        if part < 2 or distributed.processes() > 1:
            return f"{'one image cannot be halved' if part < 2 else 'several processes share the run'}; {SMALLER}, or a smaller model"
        if not is_mean_over_images(update.loss):
            return f"halves are not tried, for the loss is not a mean over images: half a batch is another; {SMALLER}"
        if any(isinstance(module, _BatchNorm) and module.training for module in update.model.modules()):
            return f"halves are not tried, for batch norm takes the statistics of the whole batch; {SMALLER}"
        if _versions(update.model) != self._buffers:
            return f"halves are not tried, for the model changes its buffers in training; {SMALLER}"
        return ""

    def _report(self, said: str, why: str) -> str:
        at, recipe = self._position.updates + 1, self._update.recipe
        device = next(self._update.model.parameters()).device
        tried = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        return f"recipe.batch_size={recipe.batch_size}: out of memory on {device} in update {at}{tried}; {why} ({said})"

    def _halved(self) -> Update:
        return replace(self._update, parts=2 * self._update.parts)

    def _make_room(self) -> None:
        """Without gradients, records of steps, and what the device keeps for later."""
        self._step = None
        self._update.optimizer.zero_grad()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()


def named(error: Exception, device: str) -> Exception:
    """A NoMemoryError where memory ran out, however a library said so; any other error as it is."""
    if isinstance(error, NoMemoryError) or not ran_out(error):
        return error
    return NoMemoryError(f"out of memory on {device}; take a smaller batch or model, or fewer runs at once ({_first_line(error)})")


def fitted(forward: Forward, images: Tensor) -> tuple[Tensor, ...]:
    """`forward(images)`, tensors (B, ...) that are each image's own; of halves, down to one image, where memory runs out."""
    try:
        return forward(images)
    except Exception as error:
        if len(images) < 2 or not ran_out(error):
            raise
    parts = [fitted(forward, half) for half in images.chunk(2)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _versions(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensors the buffers are, and how often each was changed in place; torch counts that anyway."""
    return {name: (id(buffer), 0 if buffer.is_inference() else buffer._version) for name, buffer in model.named_buffers()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
