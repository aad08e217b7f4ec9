"""How many floating-point operations updates ask for: counted by torch on the first of each kind, and added up over all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

COUNTED = 16  # kinds of updates; where there are more, they differ in a number, and are taken to be as large as the last one counted


class Flops:
    """Of the updates that were entered, with all their networks.

    A fused backward pass of attention computes its maps again and counts them again; an operation that torch has no formula of, nothing.
    """

    def __init__(self):
        self._total, self._images, self._latest, self._of = 0.0, 0, 0.0, dict[Hashable, float]()

    @property
    def per_image(self) -> float:
        return self._total / max(self._images, 1)

    @contextmanager
    def of(self, kind: Hashable, images: int) -> Iterator[None]:
        """An update on so many images; the first of its kind is to be taken anew."""
        if kind in self._of or len(self._of) == COUNTED:
            yield
        else:
            with _Counted() as counted:
                yield
            self._latest = self._of[kind] = counted.flops
        self._total, self._images = self._total + self._of.get(kind, self._latest), self._images + images


class _Counted(TorchDispatchMode):
    """Operations as they are; `flops` is what they add up to."""

    def __init__(self):
        super().__init__()
        self.flops = 0.0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if formula := flop_registry.get(operation._overloadpacket):
            with suppress(Exception):  # a count is not worth a run
                self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result
