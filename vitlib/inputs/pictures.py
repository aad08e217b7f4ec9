"""Pictures from files to arrays: opening, squaring, and the photometric shift of a second test set. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from vitlib.spec import Part, SpecError

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on damaged files


class DataError(SpecError):
    """A data set that is missing, empty or unreadable; the message says where it was looked for and what to do."""


class Shift(Part):
    """A photometric shift of the test images: less contrast and Gaussian noise, in units of the full range."""

    contrast: Annotated[float, Field(gt=0, le=1)]
    noise: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0)] = 0


def shifted(images: np.ndarray, shift: Shift, generator: np.random.Generator | None = None) -> np.ndarray:
    """Lower the contrast about mid-grey and add Gaussian noise from `generator` (default: of the shift's seed); uint8 in and out."""
    generator = generator or np.random.default_rng(shift.seed)
    noise = generator.normal(scale=255 * shift.noise, size=images.shape)
    return np.clip(127.5 + shift.contrast * (images - 127.5) + noise, 0, 255).round().astype(np.uint8)


def open_image(path: Path, channels: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("L" if channels == 1 else "RGB")
    except UNREADABLE as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


def check_header(path: Path) -> None:
    try:
        Image.open(path).close()
    except UNREADABLE as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


def shifted_pictures(pictures: Iterable[Image.Image], shift: Shift) -> Iterator[Image.Image]:
    """The shift at the pictures' own size, before they are resized: the same test set at every resolution."""
    generator = np.random.default_rng(shift.seed)
    for picture in pictures:
        yield Image.fromarray(shifted(np.asarray(picture), shift, generator))


def square(image: Image.Image, size: int, share: float = 1.0) -> np.ndarray:
    """Shorter side to `size` / `share` (bicubic), centre crop of `size`; (C, H, W) uint8."""
    if share < 1 or image.size != (size, size):
        scale = round(size / share) / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
