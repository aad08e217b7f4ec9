"""Pictures from files to arrays: opening, eight bits a channel, squaring, a second test set's shift. Imports no torch.

Every picture, from whatever source, passes `eight_bit`: upright, over white where it is transparent, levels scaled by their format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps
from pydantic import Field

from vitlib.spec import Part, SpecError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")  # others run programs (EPS), or are no photos
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on damaged files
_UNREADABLE_EXIF = (*UNREADABLE, struct.error, KeyError, TypeError, IndexError, EOFError)
_UPRIGHT = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BIT = {"PNG", "PPM"}  # formats whose pictures of mode I hold 0..65535, as Pillow reads them


class DataError(SpecError):
    """A data set that is missing, empty or unreadable; the message says where it was looked for and what to do."""


class AbsentError(DataError):
    """A data set that is not on this machine; stored results may be shown all the same."""


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


def open_image(path: Path | str, channels: int) -> Image.Image:
    """The picture of a file in one channel ("L") or three ("RGB").

    Raises:
        DataError: a file that cannot be read, or levels of unknown range; the message names the file.
    """
    try:
        with _opened(path) as image:
            return eight_bit(image, channels)
    except UNREADABLE as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


def check_header(path: Path) -> None:
    """Refuse a file that is no picture; decodes only those whose levels may be of unknown range."""
    try:
        with _opened(path) as image:
            if image.mode in ("I", "F"):
                _of_eight_bits(image)
    except UNREADABLE as error:
        raise DataError(f"image {path}: cannot be read ({error}); replace or remove the file") from None


@dataclass(frozen=True)
class FilePictures:
    """Pictures by their place, from files."""

    paths: list[Path]
    channels: int

    def __call__(self, place: int) -> Image.Image:
        return open_image(self.paths[place], self.channels)


@dataclass(frozen=True)
class RowPictures:
    """Pictures by their place, from a set that gives `kept` of them by their number; `name` is the set's."""

    every: Callable[[int], Image.Image]
    kept: np.ndarray
    channels: int
    name: str

    def __call__(self, place: int) -> Image.Image:
        row = int(self.kept[place])
        try:
            return eight_bit(self.every(row), self.channels)
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(f"image {row} of {self.name}: cannot be read ({error}); replace or remove it") from None


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    """By its content and not by its name, for which Pillow 13 maps a TIFF into memory and scrambles it where it lies on its side."""
    with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
        yield image


def eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """A picture of any mode as "L" (one channel) or "RGB" (three), of an animation the first.

    It is turned upright by its EXIF orientation, and what is transparent lies over white. 16 bits a channel are divided by 257,
    so that 65535 becomes 255, and 12 bits of a TIFF likewise; of 16-bit colour Pillow itself takes the high byte. Floats are
    taken from 0..1.

    Raises:
        ValueError: for integers of 32 bits and floats outside 0..1, whose range nothing states.
    """
    image.load()  # upon which Pillow itself turns a TIFF and forgets its orientation
    orientation = _orientation(image)
    target = "L" if channels == 1 else "RGB"
    flat = _opaque(_of_eight_bits(image))
    upright = (flat.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else flat).convert(target)
    upright.info = {}  # an orientation that has been followed must not be followed again
    return upright


def _orientation(image: Image.Image) -> int:
    """EXIF's number, 1 where there is none that can be read: a damaged note does not make the picture unreadable."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _UNREADABLE_EXIF:
        return 1


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """The same picture in a mode of eight bits a channel that `convert` knows, with its transparency."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT):
        tags = getattr(image, "tag_v2", {})  # of a TIFF, which may hold 12 bits, or count from white; Pillow heeds neither
        grey = _scaled(image, 2 ** max(tags.get(ExifTags.Base.BitsPerSample, (16,))) - 1)
        return ImageOps.invert(grey) if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else grey
    if image.mode == "I":
        raise ValueError(f"its integers of 32 bits, here {_range(image)}, state no range; save it with 8 or 16 bits")
    if image.mode == "F":
        levels = np.asarray(image)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"its floats, here {_range(image)}, are not in 0..1; scale them, or save it with 8 or 16 bits")
        return _scaled(image, 1)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image


def _scaled(image: Image.Image, largest: int) -> Image.Image:
    """Grey levels from 0..`largest` to 0..255; "LA" where one of them stands for transparency."""
    levels = np.asarray(image)
    grey = Image.fromarray((levels * (255 / largest)).round().astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey


def _opaque(image: Image.Image) -> Image.Image:
    """Over white where it is transparent: an alpha channel, or a colour or palette entries that stand for it."""
    if not image.has_transparency_data:
        return image
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _range(image: Image.Image) -> str:
    levels = np.asarray(image)
    return f"{levels.min():g} to {levels.max():g}"


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
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))  # strided ones crashed torch's CPU kernels
