"""Views of a batch: resized crops and colour changes, drawn for each sample on its device.

Images are (B, C, H, W) in the range 0..1; C is 3, or 1, for which saturation, hue and greyscale do nothing.
Source: M. Caron et al., Emerging properties in self-supervised vision transformers (DINO, arXiv 2104.14294), appendix.
Left out: Gaussian blur, which at 32 px leaves nothing to see.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


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
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]


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
