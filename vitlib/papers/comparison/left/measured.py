"""The runs that measure the model which another run leaves behind."""

from __future__ import annotations

from typing import ClassVar

from vitlib.inputs.models import Positive
from vitlib.spec import RunSpec


class Measured(RunSpec):
    """Of a stored run's model: parameters, those that are not zero, multiply-accumulates, bytes of the saved files.

    Its top-1 is that of timm's forward pass, which takes the mean of a distilled model's two logits.

    Args:
        model: a run that keeps its weights.
    """

    model: RunSpec


class Latency(RunSpec):
    """Of the same model: milliseconds of a forward pass of one image, median and 90th percentile.

    Args:
        model: a run that keeps its weights.
    """

    timed: ClassVar[bool] = True

    model: RunSpec


class Written(RunSpec):
    """The same model written as an ONNX file, and how far the file's logits are from PyTorch's.

    It fails, and nothing but `Exported` with it, where the extra `deploy` is not installed.

    Args:
        model: a run that keeps its weights.
        images: evenly spaced test images on which logits are compared.
    """

    model: RunSpec
    images: Positive = 100


class Exported(RunSpec):
    """What is said of that file, and its latency and images/s beside PyTorch's, in turns.

    Args:
        model, images: as in `Written`.
        threads: of PyTorch and of ONNX Runtime while they are timed.
    """

    timed: ClassVar[bool] = True

    model: RunSpec
    images: Positive = 100
    threads: Positive = 1

    @property
    def written(self) -> Written:
        return Written(model=self.model, images=self.images)

    def parents(self) -> list[RunSpec]:
        return [self.model, self.written]


def measurements(run: RunSpec) -> dict[str, RunSpec]:
    """What tables before and after say of a run's model, by a word for it."""
    return {"measured": Measured(model=run), "latency": Latency(model=run)}
