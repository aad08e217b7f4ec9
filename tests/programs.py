"""What updates on the pretended GPU consist of: whether one of them waits for the device, and whether those of a kind are one program.

Only such updates can be replayed from a CUDA graph, and to the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tests import pretended_gpu
from tests.pretended_gpu import There
from vitlib.training.step.graphs import Work

LONG_ENOUGH = {  # epochs of smoke studies in which trainings of every class of runs have updates to compare
    "wecolora": {"probe": {"epochs": 3}},
    "afr_pruning": {"recipe": {"epochs": 2}},
    "dual_ssl_kd": {"finetune": {"epochs": 3}, "linear": {"epochs": 3}, "partial1": {"epochs": 3}},
}
HANDS_OVER = {  # to Python: a value, or a number of values that sizes the result
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
}  # fmt: skip
COPIES = {"_to_copy", "copy_"}

Program = list[tuple]


class Programs:
    """Graphs whose replays take every update anew, and compare it with the first replay of its kind."""

    def __init__(self):
        self.waits: set[str] = set()
        self.changes: set[str] = set()
        self.asked = False  # whether updates are to be replayed at all
        self.compared = 0

    def first(self, work: Work) -> Tensor:
        self.asked = True
        return work()

    def watched(self, work: Work) -> tuple[Tensor, str]:
        return self.first(work), ""

    def record(self, work: Work) -> Replay:
        return Replay(self, work)


class Replay:
    """An update that is taken anew; `value` is its loss."""

    def __init__(self, programs: Programs, work: Work):
        self._programs, self._work = programs, work
        self._program: Program | None = None
        self.value: Tensor | None = None

    def replay(self) -> None:
        with _seen(self._programs.waits) as program:
            self.value = self._work()
        if self._program is None:
            self._program = program
            return
        self._programs.compared += 1
        self._programs.changes |= {f"{was} became {now}" for was, now in zip(self._program, program, strict=False) if was != now}
        if len(program) != len(self._program):
            self._programs.changes.add(f"{len(self._program)} operations became {len(program)}")


@contextmanager
def _seen(waits: set[str]) -> Iterator[Program]:
    """The operations within: their names, numbers, and what shapes and types their tensors have."""
    program: Program = []

    def watch(operation: Any, args: tuple, kwargs: dict) -> None:
        library, _, name = operation.name().partition(".")[0].partition("::")
        if library == "profiler":
            return
        leaves = tree_leaves((args, kwargs))
        if _waits(name, leaves, kwargs):
            waits.add(name)
        program.append((name, *map(_described, leaves)))

    pretended_gpu.watching.append(watch)
    try:
        yield program
    finally:
        pretended_gpu.watching.remove(watch)


def _waits(name: str, leaves: list[Any], kwargs: dict) -> bool:
    """Whether Python waits for the device: to see a value of it, or until memory of the CPU was read, which is not pinned."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    there = [isinstance(tensor, There) for tensor in tensors]
    if name in HANDS_OVER:
        return any(there)
    if f"aten::{name}" in pretended_gpu.INDEXING:
        return there[0] and any(not here or index.dtype in (torch.bool, torch.uint8) for here, index in zip(there, tensors, strict=True))
    if name in COPIES:
        target = kwargs.get("device") or (tensors[0].device if name == "copy_" else None)
        return target is not None and (torch.device(target).type == pretended_gpu.NAME) is not there[-1]
    return False


def _described(value: Any) -> Any:
    if isinstance(value, There):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"{value.dtype} {tuple(value.shape)} of the CPU"
    return value
