"""Points, relations between them in loops, a network with exits."""

import itertools
import math

import numpy as np
import torch

from vitlib.inputs.models import ResNet, build
from vitlib.methods.distillation.exits import with_exits
from vitlib.methods.distillation.relations import angle_relation_loss, distance_relation_loss

LOSSES = [distance_relation_loss, angle_relation_loss]


def points(count=7, width=5, seed=1, dtype=torch.float64):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def smooth(difference, threshold):
    size = abs(difference)
    return size**2 / (2 * threshold) if size < threshold else size - threshold / 2


def distances_by_hand(rows):
    """All pairwise distances in loops, divided by the mean over pairs that are apart."""
    found = np.array([[math.dist(one, other) for other in rows] for one in rows])
    return found / found[found > 0].mean()


def cosines_by_hand(rows):
    """Cosine of the angle j-i-k for every triple, in loops; zero where j or k is i."""
    rows, count = np.array(rows), len(rows)
    found = np.zeros((count, count, count))
    for i, j, k in itertools.product(range(count), repeat=3):
        if j != i != k:
            to_j, to_k = rows[j] - rows[i], rows[k] - rows[i]
            found[i, j, k] = to_j @ to_k / (np.linalg.norm(to_j) * np.linalg.norm(to_k))
    return found


BY_HAND = {distance_relation_loss: distances_by_hand, angle_relation_loss: cosines_by_hand}


def loss_by_hand(loss, student, teacher, threshold):
    own, wanted = (BY_HAND[loss](rows.tolist()) for rows in (student, teacher))
    return np.mean([smooth(difference, threshold) for difference in (own - wanted).flat])


def byot():
    """BYOT's widths, one block a stage."""
    return with_exits(build(ResNet(width=64, blocks=(1, 1, 1, 1)), image_size=32, channels=3, num_classes=10))
