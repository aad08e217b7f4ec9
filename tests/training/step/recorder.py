"""CUDA graphs that are not there: operations of the CPU, recorded without being done, and replayed on the memory of their recording.

What a real record keeps is kept: the operations, their tensors, numbers of Python as they were. What it refuses is refused: to hand a
value of the device to Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitlib.training.step.graphs import Record, Work

UNDECLARED = {"aten::native_batch_norm": (3, 4)}  # arguments that an operation changes without saying so: running mean and variance
READING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}  # what Python gets to see


class Operations(TorchDispatchMode):
    """Those done within, with their arguments and results."""

    def __init__(self):
        super().__init__()
        self.done: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.before(operation, args)
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def before(self, operation, args) -> None:
        """Nothing."""

    @property
    def reading(self) -> list[str]:
        return [operation.name() for operation, *_ in self.done if operation.name().partition(".")[0] in READING]


class Undone(Operations):
    """As above; what they change is as it was in the end."""

    def __init__(self):
        super().__init__()
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def before(self, operation, args) -> None:
        if operation.name().partition(".")[0] in READING:
            raise RuntimeError(f"{operation.name()}: operation not permitted when stream is capturing")
        declared = [argument.alias_info is not None and argument.alias_info.is_write for argument in operation._schema.arguments]
        for place, given in enumerate(args):
            if declared[place] or place in UNDECLARED.get(operation.name(), ()):
                for tensor in (leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)):
                    self._kept.setdefault(id(tensor), (tensor, tensor.detach().clone()))

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, content in reversed(self._kept.values()):
            tensor.copy_(content)


class Recorder:
    """Graphs on the CPU; `kinds` counts the records, `replays` their replays."""

    def __init__(self):
        self.kinds, self.replays = 0, 0

    def first(self, work: Work) -> Tensor:
        return work()

    def watched(self, work: Work) -> tuple[Tensor, str]:
        with Operations() as operations:
            value = work()
        return value, ", ".join(operations.reading)

    def record(self, work: Work) -> Record:
        operations = Undone()
        try:
            with _as_it_was(), operations:
                value = work()
        finally:
            operations.undo()
        self.kinds += 1
        return Record(value, lambda: self._replay(operations.done))

    @torch.no_grad()
    def _replay(self, done: list[tuple[Any, tuple, dict, Any]]) -> None:
        self.replays += 1
        for operation, args, kwargs, result in done:
            given = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
            for old, new in zip(tree_leaves(result), tree_leaves(operation(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
                    old.copy_(new)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """A recording draws no random numbers."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
