"""What a run reads: images that are decoded and augmented one by one, and their bytes."""

from __future__ import annotations

from dataclasses import dataclass

from vitlib.inputs.sources import Data
from vitlib.spec import RunSpec
from vitlib.studies.costs.amounts import seen_by
from vitlib.training.work.declared import Work
from vitlib.training.work.registry import Sets, work_of

BYTES = {  # of a file, on average; by the last part of a source's name
    "imagenet": 110_000,  # 138 GB of 1,281,167 training images
    "cifar10": 2_300,
    "cifar100": 2_300,
    "tiny-imagenet": 2_100,
}
OTHER_BYTES = 110_000  # assumed of sets that are not listed


@dataclass(frozen=True)
class Reading:
    """Images decoded and bytes read, of one run or of several."""

    images: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.images + other.images, self.bytes + other.bytes)


def reading_of(spec: RunSpec, sets: Sets) -> Reading:
    """Of streamed sets each image in each pass; of those that are held on the device each image once."""
    return sum((_of(work, sets) for work in work_of(spec, sets) if work.data and not work.features), Reading())


def _of(work: Work, sets: Sets) -> Reading:
    images = seen_by(work, sets) / (work.epochs if work.data.resident and work.epochs else 1)
    return Reading(images, images * _bytes(work.data))


def _bytes(data: Data) -> int:
    return BYTES.get(data.source.rpartition("/")[2].lower(), OTHER_BYTES)
