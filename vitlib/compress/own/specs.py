"""How far the model of a stored run looks."""

from __future__ import annotations

from vitlib.inputs.models import Positive
from vitlib.spec import RunSpec


class OwnDistances(RunSpec):
    """Attention distance in pixels of each block and head of a run's model, image by image; `images` are evenly spaced in the test split.

    Args:
        model: a run that keeps its weights.
    """

    model: RunSpec
    images: Positive
