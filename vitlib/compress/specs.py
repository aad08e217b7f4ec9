"""What is measured of a model that a call gives back, beside its accuracy."""

from __future__ import annotations

from typing import ClassVar

from vitlib.spec import RunSpec


class Measured(RunSpec):
    """Of a stored run's model: parameters, those that are not zero, multiply-accumulates, bytes of the saved files, latency of one image.

    Its top-1 is that of timm's forward pass, which takes the mean of a distilled model's two logits.

    Args:
        model: a run that keeps its weights.
    """

    timed: ClassVar[bool] = True

    model: RunSpec
