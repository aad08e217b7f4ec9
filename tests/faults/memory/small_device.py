"""A device whose memory holds so many images of a training at once, and says what torch says when there are more."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlib.training.step.update import mean_over_images

ENDLESS = 2**50


def of_cuda():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB")


def of_the_context():
    raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call")


def of_torch_on_the_cpu():
    torch.empty(ENDLESS)  # torch's own words


def of_python():
    bytearray(ENDLESS)  # Python's


def of_numpy():
    np.empty(ENDLESS, np.int64)


WAYS = [of_cuda, of_the_context, of_torch_on_the_cpu, of_python, of_numpy]


@dataclass
class SmallDevice:
    """Holds `room` images from update `since` on, counted from 1; more break off in the forward pass or at the end of the backward pass.

    `seen` are the numbers of images that were asked for, update by update.
    """

    room: int
    since: int = 1
    backward: bool = False
    way: Callable[[], None] = of_cuda
    seen: list[list[int]] = field(default_factory=list)
    done: float = -1.0
    full: bool = False

    @property
    def broken(self) -> list[int]:
        """The numbers that were refused."""
        return [number for asked in self.seen[self.since - 1 :] for number in asked if number > self.room]

    @contextmanager
    def around_step(self, progress: float):
        """For `train`, which says the share of it that is done: a step that is taken again is the same one."""
        if progress > self.done:
            self.seen.append([])
        self.done = progress
        yield

    def holds(self, loss):
        """The loss on this device; what `loss` is declared to be, it stays."""

        def limited(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            self.seen[-1].append(len(images))
            self.full = len(self.seen) >= self.since and len(images) > self.room
            if self.full and not self.backward:
                self.way()
            if not hasattr(model, "watched"):
                model.watched = next(model.parameters()).register_hook(self._reached)
            return loss(model, images, targets)

        limited.__dict__.update(loss.__dict__)
        return limited

    def _reached(self, gradient: Tensor) -> None:
        """The first parameter's gradient comes last: by now those of all others are added."""
        if self.full:
            self.way()


@mean_over_images
def in_double(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with dense targets in float64, mean over images."""
    return -(targets.double() * F.log_softmax(model(images.double()), dim=1)).sum(dim=1).mean()
