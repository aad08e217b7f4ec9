"""The runs that measure the model which another run leaves behind."""

from __future__ import annotations

from typing import ClassVar

from vitlib.inputs.models import Positive
from vitlib.spec import RunSpec


class Measured(RunSpec):
    """Of a stored run's model: parameters, those that are not zero, multiply-accumulates, bytes of the saved files, latency of one image.

    Its top-1 is that of timm's forward pass, which takes the mean of a distilled model's two logits.

    Args:
        model: a run that keeps its weights.
    """

    timed: ClassVar[bool] = True

    model: RunSpec


class Exported(RunSpec):
    """The same model as an ONNX file: how far its logits are from PyTorch's, and both ways' latency and images/s in turns.

    It fails, and nothing else with it, where the extra `deploy` is not installed.

    Args:
        model: a run that keeps its weights.
        images: evenly spaced test images on which logits are compared.
        threads: of PyTorch and of ONNX Runtime while they are timed.
    """

    timed: ClassVar[bool] = True

    model: RunSpec
    images: Positive = 100
    threads: Positive = 1
