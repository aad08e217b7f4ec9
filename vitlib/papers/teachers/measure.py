"""What a pretrained model is worth, and how far it looks: runs over a frozen `Teacher`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from vitlib.inputs.foreign.demands import Uses
from vitlib.inputs.models import Positive
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.spec import Demand, RunSpec
from vitlib.teachers.teacher import Teacher


class Quality(RunSpec):
    """k-NN and linear-probe accuracy of frozen features on the test split, and top-1 where its classifier tells as many classes apart.

    Args:
        bank, queries: evenly spaced training and test images to use; None is all of them.
    """

    version: ClassVar[int] = 2

    teacher: Teacher
    data: Data
    bank: Positive | None = None
    queries: Positive | None = None

    def demands(self) -> Iterator[Demand]:
        yield Uses("teacher", self.teacher.model, self.data.image_size, self.teacher.channels)


class AttentionDistances(RunSpec):
    """Attention distance in pixels of each block and head, image by image; `images` are evenly spaced in the test split."""

    teacher: Teacher
    data: Data
    images: Positive

    def demands(self) -> Iterator[Demand]:
        yield Uses("teacher", self.teacher.model, self.data.image_size, self.teacher.channels, (needs.ATTENTION_MAPS,))
