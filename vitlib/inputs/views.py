"""Views of a batch, drawn for each sample on its device: a recipe's augmentation, and the colours of self-supervised learning.

Images are (B, C, H, W), for colours in the range 0..1; C is 3, or 1, for which saturation, hue and greyscale do nothing.
Source of the colours: M. Caron et al., Emerging properties in self-supervised vision transformers (DINO, arXiv 2104.14294), appendix.
Left out: Gaussian blur, which at 32 px leaves nothing to see.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlib.recipe import Augment

LUMA = (0.299, 0.587, 0.114)


def augmented(images: Tensor, augment: Augment) -> Tensor:
    """Random crop, flip, cutout and erasing, drawn for each sample."""
    if augment.crop:
        images = cropped(images, augment.crop)
    if augment.crop_area < 1:
        images = resized_crop(images, images.shape[-1], (augment.crop_area, 1.0), flip=0.0)
    if augment.flip:
        images = flipped(images, augment.flip)
    if augment.cutout:
        images = cut_out(images, augment.cutout)
    return erased(images, augment.erasing)


def flipped(images: Tensor, probability: float) -> Tensor:
    """Mirror each image (B, C, H, W) left to right with the given probability."""
    flip = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(flip, images.flip(3), images)


def cropped(images: Tensor, padding: int) -> Tensor:
    """Move each image (B, C, H, W) by up to `padding` pixels in both directions, zeros moving in."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    offsets = torch.randint(2 * padding + 1, (2, batch, 1), device=images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)
    columns = offsets[1] + torch.arange(width, device=images.device)
    taken = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
    return taken.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def cut_out(images: Tensor, side: int) -> Tensor:
    """Set a square of `side` pixels about a random centre of each image to zero, the mean after normalisation."""
    batch, _, height, width = images.shape
    top = torch.randint(height, (batch,), device=images.device) - side // 2
    left = torch.randint(width, (batch,), device=images.device) - side // 2
    return images.masked_fill(_boxes(images, top, left, top + side, left + side), 0.0)


def erased(images: Tensor, probability: float) -> Tensor:
    """Random erasing: with `probability` a rectangle of 2-33 % of the area, aspect ratio 0.3-3.3, becomes N(0, 1) noise.

    Source: Zhong et al. 2020, 'pixel' mode as in timm's RandomErasing, drawn for each sample.
    """
    if probability == 0:
        return images
    batch, _, height, width = images.shape
    chosen, area, aspect, y, x = torch.rand(5, batch, device=images.device)
    area = (0.02 + area * (1 / 3 - 0.02)) * height * width
    aspect = torch.exp((2 * aspect - 1) * math.log(10 / 3))
    box_height = (area * aspect).sqrt().round().clamp(1, height)
    box_width = (area / aspect).sqrt().round().clamp(1, width)
    top, left = (y * (height - box_height + 1)).floor(), (x * (width - box_width + 1)).floor()
    boxes = _boxes(images, top, left, top + box_height, left + box_width) & (chosen < probability)[:, None, None, None]
    return torch.where(boxes, torch.randn_like(images), images)


def _boxes(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """True inside each sample's half-open box; (B, 1, H, W)."""
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    inside_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < right[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def resized_crop(
    images: Tensor, size: int, scale: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3), flip: float = 0.5
) -> Tensor:
    """A random box of each image, `scale` of its area and `ratio` wide to high, mirrored with probability `flip`; (B, C, size, size).

    A box wider or higher than the image is cut to it, its area then being smaller.
    """
    batch = len(images)
    uniform = torch.rand(5, batch, device=images.device)
    area = scale[0] + uniform[0] * (scale[1] - scale[0])
    aspect = torch.exp(math.log(ratio[0]) + uniform[1] * (math.log(ratio[1]) - math.log(ratio[0])))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = images.new_zeros(batch, 2, 3)
    theta[:, 0, 0] = torch.where(uniform[4] < flip, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (2 * uniform[2] - 1) * (1 - width)
    theta[:, 1, 2] = (2 * uniform[3] - 1) * (1 - height)
    grid = F.affine_grid(theta, [batch, images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def colour_jitter(images: Tensor, probability: float, strength: float = 1.0) -> Tensor:
    """Brightness and contrast by up to 40 %, saturation by 20 %, hue by a tenth of a turn, each times `strength`; always in 0..1."""
    brightness, contrast, saturation, hue = (2 * torch.rand(4, len(images), 1, 1, 1, device=images.device) - 1) * strength
    changed = (images * (1 + 0.4 * brightness)).clamp(0, 1)
    level = grey(changed).mean((1, 2, 3), keepdim=True)
    changed = (level + (changed - level) * (1 + 0.4 * contrast)).clamp(0, 1)
    changed = (grey(changed) + (changed - grey(changed)) * (1 + 0.2 * saturation)).clamp(0, 1)
    changed = turned_hue(changed, 0.1 * hue).clamp(0, 1)
    return _sometimes(images, changed, probability)


def greyscale(images: Tensor, probability: float) -> Tensor:
    return _sometimes(images, grey(images).expand_as(images), probability)


def solarised(images: Tensor, probability: float, threshold: float = 0.5) -> Tensor:
    """Values of at least the threshold inverted."""
    return _sometimes(images, torch.where(images >= threshold, 1 - images, images), probability)


def grey(images: Tensor) -> Tensor:
    """Luma of the images; (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return torch.einsum("bchw,c->bhw", images, _luma(images.dtype, images.device))[:, None]


@cache
def _luma(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Once for a device: numbers of Python reach it only while it is waited for."""
    with torch.inference_mode(False):
        return torch.tensor(LUMA, dtype=dtype, device=device)


def turned_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Colours turned about the grey axis by `turns` (B, 1, 1, 1) of a full turn; the sum of the channels stays."""
    if images.shape[1] == 1:
        return images
    cos, sin = torch.cos(2 * math.pi * turns), torch.sin(2 * math.pi * turns)
    red, green, blue = images.split(1, dim=1)
    mean = (red + green + blue) / 3
    cross = torch.cat([blue - green, red - blue, green - red], dim=1) / math.sqrt(3)
    return mean + (images - mean) * cos + cross * sin


def _sometimes(images: Tensor, changed: Tensor, probability: float) -> Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < probability
    return torch.where(chosen, changed, images)
