"""A model and photos for whoever has none at hand: a transformer that comes with vitlib, and a folder of handwritten digits."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitlib.inputs.sets.digits import digits

MODEL = "shipped/dino"
IMAGE_SIZE, ENLARGED = 16, 2  # pixels, and times those of the digits
RECIPE = {"lr": 1e-3, "layer_decay": 0.9, "batch_size": 16, "augment": {}}  # few steps, and digits that are no mirror images


@dataclass(frozen=True)
class Size:
    """How many classes and photos an example has, and for how many epochs its models are fine-tuned."""

    classes: int
    photos: int
    epochs: int


SIZES = {"smoke": Size(classes=4, photos=30, epochs=2), "quick": Size(classes=6, photos=80, epochs=6)}


def photos(inputs: Path, size: Size) -> Path:
    """A folder CLASS/*.png below `inputs`, written where it is missing: scikit-learn's digits, enlarged, without a split.

    The same bytes everywhere, since they are part of the identity of runs: pixels are doubled, files are written uncompressed.
    """
    place = inputs / "example" / f"digits-{size.classes}x{size.photos}"
    if place.is_dir():
        return place
    aside = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
    picture, labels = digits("train")
    for label in range(size.classes):
        folder = aside / f"digit {label}"
        folder.mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == label)[: size.photos]):
            pixels = np.kron(np.asarray(picture(int(index))), np.ones((ENLARGED, ENLARGED), np.uint8))
            Image.fromarray(pixels).save(folder / f"{number:03}.png", compress_level=0)
    with suppress(OSError):  # another process was first
        aside.rename(place)
    shutil.rmtree(aside, ignore_errors=True)
    return place
