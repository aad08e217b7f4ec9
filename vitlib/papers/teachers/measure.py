"""What a pretrained model is worth, and how far it looks: runs over a frozen `Teacher`."""

from __future__ import annotations

from vitlib.inputs.models import Positive
from vitlib.inputs.sources import Data
from vitlib.spec import Context, Result, RunSpec
from vitlib.teachers.teacher import Teacher


class Quality(RunSpec):
    """k-NN and linear-probe accuracy of frozen features on the test split, and top-1 where there is a classifier.

    Args:
        bank, queries: evenly spaced training and test images to use; None is all of them.
    """

    teacher: Teacher
    data: Data
    bank: Positive | None = None
    queries: Positive | None = None

    def compute(self, context: Context) -> Result:
        from vitlib.papers.teachers.compute import measure_quality

        return measure_quality(self, context)


class AttentionDistances(RunSpec):
    """Attention distance in pixels of each block and head, image by image; `images` are evenly spaced in the test split."""

    teacher: Teacher
    data: Data
    images: Positive

    def compute(self, context: Context) -> Result:
        from vitlib.papers.teachers.compute import measure_distances

        return measure_distances(self, context)
