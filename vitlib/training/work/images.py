"""How many images and classes a set has: from its files, or, where they are not here, by what is published of the set."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, class_names, pictures
from vitlib.spec import SpecError

PUBLISHED = {  # training images, test images, classes
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (50_000, 10_000, 100),
    "tiny_imagenet": (100_000, 10_000, 200),
    "tiny-imagenet": (100_000, 10_000, 200),
    "imagenet": (1_281_167, 50_000, 1000),
    "imagenetv2": (0, 10_000, 1000),
    "imagenette": (9_469, 3_925, 10),
    "aircraft": (6_667, 3_333, 100),
    "caltech101": (3_060, 6_084, 102),
    "cars": (8_144, 8_041, 196),
    "dtd": (1_880, 1_880, 47),
    "eurosat": (21_600, 5_400, 10),
    "pets": (3_680, 3_669, 37),
    "sun397": (19_850, 19_850, 397),
}


@lru_cache(maxsize=512)
def classes(data: Data, data_dir: Path) -> int:
    """Raises:
    SpecError: for a set that is neither here nor among those of `PUBLISHED`.
    """
    try:
        return len(class_names(data, data_dir))
    except DataError:
        return _published(data)[2]


@lru_cache(maxsize=512)
def images(data: Data, split: str, data_dir: Path) -> int:
    """Images of a split; of `watched`, the validation images, none where there are no such."""
    if split == "watched":
        return images(data, "validation", data_dir) if watched_split(data, data_dir) == "validation" else 0
    try:
        return len(pictures(data, split, data_dir)[1])
    except DataError:
        return _of_published(data, split)


def _of_published(data: Data, split: str) -> int:
    training, test, classes = _published(data)
    if split != "train":
        return test
    return data.per_class * classes if data.per_class else int(np.floor(training * data.fraction))


def _published(data: Data) -> tuple[int, int, int]:
    name = data.source.rpartition("/")[2].lower()
    if name not in PUBLISHED:
        raise SpecError(
            f"data.source: got {data.source!r}, which is not here to be counted; allowed: a set below data_dir, or one of "
            f"{', '.join(PUBLISHED)}, whose sizes are known"
        )
    return PUBLISHED[name]
