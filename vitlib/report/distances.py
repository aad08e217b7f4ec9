"""Attention distances: drawn by block, and what attention that looks everywhere alike would have."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vitlib.report.drawing.palette import Look
from vitlib.report.statistics import half_width


def uniform_attention_distance(image_size: int, patch_size: int) -> float:
    """Mean distance in pixels between two patches of a square image, each drawn uniformly: attention that looks everywhere alike."""
    places = patch_size * np.indices([image_size // patch_size] * 2).reshape(2, -1).T
    return float(np.linalg.norm(places[:, None] - places, axis=-1).mean())


def draw_distances(axes: Axes, distance: np.ndarray, shown: Look | str, label: str, label_of_heads: str, *, beside: float = 0.0) -> None:
    """Distances (images, blocks, heads): a line of means over heads and images with 95 % intervals over images; dots for single heads.

    Args:
        shown: a look, or a colour.
        beside: how far to the right of its block all of it stands, in blocks.
    """
    shown = shown if isinstance(shown, Look) else Look(shown, "")
    by_image, heads = pd.DataFrame(distance.mean(axis=2)), distance.mean(axis=0)
    blocks = np.arange(1, distance.shape[1] + 1) + beside
    axes.errorbar(blocks, by_image.mean(), by_image.apply(half_width), label=label, **shown.lines)
    places = np.repeat(blocks, heads.shape[1])
    axes.scatter(places, heads.ravel(), s=6, color=shown.colour, alpha=0.6, linewidths=0, label=label_of_heads, zorder=1.5)
