"""Experiment 2: the three losses in one step on their sum, in successive steps on each batch, or in phases of training (section 2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from vitlib.inputs.data import Batches
from vitlib.papers.multi_distillation.specs import Combined
from vitlib.papers.multi_distillation.training.objective import GROUPS, loss_terms


class Losses:
    """The loss of each step, summed over networks; `batches` is what to train on with it.

    In successive steps each batch comes once for every loss, with a forward pass of its own.
    """

    def __init__(self, spec: Combined, batches: Batches):
        self._objective, self._order = spec.objective, spec.order
        self.batches = Repeated(batches, len(GROUPS)) if spec.order == "successive" else batches
        self._updates = spec.recipe.epochs * self.batches.steps
        self._groups = tuple(GROUPS)

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        terms = [loss_terms(own, taught, targets, self._objective, self._groups) for own, taught in model(images)]
        return sum(term for named in terms for term in named.values())

    @contextmanager
    def around_step(self, progress: float) -> Iterator[tuple[str, ...]]:
        self._groups = groups_at(self._order, round(progress * self._updates), self._updates)
        yield self._groups


def groups_at(order: str, update: int, updates: int) -> tuple[str, ...]:
    """The losses that an update is on."""
    names = tuple(GROUPS)
    if order == "together":
        return names
    turn = update % len(names) if order == "successive" else update * len(names) // updates
    return (names[turn],)


class Repeated:
    """Batches, each of them `times` in a row."""

    def __init__(self, batches: Batches, times: int):
        self._batches, self._times = batches, times
        self.steps, self.images = times * batches.steps, batches.images

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        skipped = start % self._times
        for batch in self._batches.epoch(epoch, start // self._times):
            yield from [batch] * (self._times - skipped)
            skipped = 0
