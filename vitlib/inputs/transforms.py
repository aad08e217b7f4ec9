"""From a picture to a batch: timm's transforms of streamed images, for evaluation and for training."""

from __future__ import annotations

from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torchvision.transforms import Compose

from vitlib.inputs.sources import Data
from vitlib.recipe import Augment

CROP_SHARE = 0.875  # of the resized side, kept by the centre crop of streamed images: 224 of 256


def transform_of(data: Data, augment: Augment | None) -> Compose:
    """timm's transforms of an evaluation, or of training; training without random crops keeps the evaluation's resize and crop.

    timm's random crop of the whole area still draws the aspect ratio of its box, and squashes it to a square.
    """
    common = {"input_size": data.image_size, "use_prefetcher": True, "interpolation": "bicubic"}
    evaluation = create_transform(**common, crop_pct=data.crop_share or CROP_SHARE)
    if augment is None:
        return evaluation
    training = create_transform(
        **common,
        is_training=True,
        scale=(augment.crop_area, 1.0),
        hflip=augment.flip,
        color_jitter=None,
        auto_augment=augment.randaugment or None,
    )
    _allow_no_bits(training)
    if augment.crop_area < 1:
        return training
    *resized_and_cropped, _ = evaluation.transforms
    _, *others = training.transforms
    return Compose([*resized_and_cropped, *others])


def _allow_no_bits(transform: Compose) -> None:
    """RandAugment's magnitudes vary (mstd), and from the largest on its posterize keeps no bit, which Pillow 13 refuses."""
    for step in transform.transforms:
        for operation in getattr(step, "ops", ()):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterized


def _posterized(image: Image.Image, bits: int, **_) -> Image.Image:
    """What Pillow gave before: black."""
    return posterize(image, bits) if bits >= 1 else image.point(lambda level: 0)
