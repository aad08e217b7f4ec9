"""Self-distillation: a network's deepest classifier teaches the shallow ones that branch off before it.

Source: L. Zhang et al., Be your own teacher (BYOT, ICCV 2019), `train.py` of its code; multi_distillation, section 2.4.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vitlib.methods.distillation.relations import exact

Reduction = Literal["mean", "sum"]


def soft_target_loss(logits: Tensor, deepest: Tensor, temperature: float) -> Tensor:
    """T^2 H(p_deepest^T, p^T): cross-entropy with soft targets, mean over the batch; no gradient to the deepest logits; both (B, C).

    It is T^2 KL(p_deepest || p) plus T^2 times the entropy of p_deepest, which has no gradient.
    """
    targets = F.softmax(deepest.detach() / temperature, dim=-1)
    return temperature**2 * F.cross_entropy(logits / temperature, targets)


def hint_loss(features: Tensor, deepest: Tensor, reduction: Reduction) -> Tensor:
    """F_m: squares of f_m - f_deepest where either is positive, over the batch and all features (B, D); no gradient to the deepest.

    The sum is the reference's; the mean divides by B D, of all entries.
    """
    features, deepest = exact(features), exact(deepest.detach())
    squares = (features - deepest).square() * ((features > 0) | (deepest > 0))
    return squares.sum() if reduction == "sum" else squares.mean()
