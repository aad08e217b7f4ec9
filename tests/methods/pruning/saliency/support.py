"""Layers, batches and scores by autograd that tests of pruning share."""

import torch

from vitlib.methods.pruning.masks import prunable
from vitlib.methods.pruning.saliency import block_features, linear_features, refer

FEATURES = {"blocks": block_features, "linears": linear_features}
SPLITS = [[6], [1] * 6, [2, 4], [5, 1], [1, 3, 2]]


def batches(images, labels, sizes):
    return list(zip(images.split(sizes), labels.split(sizes), strict=True))


def spread_scores(model, images, rows="class", center=False, sizes=(6,), layers="blocks"):
    return refer(model, lambda: images.split(list(sizes)), prunable(model), FEATURES[layers](rows), center=center)


def gradients(scalar, weights):
    return dict(zip(weights, torch.autograd.grad(scalar, list(weights.values())), strict=True))


def times_weight(slopes, weights):
    return {name: (slopes[name] * weight).abs().detach() for name, weight in weights.items()}


def far_apart(one, other, least=0.1):
    """Whether every matrix of the scores differs by more than this part of its size."""
    return all((one[name] - other[name]).norm() > least * one[name].norm() for name in one)
