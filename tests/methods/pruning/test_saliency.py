"""SNIP, ReFer and AFR scores against autograd in float64, SVDs, closed forms and loops; the method sheet's invariants by number.

Invariants 8, 9, 10 and 12 are in test_masks.py.
"""

import copy
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tests.support import MICRO, MICRO_SIZES, drawn_vit
from vitlib.inputs.models import Vit, build
from vitlib.methods.pruning import saliency
from vitlib.methods.pruning.masks import keep_masks, prunable
from vitlib.methods.pruning.saliency import (
    afr,
    block_features,
    chance,
    linear_features,
    magnitude,
    mean_singular_value,
    polar_factor,
    refer,
    snip,
    spread_gradient,
    standardised,
)
from vitlib.spec import SpecError

FEATURES = {"blocks": block_features, "linears": linear_features}
LAYERS = list(FEATURES)
ROWS = ["class", "patch_mean", "tokens", "images"]
SPLITS = [[6], [1] * 6, [2, 4], [5, 1], [1, 3, 2]]
SHAPES = [(6, 20), (20, 6), (9, 9)]


@pytest.fixture
def model():
    return drawn_vit().double()


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8, dtype=torch.float64)


@pytest.fixture
def labels():
    return torch.tensor([0, 2, 1, 1, 0, 2])


def batches(images, labels, sizes):
    return list(zip(images.split(sizes), labels.split(sizes), strict=True))


def spread_scores(model, images, rows="class", center=False, sizes=(6,), layers="blocks"):
    return refer(model, lambda: images.split(list(sizes)), prunable(model), FEATURES[layers](rows), center=center)


def whole(features):
    """Features of a layer that is the model."""
    return lambda model, images: [features(model(images))]


def gradients(scalar, weights):
    return dict(zip(weights, torch.autograd.grad(scalar, list(weights.values())), strict=True))


def times_weight(slopes, weights):
    return {name: (slopes[name] * weight).abs().detach() for name, weight in weights.items()}


def streams(model, images):
    """Residual stream after every block, by a plain loop."""
    stream = model._pos_embed(model.patch_embed(images))
    return [stream := block(stream) for block in model.blocks]


