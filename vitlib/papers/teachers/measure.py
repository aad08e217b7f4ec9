"""What a pretrained model is worth, and how far it looks: runs over a frozen `Teacher`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from vitlib.inputs.models import Positive
from vitlib.methods import needs
from vitlib.spec import Demand
from vitlib.teachers.runs import OnTeacher


class Quality(OnTeacher):
    """k-NN and linear-probe accuracy of frozen features on the test split, and top-1 where its classifier tells as many classes apart.

    Args:
        bank, queries: evenly spaced training and test images to use; None is all of them.
    """

    version: ClassVar[int] = 2

    bank: Positive | None = None
    queries: Positive | None = None

    def demands(self) -> Iterator[Demand]:
        yield self.uses()


class AttentionUnevenness(OnTeacher):
    """How unevenly each block and head attends, image by image, between 0 and 1; `images` are evenly spaced in the test split."""

    images: Positive

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ATTENTION_MAPS)


class AttentionDistances(OnTeacher):
    """Attention distance in pixels of each block and head, image by image; `images` are evenly spaced in the test split."""

    images: Positive

    def demands(self) -> Iterator[Demand]:
        yield self.uses(needs.ATTENTION_MAPS)
