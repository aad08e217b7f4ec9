"""SNIP against autograd in float64 and sample by sample; magnitude and chance."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tests.methods.pruning.saliency.support import SPLITS, batches, far_apart, gradients, spread_scores, times_weight
from tests.support import MICRO, MICRO_SIZES
from vitlib.inputs.models import build
from vitlib.methods.pruning.masks import prunable
from vitlib.methods.pruning.saliency import block_features, chance, magnitude, refer, snip
from vitlib.spec import SpecError

# ------------------------------------------------------------------------------------------------ SNIP


def test_invariant_1_the_score_is_the_derivative_with_respect_to_a_multiplicative_mask():
    layer, inputs, labels = nn.Linear(7, 5, bias=False), torch.randn(9, 7), torch.randint(5, (9,))
    mask = torch.ones(5, 7, requires_grad=True)
    F.cross_entropy(F.linear(inputs, layer.weight * mask), labels, reduction="sum").backward()
    scores = snip(layer, [(inputs, labels)], {"weight": layer.weight})
    assert torch.equal(scores["weight"], mask.grad.abs() / 9)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_snip_is_the_absolute_product_of_weight_and_mean_gradient_of_the_samples_one_by_one(model, images, labels, sizes):
    weights = prunable(model)
    each = [gradients(F.cross_entropy(model(images[i : i + 1]), labels[i : i + 1]), weights) for i in range(6)]
    mean = {name: sum(slopes[name] for slopes in each) / 6 for name in weights}
    assert_close(snip(model, batches(images, labels, sizes), weights), times_weight(mean, weights))


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 4]], ids=["by sample", "by batch"])
def test_trap_a_sum_of_absolute_gradients_is_another_criterion(model, images, labels, sizes):
    weights = prunable(model)
    parts = batches(images, labels, sizes)
    separate = [times_weight(gradients(F.cross_entropy(model(x), y, reduction="sum"), weights), weights) for x, y in parts]
    absolute = {name: sum(scores[name] for scores in separate) / 6 for name in weights}
    scores = snip(model, parts, weights)
    assert all((absolute[name] >= scores[name] - 1e-12).all() for name in weights)
    assert far_apart(scores, absolute)


def test_trap_a_classifier_that_starts_at_zero_is_refused_and_one_drawn_at_random_is_not(images, labels):
    model = build(MICRO.changed(init="xavier"), **MICRO_SIZES).double()
    assert not model.head.weight.any()
    parts, weights = batches(images, labels, [6]), prunable(model)
    with pytest.raises(SpecError, match=r"every gradient of the loss is zero.*draw the classifier's weights at random"):
        snip(model, parts, weights)
    nn.init.trunc_normal_(model.head.weight, std=0.02)
    assert all(score.any() for score in snip(model, parts, weights).values())


def test_a_matrix_of_zeros_scores_zero_and_is_not_refused(model, images, labels):
    nn.init.zeros_(model.blocks[1].mlp.fc2.weight)
    behind = {"blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc2.weight"}
    for scores in (snip(model, [(images, labels)], prunable(model)), spread_scores(model, images)):
        assert {name for name, score in scores.items() if not score.any()} == behind


def test_trap_a_classifier_scores_zero_in_refer_and_not_in_snip(model, images, labels):
    weights = prunable(model) | {"head.weight": model.head.weight}
    spreads = refer(model, lambda: [images], weights, block_features("class"))
    assert {name for name, score in spreads.items() if not score.any()} == {"head.weight"}
    assert all(score.any() for score in snip(model, [(images, labels)], weights).values())


# ------------------------------------------------------------------------------------------------ magnitude and chance


def test_magnitude_is_the_absolute_weight_and_a_copy(model):
    weights = prunable(model.float())
    scores = magnitude(weights)
    assert {name: score.tolist() for name, score in scores.items()} == {name: weight.abs().tolist() for name, weight in weights.items()}
    scores["blocks.0.attn.qkv.weight"].zero_()
    assert weights["blocks.0.attn.qkv.weight"].all()


def test_chance_follows_from_its_seed_alone_and_is_uniform(model):
    weights = prunable(model)
    one = chance(weights, seed=7)
    torch.manual_seed(99)
    again, other = chance(weights, seed=7), chance(weights, seed=8)
    assert all(torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]) for name in weights)
    assert {name: score.shape for name, score in one.items()} == {name: weight.shape for name, weight in weights.items()}
    values = np.sort(np.concatenate([score.numpy().ravel() for score in one.values()]))
    assert np.abs(values - np.linspace(0, 1, len(values))).max() < 1.63 / len(values) ** 0.5  # Kolmogorov at 1 %