def products(model, images):
    """Output of every matrix product of the blocks, by a plain loop."""
    stream, found = model._pos_embed(model.patch_embed(images)), []
    for block in model.blocks:
        attn, mlp = block.attn, block.mlp
        qkv = block.norm1(stream) @ attn.qkv.weight.T + attn.qkv.bias
        q, k, v = (part.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
        proj = mixed.transpose(1, 2).flatten(2) @ attn.proj.weight.T + attn.proj.bias
        stream = stream + proj
        fc1 = block.norm2(stream) @ mlp.fc1.weight.T + mlp.fc1.bias
        fc2 = F.gelu(fc1) @ mlp.fc2.weight.T + mlp.fc2.bias
        stream = stream + fc2
        found += [qkv, proj, fc1, fc2]
    return found


OUTPUTS = {"blocks": streams, "linears": products}


def matrices(tokens, rows, prefix=1):
    return {
        "class": [tokens[:, 0]],
        "patch_mean": [tokens[:, prefix:].mean(dim=1)],
        "tokens": [tokens.reshape(-1, tokens.shape[-1])],
        "images": list(tokens),
    }[rows]


def spread(model, images, rows, center=False, layers="blocks"):
    """Equation 2's scalar: sum over layers of the mean singular value, that of 'images' a mean over images."""
    total = 0.0
    for tokens in OUTPUTS[layers](model, images):
        layer = matrices(tokens, rows)
        for matrix in layer:
            shifted = matrix - matrix.mean(dim=0) if center else matrix
            total = total + torch.linalg.svdvals(shifted).sum() / len(matrix) / len(layer)
    return total


def known(out, inputs, sigma):
    """A matrix with these singular values, and its polar factor; double."""
    u, v = (torch.linalg.qr(torch.randn(size, len(sigma), dtype=torch.float64)).Q for size in (out, inputs))
    return u * torch.as_tensor(sigma, dtype=torch.float64) @ v.T, u @ v.T


def by_svd(matrix, rank):
    u, _, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return torch.from_numpy(u[:, :rank] @ vt[:rank])


def far_apart(one, other, least=0.1):
    """Whether every matrix of the scores differs by more than this part of its size."""
    return all((one[name] - other[name]).norm() > least * one[name].norm() for name in one)


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


# ------------------------------------------------------------------------------------------------ polar factor


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_invariant_2_the_gradient_of_the_nuclear_norm_is_the_polar_factor(out, inputs):
    matrix = known(out, inputs, np.linspace(1, 3, min(out, inputs)))[0].requires_grad_()
    (slope,) = torch.autograd.grad(torch.linalg.svdvals(matrix).sum(), matrix)
    assert_close(polar_factor(matrix.detach()), slope, rtol=0, atol=1e-12)
    assert_close(spread_gradient(matrix.detach()) * out, slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize(
    ("condition", "tolerance"),
    [(1e1, 1e-12), (1e2, 1e-11), (1e3, 1e-9), (1e4, 1e-7), (3e4, 1e-6), (1e5, 1e-9), (1e6, 1e-9), (1e7, 1e-8), (1e9, 1e-6)],
)
def test_the_polar_factor_is_that_of_the_svd_at_any_condition(out, inputs, condition, tolerance):
    """Gram matrices lose digits with the square of the condition, the SVD with the condition; one gives way to the other at 3e4."""
    matrix, factor = known(out, inputs, np.geomspace(5, 5 / condition, min(out, inputs)))
    assert_close(polar_factor(matrix), factor, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_the_polar_factor_has_orthonormal_rows_or_columns_and_leaves_a_symmetric_positive_root(out, inputs):
    matrix = torch.randn(out, inputs, dtype=torch.float64)
    factor = polar_factor(matrix)
    square = factor @ factor.T if out <= inputs else factor.T @ factor
    assert_close(square, torch.eye(min(out, inputs), dtype=torch.float64), rtol=0, atol=1e-9)
    root = matrix @ factor.T
    assert_close(root, root.T)
    assert torch.linalg.eigvalsh(root).min() > -1e-9
    assert_close(root @ root, matrix @ matrix.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
def test_directions_that_a_matrix_does_not_have_are_left_out(out, inputs, dtype):
    """Rows of a wide matrix, or columns of a tall one, that are there twice halve the rank."""
    side = min(out, inputs)
    half = torch.randn(side // 2, max(out, inputs)).to(dtype)
    matrix = torch.cat([half, half])
    matrix = matrix if out <= inputs else matrix.T
    factor = polar_factor(matrix)
    assert factor.dtype == dtype
    assert_close(factor.double(), by_svd(matrix, side // 2), rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("repeats", [2, 3])
def test_a_tall_matrix_with_rows_there_several_times_has_the_factor_of_one_with_each_row_once(repeats):
    matrix = torch.randn(20, 6, dtype=torch.float64)
    assert_close(polar_factor(matrix.repeat(repeats, 1)), polar_factor(matrix).repeat(repeats, 1) / repeats**0.5)


@pytest.mark.parametrize(("out", "inputs"), [(60, 200), (200, 60)])
def test_a_matrix_of_low_rank_rounded_to_float32_has_the_factor_of_its_rank(out, inputs):
    matrix = known(out, inputs, [4.0, 3.0, 2.0, 1.0, 0.5])[0].float()
    assert_close(polar_factor(matrix).double(), by_svd(matrix, 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("out", "inputs"), [*SHAPES, (1, 5), (5, 1)])
def test_the_polar_factor_of_a_zero_matrix_is_zero(out, inputs):
    assert torch.equal(polar_factor(torch.zeros(out, inputs)), torch.zeros(out, inputs))


@pytest.mark.parametrize(("out", "inputs"), [(1, 5), (5, 1)])
def test_the_polar_factor_of_a_vector_is_its_direction(out, inputs):
    matrix = torch.randn(out, inputs, dtype=torch.float64)
    assert_close(polar_factor(matrix), matrix / matrix.norm())


@pytest.mark.parametrize(("out", "inputs"), [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_the_polar_factor_of_a_float32_matrix_errs_by_its_last_digit_alone(out, inputs, condition):
    matrix = known(out, inputs, np.geomspace(5, 5 / condition, min(out, inputs)))[0].float()
    factor = polar_factor(matrix)
    assert factor.dtype == torch.float32
    assert_close(factor.double(), by_svd(matrix, min(out, inputs)), rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e5, 1e15])
def test_the_polar_factor_does_not_ask_for_the_size_of_the_matrix(scale):
    matrix = torch.randn(6, 20)
    assert_close(polar_factor(matrix * scale), polar_factor(matrix), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (4, 5, 7), (4, 7, 5)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0, 1000.0])
def test_the_gradient_of_the_centred_spread_is_that_of_autograd_however_large_the_mean(shape, offset, dtype):
    """Rows that are nearly one vector, as class tokens of the first blocks are: what centring leaves is rank N - 1."""
    features = (torch.randn(shape) + offset * torch.randn(shape[-1])).to(dtype)
    exact = features.double().requires_grad_()
    centred = exact - exact.mean(dim=-2, keepdim=True)
    (slope,) = torch.autograd.grad(torch.linalg.svdvals(centred).sum() / features.shape[:-1].numel(), exact)
    found = spread_gradient(features, center=True).double()
    assert (found - slope).norm() < (1e-9 if dtype == torch.float64 else 1e-3) * slope.norm()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (4, 5, 7), (4, 7, 5)], ids=str)
def test_the_mean_singular_value_is_that_of_the_svd(shape):
    features = torch.randn(shape)
    each = features.double().numpy().reshape(-1, *shape[-2:])
    expected = np.mean([np.linalg.svd(matrix, compute_uv=False).sum() / shape[-2] for matrix in each])
    assert mean_singular_value(features) == pytest.approx(expected, rel=1e-12)


def test_the_mean_singular_value_grows_along_its_gradient():
    for shape in [(6, 20), (20, 6), (4, 5, 7)]:
        features, step = torch.randn(shape, dtype=torch.float64), 1e-6 * torch.randn(shape, dtype=torch.float64)
        rise = mean_singular_value(features + step) - mean_singular_value(features - step)
        assert rise == pytest.approx(2 * float((spread_gradient(features) * step).sum()), rel=1e-5)


# ------------------------------------------------------------------------------------------------ ReFer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_invariant_3_a_diagonal_layer_on_the_identity_scores_its_diagonal(dtype):
    layer, diagonal = nn.Linear(5, 5, bias=False), torch.tensor([3.0, 0.5, 1.0, 0.01, 2.0], dtype=dtype)
    layer.weight = nn.Parameter(diagonal.diag())
    scores = refer(layer, lambda: [torch.eye(5, dtype=dtype)], {"weight": layer.weight}, whole(lambda x: x))
    assert_close(scores["weight"], diagonal.diag() / 5, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("layers", "widths"), [("blocks", [8]), ("linears", [24, 8, 32, 8])])
def test_features_are_those_of_a_plain_loop_over_blocks(images, layers, widths, rows, distilled):
    model, prefix = drawn_vit(MICRO.changed(distilled=distilled)).double(), 2 if distilled else 1
    found = FEATURES[layers](rows)(model, images)
    expected = [matrices(tokens, rows, prefix) for tokens in OUTPUTS[layers](model, images)]
    shape = {"class": (6,), "patch_mean": (6,), "tokens": (6 * (4 + prefix),), "images": (6, 4 + prefix)}[rows]
    assert [layer.shape for layer in found] == [(*shape, width) for width in widths * 2]
    assert_close(found, [torch.stack(layer) if rows == "images" else layer[0] for layer in expected])


def test_vit_b_has_features_of_48_linears():
    with torch.device("meta"):
        model = build(Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16), image_size=224, channels=3, num_classes=10)
        found = linear_features("class")(model, torch.empty(2, 3, 224, 224))
    assert [layer.shape[1] for layer in found] == [2304, 768, 3072, 768] * 12


@pytest.mark.parametrize("rows", ["class", "patch_mean"])
@pytest.mark.parametrize("layers", LAYERS)
def test_features_of_one_row_an_image_hold_no_other_token_in_memory(model, images, layers, rows):
    with torch.no_grad():
        found = FEATURES[layers](rows)(model, images)
    assert [layer.untyped_storage().nbytes() for layer in found] == [layer.numel() * 8 for layer in found]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layers", LAYERS)
def test_refer_is_the_absolute_product_of_weight_and_the_gradient_that_autograd_finds(model, images, layers, rows, center):
    weights = prunable(model)
    expected = times_weight(gradients(spread(model, images, rows, center, layers), weights), weights)
    assert_close(spread_scores(model, images, rows, center, layers=layers), expected, rtol=1e-6, atol=1e-10)
    assert all(score.any() for score in expected.values())


@pytest.mark.parametrize("rows", ROWS)
def test_features_of_linears_give_other_scores_than_those_of_blocks(model, images, rows):
    assert far_apart(spread_scores(model, images, rows), spread_scores(model, images, rows, layers="linears"))


@pytest.mark.parametrize("rows", ROWS)
def test_the_four_kinds_of_rows_and_centring_are_different_criteria(model, images, rows):
    others = [spread_scores(model, images, other) for other in ROWS if other != rows]
    assert all(far_apart(spread_scores(model, images, rows), other) for other in others)
    assert far_apart(spread_scores(model, images, rows), spread_scores(model, images, rows, center=True))


@pytest.mark.parametrize("offset", [1.0, 300.0])
def test_centred_refer_is_that_of_autograd_where_all_class_tokens_are_nearly_the_same(model, images, offset):
    with torch.no_grad():
        model.cls_token += offset * torch.randn(8, dtype=torch.float64)
    weights = prunable(model)
    expected = times_weight(gradients(spread(model, images, "class", center=True), weights), weights)
    found = spread_scores(model, images, "class", center=True)
    assert all((found[name] - expected[name]).norm() < 1e-6 * expected[name].norm() for name in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layers", LAYERS)
def test_invariant_6_refer_over_several_batches_is_that_of_one(model, images, layers, rows, center, dtype):
    model, images = model.to(dtype), images.to(dtype)
    expected = spread_scores(model, images, rows, center, layers=layers)
    for sizes in SPLITS[1:]:
        scores = spread_scores(model, images, rows, center, sizes, layers)
        for name in scores:
            assert (scores[name] - expected[name]).norm() < (1e-5 if dtype == torch.float32 else 1e-9) * expected[name].norm()


@pytest.mark.parametrize("rows", ["class", "patch_mean", "tokens"])
def test_invariant_6_trap_the_gradient_of_a_sum_over_chunks_is_not_that_of_the_whole(model, images, rows):
    weights = prunable(model)
    chunks = [gradients(spread(model, chunk, rows), weights) for chunk in images.split(2)]
    summed = {name: sum(slopes[name] for slopes in chunks) for name in weights}
    one, other = (
        torch.cat([slopes[name].flatten() for name in weights]) for slopes in (summed, gradients(spread(model, images, rows), weights))
    )
    assert F.cosine_similarity(one, other, dim=0) < 0.998
    scores, scale = spread_scores(model, images, rows), other.norm() / one.norm()
    assert far_apart(scores, {name: score * scale for name, score in times_weight(summed, weights).items()}, least=0.02)


def test_images_that_are_matrices_of_their_own_are_a_plain_mean_over_chunks(model, images):
    weights = prunable(model)
    chunks = [gradients(spread(model, chunk, "images"), weights) for chunk in images.split(2)]
    mean = {name: sum(slopes[name] for slopes in chunks) / 3 for name in weights}
    assert_close(spread_scores(model, images, "images"), times_weight(mean, weights), rtol=1e-6, atol=1e-10)


def test_images_that_can_be_walked_through_only_once_are_refused(model, images):
    once = iter(images.split(2))
    with pytest.raises(ValueError, match="argument 2 is"):
        refer(model, lambda: once, prunable(model), block_features("class"))


def test_invariant_5_refer_asks_for_no_labels_and_no_order_and_no_head_but_snip_for_labels_and_head(model, images, labels):
    order, weights, other = torch.tensor([4, 0, 3, 5, 1, 2]), prunable(model), copy.deepcopy(model)
    nn.init.normal_(other.head.weight)
    nn.init.normal_(other.head.bias)
    for layers, rows in product(LAYERS, ROWS):
        scores = spread_scores(model, images, rows, layers=layers)
        assert_close(spread_scores(model, images[order], rows, layers=layers), scores, rtol=1e-6, atol=1e-10)
        again = spread_scores(other, images, rows, layers=layers)
        assert all(torch.equal(again[name], scores[name]) for name in weights)
    scores = snip(model, [(images, labels)], weights)
    assert_close(snip(model, [(images[order], labels[order])], weights), scores)
    assert far_apart(scores, snip(model, [(images, labels[order])], weights))
    assert far_apart(scores, snip(other, [(images, labels)], prunable(other)))


def test_invariant_11_the_spread_of_one_sample_is_the_norm_of_its_feature(model, images):
    weights = prunable(model)
    norms = [stream[0, 0].norm() for stream in streams(model, images[:1])]
    expected = times_weight(gradients(sum(norms), weights), weights)
    assert_close(spread_scores(model, images[:1], sizes=[1]), expected, rtol=1e-6, atol=1e-10)
    found = [mean_singular_value(layer.detach()) for layer in block_features("class")(model, images[:1])]
    assert found == pytest.approx([float(norm.detach()) for norm in norms], rel=1e-12)


@pytest.mark.parametrize("rows", ["class", "patch_mean", "tokens"])
def test_invariant_13_every_sample_twice_leaves_snip_and_multiplies_all_singular_values_by_the_root_of_two(model, images, labels, rows):
    weights, twice, sizes = prunable(model), torch.cat([images, images]), (5, 7)
    once = snip(model, [(images, labels)], weights)
    assert_close(snip(model, batches(twice, torch.cat([labels, labels]), list(sizes)), weights), once)
    for one, two in zip(*(block_features(rows)(model, given) for given in (images, twice)), strict=True):
        sigma = torch.linalg.svdvals(two.detach())
        assert_close(sigma[: min(one.shape)], 2**0.5 * torch.linalg.svdvals(one.detach()))
        assert mean_singular_value(two.detach()) == pytest.approx(mean_singular_value(one.detach()) / 2**0.5, rel=1e-9)
    single, double = spread_scores(model, images, rows), spread_scores(model, twice, rows, sizes=sizes)
    assert_close(double, {name: score / 2**0.5 for name, score in single.items()}, rtol=1e-6, atol=1e-10)
    for sparsity in (0.5, 0.9):
        one, two = (keep_masks(scores, sparsity) for scores in (single, double))
        assert all(torch.equal(one[name], two[name]) for name in one)


# ------------------------------------------------------------------------------------------------ what scoring leaves behind


KINDS = {
    "snip": lambda model, images, labels: snip(model, batches(images, labels, [2, 4]), prunable(model)),
    "refer": lambda model, images, labels: spread_scores(model, images, sizes=(2, 4)),
    "refer of linears": lambda model, images, labels: spread_scores(model, images, sizes=(2, 4), layers="linears"),
}


def state(model):
    parameters = dict(model.named_parameters())
    return {
        "training": [module.training for module in model.modules()],
        "wanted": {name: parameter.requires_grad for name, parameter in parameters.items()},
        "gradients": {name: None if parameter.grad is None else parameter.grad.tolist() for name, parameter in parameters.items()},
        "weights": {name: parameter.tolist() for name, parameter in parameters.items()},
        "hooks": [len(module._forward_hooks) for module in model.modules()],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_mode_and_flags_and_weights_as_they_were_and_no_gradients(model, images, labels, kind, training):
    model.train(training)
    model.blocks[0].requires_grad_(False)
    before = state(model)
    KINDS[kind](model, images, labels)
    assert state(model) == before


class Broken(Exception):
    pass


@pytest.mark.parametrize("call", range(1, 5))
@pytest.mark.parametrize("kind", KINDS)
def test_scoring_that_fails_midway_leaves_mode_and_flags_as_they_were_and_no_gradients(model, images, labels, kind, call):
    """SNIP runs the model on two batches, ReFer twice on two."""
    calls = []

    def breaking(*_):
        calls.append(call)
        if len(calls) == min(call, 2 if kind == "snip" else 4):
            raise Broken

    model.blocks[1].mlp.register_forward_hook(breaking)
    model.train().blocks[0].requires_grad_(False)
    before = state(model)
    with pytest.raises(Broken):
        KINDS[kind](model, images, labels)
    assert state(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_that_were_there_before_are_there_afterwards_and_count_for_nothing(model, images, labels, kind):
    expected = KINDS[kind](model, images, labels)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = state(model)
    scores = KINDS[kind](model, images, labels)
    assert all(torch.equal(scores[name], expected[name]) for name in expected)
    assert state(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_the_model_in_another_mode_stays_in_it(model, images, labels, kind):
    model.train().blocks[0].eval()
    before = state(model)
    KINDS[kind](model, images, labels)
    assert state(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_trap_a_model_in_training_mode_is_scored_without_drop_path(images, labels, kind):
    model = drawn_vit(drop_path=0.5).double()
    expected = KINDS[kind](model, images, labels)
    scores = KINDS[kind](model.train(), images, labels)
    assert all(torch.equal(scores[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_weights_that_are_asked_for_are_scored_and_frozen_ones_as_well(model, images, labels, kind):
    expected = KINDS[kind](model, images, labels)
    scores = KINDS[kind](copy.deepcopy(model).requires_grad_(False), images, labels)
    assert list(scores) == list(prunable(model))
    assert all(torch.equal(scores[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_float32_model_are_float32_of_its_weights_shapes_and_without_a_graph(model, images, labels, kind):
    exact = KINDS[kind](model, images, labels)
    scores = KINDS[kind](model.float(), images.float(), labels)
    for name, weight in prunable(model).items():
        assert (scores[name].dtype, scores[name].shape, scores[name].requires_grad) == (torch.float32, weight.shape, False)
        assert (scores[name] >= 0).all()
        assert (scores[name] - exact[name]).norm() < 1e-4 * exact[name].norm()


# ------------------------------------------------------------------------------------------------ standardised scores, AFR


def drawn(seed=0, dtype=torch.float32):
    """Positive scores over many orders of magnitude, with ties and zeros, of three matrices of different scales."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"one": (6, 4), "two": (3, 5), "three": (2, 3, 2)}
    scores = {name: torch.randn(shape, generator=generator, dtype=dtype).mul_(3).exp_() for name, shape in shapes.items()}
    scores["two"] *= 100
    scores["one"][:2, :2] = 0
    scores["three"][0] = 0.25
    return scores


def rescaled(values, scale):
    if scale == "rank":
        return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])
    return np.log(np.where(values > 0, values, values[values > 0].min())) if scale == "log" else values


def standard(values, scale):
    values = rescaled(values, scale)
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_standardised_scores_are_those_of_a_loop_over_values(scale, scope):
    scores = drawn()
    flat = {name: score.double().numpy().ravel() for name, score in scores.items()}
    if scope == "layer":
        expected = {name: standard(values, scale) for name, values in flat.items()}
    else:
        together = standard(np.concatenate(list(flat.values())), scale)
        parts = np.split(together, np.cumsum([len(values) for values in flat.values()])[:-1])
        expected = dict(zip(flat, parts, strict=True))
    found = standardised(scores, scope=scope, scale=scale)
    assert list(found) == list(scores)
    for name, score in scores.items():
        assert found[name].dtype == (torch.float64 if scale == "rank" else score.dtype)
        np.testing.assert_allclose(found[name].numpy(), expected[name].reshape(score.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_invariant_7_standardised_scores_have_mean_zero_and_deviation_one_and_their_sum_has_mean_zero(scale, scope):
    first, second = drawn(), drawn(seed=1)
    own, both = standardised(first, scope=scope, scale=scale), afr(first, second, scope=scope, scale=scale)
    for name in [*first, None]:
        if name is None or scope == "layer":
            values, total = (torch.cat([s.flatten() for n, s in part.items() if name in (n, None)]).double() for part in (own, both))
            assert abs(float(values.mean())) < 1e-6 and abs(float(values.std(correction=0)) - 1) < 1e-6
            assert abs(float(total.mean())) < 1e-6 and float(total.std(correction=0)) > 1


def test_invariant_7_standardised_scores_of_many_heavy_tailed_values_have_mean_zero_and_deviation_one():
    scores = {str(part): torch.randn(300, 500).mul_(4).exp_().mul_(1e-9) for part in range(4)}
    for scale in ("z", "rank", "log"):
        values = torch.cat([score.flatten() for score in standardised(scores, scale=scale).values()]).double()
        assert abs(float(values.mean())) < 1e-6 and abs(float(values.std(correction=0)) - 1) < 1e-6


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
@pytest.mark.parametrize("value", [0.0, 0.1, 3.0])
def test_scores_that_are_all_equal_are_refused(value, scale, scope):
    with pytest.raises(SpecError, match="are equal; nothing to standardise"):
        standardised({"one": torch.full((2, 3), value), "two": torch.full((7,), value)}, scope=scope, scale=scale)


def test_one_matrix_of_equal_scores_is_refused_by_layer_alone():
    scores = {"one": torch.rand(2, 3), "even": torch.full((4,), 0.5)}
    with pytest.raises(SpecError, match="all 4 of even are equal"):
        standardised(scores, scope="layer")
    assert (standardised(scores)["even"] == standardised(scores)["even"][0]).all()


@pytest.mark.parametrize("factor", [1e-12, 1e12])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_afr_does_not_ask_for_the_scale_of_either_score(scale, scope, factor):
    first, second = drawn(), drawn(seed=1)
    other = {name: score * factor for name, score in first.items()}
    for one, two in [((other, second), (first, second)), ((second, other), (second, first))]:
        assert_close(afr(*one, scope=scope, scale=scale), afr(*two, scope=scope, scale=scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_afr_is_the_sum_of_both_standardised_scores_in_either_order(scale, scope):
    first, second = drawn(), drawn(seed=1)
    one, two = (standardised(scores, scope=scope, scale=scale) for scores in (first, second))
    found = afr(first, second, scope=scope, scale=scale)
    assert_close(found, {name: one[name] + two[name] for name in first})
    assert_close(afr(second, first, scope=scope, scale=scale), found)
    shuffled = dict(reversed(second.items()))
    assert_close(afr(first, shuffled, scope=scope, scale=scale), found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [0.3, 1000.0])
def test_invariant_4_the_scale_of_loss_or_features_leaves_afrs_mask(model, images, labels, monkeypatch, factor):
    weights, features = prunable(model), block_features("class")
    spreads, slopes = refer(model, lambda: [images], weights, features), snip(model, [(images, labels)], weights)
    larger = refer(model, lambda: [images], weights, lambda *given: [factor * layer for layer in features(*given)])
    assert_close(larger, {name: factor * score for name, score in spreads.items()}, rtol=1e-6, atol=1e-10)
    plain = F.cross_entropy
    monkeypatch.setattr(saliency.F, "cross_entropy", lambda *given, **options: factor * plain(*given, **options))
    steeper = snip(model, [(images, labels)], weights)
    assert_close(steeper, {name: factor * score for name, score in slopes.items()})
    for scope in ("global", "layer"):
        for sparsity in (0.5, 0.9):
            expected, found = (keep_masks(afr(*pair, scope=scope), sparsity) for pair in [(spreads, slopes), (larger, steeper)])
            assert all(torch.equal(found[name], expected[name]) for name in weights)


@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_invariant_4_afr_of_snip_and_snip_gives_snips_mask(model, images, labels, scale):
    scores = snip(model, [(images, labels)], prunable(model))
    for sparsity in (0.2, 0.5, 0.9, 0.98):
        found, expected = keep_masks(afr(scores, scores, scale=scale), sparsity), keep_masks(scores, sparsity)
        assert all(torch.equal(found[name], expected[name]) for name in scores)


def test_afr_keeps_what_neither_criterion_alone_would(model, images, labels):
    weights = prunable(model)
    spreads, slopes = refer(model, lambda: [images], weights, block_features("class")), snip(model, [(images, labels)], weights)
    masks = [keep_masks(scores, 0.9) for scores in (spreads, slopes, afr(spreads, slopes))]
    flat = [torch.cat([mask.flatten() for mask in each.values()]) for each in masks]
    assert not any(torch.equal(one, other) for one, other in pairwise([*flat, flat[0]]))


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


@pytest.mark.parametrize("unit", [1e-30, 1e-22, 1.0, 1e20, 1e30])
def test_standardised_scores_do_not_depend_on_their_unit(unit):
    scores = {"w": torch.tensor([1.0, 2.0, 3.0]) * unit}
    assert_close(standardised(scores)["w"], 1.5**0.5 * torch.tensor([-1.0, 0.0, 1.0]), rtol=1e-5, atol=1e-5)


def test_scores_of_no_images_are_refused():
    model = nn.Linear(3, 2)
    weights = {"weight": model.weight}
    with pytest.raises(SpecError, match="batches: got none"):
        snip(model, [], weights)
    with pytest.raises(SpecError, match="batches: got none"):
        refer(model, lambda: [], weights, lambda module, inputs: [module(inputs)])
