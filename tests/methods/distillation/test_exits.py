"""Exits of a network and what its deepest end teaches them: invariants 7, 8 and 14 of multi-distillation's method sheet."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.methods.distillation.support import byot, points
from vitlib.inputs.models import ResNet, Vit, build
from vitlib.methods.distillation.exits import with_exits
from vitlib.methods.distillation.self_distillation import hint_loss, soft_target_loss

# ------------------------------------------------------------------------------------------------ exits taught by the deepest end


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_invariant_8_soft_targets_are_the_divergence_plus_the_entropy_of_the_deepest(temperature):
    exit_logits, deepest = (2 * points(6, 4, seed=seed) for seed in (1, 2))
    p, q = (logits.div(temperature).softmax(-1).tolist() for logits in (deepest, exit_logits))
    crossed = [-sum(a * math.log(b) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)]
    found = float(soft_target_loss(exit_logits, deepest, temperature))
    assert found == pytest.approx(temperature**2 * np.mean(crossed), rel=1e-12)
    entropy = np.mean([-sum(a * math.log(a) for a in row) for row in p])
    divergence = F.kl_div(exit_logits.div(temperature).log_softmax(-1), deepest.div(temperature).softmax(-1), reduction="batchmean")
    assert found / temperature**2 - float(divergence) == pytest.approx(entropy, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_invariant_8_the_gradient_is_that_of_the_divergence(temperature):
    """T (softmax(z / T) - p^T) / B by image and class, and none for the deepest."""
    exit_logits, deepest = (points(6, 4, seed=seed).requires_grad_() for seed in (1, 2))
    soft_target_loss(exit_logits, deepest, temperature).backward()
    q, p = (logits.detach().div(temperature).softmax(-1) for logits in (exit_logits, deepest))
    assert_close(exit_logits.grad, temperature * (q - p) / 6, rtol=1e-12, atol=1e-15)
    assert deepest.grad is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_invariant_7_hints_leave_out_what_is_positive_on_neither_side(reduction):
    features, deepest = points(6, 5), points(6, 5, seed=2)
    pairs = list(zip(features.flatten().tolist(), deepest.flatten().tolist(), strict=True))
    kept = [(f - g) ** 2 for f, g in pairs if f > 0 or g > 0]
    assert 0 < len(kept) < len(pairs)
    expected = sum(kept) / (1 if reduction == "sum" else len(pairs))
    assert float(hint_loss(features, deepest, reduction)) == pytest.approx(expected, rel=1e-12)
    assert float(hint_loss(features, features, reduction)) == 0
    assert float(hint_loss(-features.abs(), -deepest.abs(), reduction)) == 0


def test_invariant_7_the_sum_is_128_x_512_times_the_mean_of_a_batch_of_128():
    features, deepest = points(128, 512).relu(), points(128, 512, seed=2).relu()
    ratio = float(hint_loss(features, deepest, "sum") / hint_loss(features, deepest, "mean"))
    assert ratio == pytest.approx(128 * 512, rel=1e-12)
    assert round(1e-6 * ratio, 3) == 0.066  # the prior-work row's i


def test_invariant_7_hints_move_the_exit_alone():
    features, deepest = points(6, 5).requires_grad_(), points(6, 5, seed=2).requires_grad_()
    hint_loss(features, deepest, "sum").backward()
    masked = (features <= 0) & (deepest <= 0)
    assert deepest.grad is None and not features.grad[masked].any() and features.grad[~masked].all()


def test_hints_of_half_precision_are_summed_in_single():
    """Their squares, up to 1e8 here, are beyond float16."""
    features, deepest = 3000 * points(64, 64, dtype=torch.float16), points(64, 64, seed=2, dtype=torch.float16)
    found = hint_loss(features, deepest, "sum")
    assert found.dtype == torch.float32 and torch.equal(found, hint_loss(features.float(), deepest.float(), "sum"))
    assert torch.isfinite(found)


# ------------------------------------------------------------------------------------------------ networks with exits


@torch.no_grad()
def test_invariant_14_the_branches_end_in_maps_of_four_by_four_and_512_features():
    network, maps = byot().eval(), []
    for branch in network.branches:
        branch.register_forward_hook(lambda module, given, found: maps.append((given[0].shape[2], found)))
    outputs = network(torch.randn(2, 3, 32, 32))
    assert [side for side, _ in maps] == [32, 16, 8]
    assert [tuple(found.shape) for _, found in maps] == [(2, 512, 4, 4)] * 3
    for feature, (_, found) in zip(outputs.features, maps, strict=False):
        assert_close(feature, found.mean(dim=(2, 3)))
    assert [tuple(feature.shape) for feature in outputs.features] == [(2, 512)] * 4
    assert [tuple(logits.shape) for logits in outputs.logits] == [(2, 10)] * 4


def test_invariant_14_branches_are_those_of_byot_to_the_parameter():
    """1 x 1 to 128, k x k with stride k, 1 x 1 to 512, none with a bias, each followed by batch norm; then a linear classifier."""
    network = byot()
    for branch, classifier, k, channels in zip(network.branches, network.classifiers, (8, 4, 2), (64, 128, 256), strict=True):
        assert sum(p.numel() for p in branch.parameters()) == channels * 128 + 128 * 128 * k * k + 128 * 512 + 2 * (128 + 128 + 512)
        assert sum(p.numel() for p in classifier.parameters()) == 513 * 10
        assert [module.stride for module in branch if hasattr(module, "stride")] == [(1, 1), (k, k), (1, 1)]


@pytest.mark.parametrize(
    "model", [ResNet(width=4, blocks=(1, 2, 1, 1)), Vit(embed_dim=12, depth=12, num_heads=3, patch_size=4)], ids=["resnet", "vit"]
)
@torch.no_grad()
def test_invariant_14_the_deepest_logits_are_those_of_the_backbone_as_it_was(model):
    backbone = build(model, image_size=8, channels=1, num_classes=7).eval()
    images = torch.randn(5, 1, 8, 8)
    before = backbone(images)
    network = with_exits(backbone).eval()
    outputs = network(images)
    assert torch.equal(outputs.logits[-1], before) and torch.equal(network.backbone(images), before)
    assert_close(backbone.get_classifier()(outputs.features[-1]), before)
    assert len(outputs.logits) == len(outputs.features) == 4
    assert {tuple(logits.shape) for logits in outputs.logits} == {(5, 7)}
    assert {tuple(feature.shape) for feature in outputs.features} == {(5, backbone.num_features)}


@pytest.mark.parametrize(("depth", "after"), [(12, (3, 6, 9)), (8, (2, 4, 6)), (4, (1, 2, 3))])
@torch.no_grad()
def test_invariant_14_exits_of_a_transformer_read_the_class_token_after_blocks_3_6_and_9_of_12(depth, after):
    backbone = build(Vit(embed_dim=12, depth=depth, num_heads=3, patch_size=4), image_size=8, channels=1, num_classes=7)
    network, tokens = with_exits(backbone).eval(), []
    for block in backbone.blocks:
        block.register_forward_hook(lambda module, given, found: tokens.append(found))
    outputs = network(torch.randn(5, 1, 8, 8))
    for place, (number, norm, classifier) in enumerate(zip(after, network.norms, network.classifiers, strict=True)):
        token = tokens[number - 1][:, 0]
        expected = (token - token.mean(1, keepdim=True)) / (token.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        assert_close(outputs.features[place], expected, rtol=1e-4, atol=1e-5)
        assert_close(outputs.logits[place], expected @ classifier.weight.T + classifier.bias, rtol=1e-4, atol=1e-5)
