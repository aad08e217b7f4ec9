"""The runs that measure the model which another run leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vitlib.deploy.needed import require
from vitlib.inputs.models import Positive
from vitlib.spec import Demand, RunSpec


class Measured(RunSpec):
    """Of a stored run's model: parameters, those that are not zero, multiply-accumulates, bytes of the saved files, latency of one image.

    Its top-1 is that of timm's forward pass, which takes the mean of a distilled model's two logits.

    Args:
        model: a run that keeps its weights.
    """

    timed: ClassVar[bool] = True

    model: RunSpec


class Exported(RunSpec):
    """The same model as an ONNX file: how far its logits are from PyTorch's, its size, and both ways' latency and images/s in turns.

    Args:
        model: a run that keeps its weights.
        images: evenly spaced test images on which logits are compared.
        threads: of PyTorch and of ONNX Runtime while they are timed.
    """

    timed: ClassVar[bool] = True

    model: RunSpec
    images: Positive = 100
    threads: Positive = 1

    def demands(self) -> Iterator[Demand]:
        yield CanExport()


@dataclass(frozen=True)
class CanExport:
    """That the extra `deploy` is installed."""

    def check(self, data_dir: Path) -> None:
        require()
