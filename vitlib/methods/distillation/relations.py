"""Relational knowledge distillation: a student keeps the distances and angles between a batch's embeddings, not the embeddings.

Source: W. Park et al., Relational knowledge distillation (CVPR 2019), `metric/loss.py` of its code; multi_distillation, section 2.3.
Distances and angles are taken in float32 at least: their differences vanish in half precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DEGENERATE = 1e-6  # of the root mean square distance: closer pairs have no direction


def distance_relation_loss(student: Tensor, teacher: Tensor, threshold: float = 1.0) -> Tensor:
    """L_D: smooth-L1 between the pairwise distances, each side in units of its own mean; mean over all B^2 pairs.

    Args:
        student, teacher: embeddings (B, D) of the same images; D may differ. No gradient reaches the teacher.
        threshold: where smooth-L1 turns from a parabola into a line.
    """
    with torch.no_grad():
        wanted = normalised_distances(exact(teacher))
    return F.smooth_l1_loss(normalised_distances(exact(student)), wanted, beta=threshold)


def angle_relation_loss(student: Tensor, teacher: Tensor, threshold: float = 1.0) -> Tensor:
    """L_A: smooth-L1 between the cosines of all angles j-i-k; mean over all B^3 triples. Memory: B^3 + B^2 D numbers.

    Args:
        student, teacher, threshold: as in `distance_relation_loss`.
    """
    with torch.no_grad():
        wanted = angle_cosines(exact(teacher))
    return F.smooth_l1_loss(angle_cosines(exact(student)), wanted, beta=threshold)


def normalised_distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances between rows (B, D), divided by the mean of the positive ones; (B, B)."""
    with torch.autocast(embeddings.device.type, enabled=False):
        distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.clamp(min=torch.finfo(distances.dtype).tiny)


def angle_cosines(embeddings: Tensor) -> Tensor:
    """<e_ij, e_ik> with e_ij the unit vector from row i to row j, or zero where the rows coincide; (B, B, B) by i, j, k."""
    with torch.autocast(embeddings.device.type, enabled=False):
        differences = embeddings[None] - embeddings[:, None]
        squares = differences.square().sum(dim=-1, keepdim=True)
        coincide = squares <= DEGENERATE**2 * squares.detach().mean()
        lengths = torch.where(coincide, torch.inf, squares).sqrt()  # infinite: neither a direction nor a gradient
        directions = differences / lengths
        return directions @ directions.mT


def exact(embeddings: Tensor) -> Tensor:
    """In float32, or as it is in float64."""
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
