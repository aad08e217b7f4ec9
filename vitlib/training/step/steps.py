"""How a training takes its updates: each asked of the device anew, or replayed from a record of the first ones of its kind.

Which of the two is a matter of the device and not of the run: a record holds the kernels that are asked for without one, and gives what
they give to the bit. Start from `step_of`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable
from functools import cache
from typing import NamedTuple, Protocol

from torch import Tensor

from vitlib import distributed
from vitlib.computing import Context
from vitlib.training.step.flops import Flops
from vitlib.training.step.graphs import Graphs, Record
from vitlib.training.step.update import Update

FIRST = 3  # steps of a kind that are taken before one is recorded: after them states and workspaces are where they stay
log = logging.getLogger("vitlib")


class Step(Protocol):
    """Takes updates; `measured` says for the provenance how, as `step`: 'captured', or 'eager' and why."""

    @property
    def measured(self) -> dict[str, float | str]: ...

    def __call__(self, images: Tensor, targets: Tensor, number: int, kind: Hashable) -> Tensor:
        """The loss of a batch, a scalar without gradient that holds until the next step.

        Args:
            number: of the update, counted from 1.
            kind: updates of one kind differ in their tensors alone.
        """
        ...


def step_of(update: Update, graphs: Graphs | None, context: Context) -> Step:
    """Replayed, and its operations counted, where there are graphs; eager where there are none, or it is asked for, or must be."""
    if graphs is None:
        return Eager(update, f"nothing is captured on {context.device}")
    if not context.capture:
        return Eager(update, "asked for")
    if why := _against(update):
        say_once(why)
        return Eager(update, why)
    return Counted(Replayed(update, graphs))


class Eager:
    """Every update anew."""

    def __init__(self, update: Update, why: str):
        self._update, self._why = update, why

    @property
    def measured(self) -> dict[str, float | str]:
        return {"step": f"eager: {self._why}"}

    def __call__(self, images: Tensor, targets: Tensor, number: int, kind: Hashable) -> Tensor:
        return self._update(images, targets, number)


class Counted:
    """Another step, and `flops_per_image`: floating-point operations, on an average of its updates."""

    def __init__(self, step: Step):
        self._step, self._flops = step, Flops()

    @property
    def measured(self) -> dict[str, float | str]:
        return self._step.measured | {"flops_per_image": self._flops.per_image}

    def __call__(self, images: Tensor, targets: Tensor, number: int, kind: Hashable) -> Tensor:
        with self._flops.of(kind, len(images)):
            return self._step(images, targets, number, kind)


class Batch(NamedTuple):
    """Where a record reads its batch from."""

    images: Tensor
    targets: Tensor

    def filled(self, images: Tensor, targets: Tensor) -> None:
        self.images.copy_(images)
        self.targets.copy_(targets)


class Replayed:
    """Of each kind the first updates anew, one of them watched, and those after it from a record.

    Updates are of another kind, too, where other parameters are trained or a batch has another shape. Whatever cannot be recorded makes
    this and all later updates eager, and is said once.
    """

    def __init__(self, update: Update, graphs: Graphs):
        self._update, self._graphs, self._why = update, graphs, ""
        self._parameters = list(update.model.parameters())
        self._taken: Counter[Hashable] = Counter()
        self._batches: dict[Hashable, Batch] = {}
        self._records: dict[Hashable, Record] = {}

    @property
    def measured(self) -> dict[str, float | str]:
        if self._records:
            return {"step": "captured"}
        return {"step": f"eager: {self._why or f'at most {FIRST} updates of a kind'}"}

    def __call__(self, images: Tensor, targets: Tensor, number: int, kind: Hashable) -> Tensor:
        if self._why:
            return self._update(images, targets, number)
        shape = images.shape, images.dtype, targets.shape, targets.dtype
        key = kind, shape, bytes(parameter.requires_grad for parameter in self._parameters)
        if key not in self._records:
            self._taken[key] += 1
            if self._taken[key] <= FIRST or not self._recorded(key, images, targets, number):
                return self._anew(images, targets, number, watch=self._taken[key] == FIRST)
        self._batches[shape].filled(images, targets)
        self._records[key].replay()
        return self._records[key].value

    def _anew(self, images: Tensor, targets: Tensor, number: int, watch: bool) -> Tensor:
        if not watch:
            return self._graphs.first(lambda: self._update(images, targets, number))
        value, waited = self._graphs.watched(lambda: self._update(images, targets, number))
        if waited:
            self._fall_back(f"an update waits for the device ({waited})")
        return value

    def _recorded(self, key: Hashable, images: Tensor, targets: Tensor, number: int) -> bool:
        """Whether the update could be recorded."""
        batch = self._batches.setdefault(key[1], Batch(images.clone(), targets.clone()))
        try:
            self._records[key] = self._graphs.record(lambda: self._update(*batch, number))
        except RuntimeError as error:
            self._fall_back(f"an update cannot be recorded ({_first_line(error)})")
        return not self._why

    def _fall_back(self, why: str) -> None:
        self._why = why
        self._records.clear()
        self._batches.clear()
        say_once(why)


def _against(update: Update) -> str:
    """Why updates are not even tried to be recorded, or nothing."""
    if update.recipe.compile:
        return "recipe.compile"
    return "several processes share the run" if distributed.processes() > 1 else ""


@cache
def say_once(why: str) -> None:
    """In a process."""
    log.warning("updates are not replayed from a CUDA graph: %s", why)


def _first_line(error: Exception) -> str:
    """Of the first of the errors that led to this one: a recording that was broken off fails once more at its end."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).partition("\n")[0][:200]
