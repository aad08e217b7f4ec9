"""What is measured of a model that a call gives back, beside its accuracy."""

from __future__ import annotations

from typing import ClassVar

from vitlib.spec import RunSpec


class Measured(RunSpec):
    """Of a stored run's model: parameters, those that are not zero, multiply-accumulates, bytes of the saved files, latency of one image.

    Args:
        model: a run that keeps its weights.
    """

    timed: ClassVar[bool] = True

    model: RunSpec
