"""ReFer against autograd in float64, plain loops and closed forms; its invariants by number."""

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tests.methods.pruning.saliency.support import FEATURES, SPLITS, batches, far_apart, gradients, spread_scores, times_weight
from tests.support import MICRO, drawn_vit
from vitlib.inputs.models import Vit, build
from vitlib.methods.pruning.masks import keep_masks, prunable
from vitlib.methods.pruning.saliency import block_features, linear_features, mean_singular_value, refer, snip

LAYERS = list(FEATURES)
ROWS = ["class", "patch_mean", "tokens", "images"]


def whole(features):
    """Features of a layer that is the model."""
    return lambda model, images: [features(model(images))]


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
