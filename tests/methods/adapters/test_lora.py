"""Adapters and weight copy against dense algebra, matrices of known singular values, and loops over plain blocks."""

import copy
import math

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.testing import assert_close

from tests.methods.adapters.support import STARTS
from tests.support import assert_same_arrays
from vitlib.inputs.models import Vit, build, weights_of
from vitlib.methods.adapters.lora import ADAPTED, LoraLinear, adapters, attach, energy, merge, svd_factors, undo
from vitlib.methods.adapters.weight_copy import feature_loss, features, weight_copy

SHAPES = [(8, 8), (12, 5), (5, 12)]
QKV = "attn.qkv"


def known(out, inputs, sigma):
    """A matrix with these singular values; double."""
    u, v = (torch.linalg.qr(torch.randn(size, len(sigma), dtype=torch.float64)).Q for size in (out, inputs))
    return u @ torch.diag(torch.tensor(sigma, dtype=torch.float64)) @ v.T


def block():
    """A timm block all of whose parameters are drawn at random."""
    module = Block(8, num_heads=2, qkv_bias=True)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval().requires_grad_(False)


def moved(module):
    """Other factors, as after training."""
    with torch.no_grad():
        for _, layer in adapters(module):
            layer.a += 0.1 * torch.randn_like(layer.a)
            layer.b += 0.1 * torch.randn_like(layer.b)
    return module


def vit(depth=5, classes=3):
    spec = Vit(embed_dim=8, depth=depth, num_heads=2, patch_size=4, init="xavier")
    return build(spec, image_size=8, channels=1, num_classes=classes).eval()


# ------------------------------------------------------------------------------------------------ one layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_layer_is_w_x_plus_bias_plus_scale_b_a_x_for_each_of_its_parts(parts, scale, bias):
    base = nn.Linear(5, 12, bias=bias)
    layer = moved(LoraLinear(base, parts, 2, scale))
    inputs = torch.randn(2, 7, 5)
    rows = []
    for part in range(parts):
        own = slice(part * 12 // parts, (part + 1) * 12 // parts)
        dense = base.weight[own] + scale * layer.b[part] @ layer.a[part]
        rows.append(inputs @ dense.T + (base.bias[own] if bias else 0))
        assert_close(layer.weight[own], dense)
    assert_close(layer(inputs), torch.cat(rows, dim=-1))


def test_the_layer_looks_like_the_linear_layer_that_it_replaces():
    layer = LoraLinear(nn.Linear(5, 12), 3, 2)
    assert (layer.in_features, layer.out_features, layer.weight.shape) == (5, 12, (12, 5))


def test_only_the_two_factors_train():
    layer = LoraLinear(nn.Linear(5, 12), 3, 2)
    assert {name for name, parameter in layer.named_parameters() if parameter.requires_grad} == {"a", "b"}
    assert sum(parameter.numel() for parameter in (layer.a, layer.b)) == 2 * (3 * 5 + 12)


@pytest.mark.parametrize("kind", ["zero_b", "random"])
def test_random_factors_are_kaiming_uniform_of_their_fan_in(kind):
    layer = LoraLinear(nn.Linear(100, 300), 3, 25)
    layer.start(kind, [])
    drawn = [(layer.a.detach(), 1 / math.sqrt(100)), (layer.b.detach(), 1 / math.sqrt(25))]
    for factor, bound in drawn if kind == "random" else drawn[:1]:
        assert factor.abs().max() <= bound
        assert float(factor.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert abs(float(factor.mean())) < 0.05 * bound
    assert bool(layer.b.any()) == (kind == "random")
    assert not any(torch.equal(layer.a[0], other) for other in layer.a[1:])


# ------------------------------------------------------------------------------------------------ SVD


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_product_of_the_factors_misses_what_the_smaller_singular_values_hold(out, inputs, rank):
    sigma = [7.0, 4.0, 2.0, 1.0, 0.5]
    matrix = known(out, inputs, sigma)
    a, b = svd_factors(matrix, rank)
    assert a.shape == (rank, inputs) and b.shape == (out, rank)
    assert_close((matrix - b @ a).square().sum(), torch.tensor(sigma[rank:], dtype=torch.float64).square().sum(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_a_rank_above_that_of_the_matrix_pads_with_zeros_and_gives_the_matrix(out, inputs):
    matrix = torch.randn(out, inputs)
    smaller = min(out, inputs)
    a, b = svd_factors(matrix, smaller + 3)
    assert a.shape == (smaller + 3, inputs) and b.shape == (out, smaller + 3)
    assert not a[smaller:].any() and not b[:, smaller:].any()
    assert_close(b @ a, matrix, rtol=1e-5, atol=1e-5)


def test_no_other_matrix_of_the_rank_is_closer():
    matrix = torch.randn(6, 9, dtype=torch.float64)
    a, b = svd_factors(matrix, 2)
    best = (matrix - b @ a).norm()
    for _ in range(200):
        other_a, other_b = a + 0.1 * torch.randn_like(a), b + 0.1 * torch.randn_like(b)
        assert (matrix - other_b @ other_a).norm() > best


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_factors_have_the_type_of_the_matrix(dtype):
    a, b = svd_factors(torch.randn(4, 6).to(dtype), 2)
    assert a.dtype == b.dtype == dtype


@pytest.mark.parametrize("kind", ["svd", "svd_shift"])
def test_the_factors_of_a_zero_matrix_are_zero_and_get_no_gradient(kind):
    layer = LoraLinear(nn.Linear(5, 6), 1, 2)
    before = layer.base.weight.clone()
    layer.start(kind, [torch.zeros(6, 5)])
    layer(torch.randn(4, 5)).square().sum().backward()
    for factor in (layer.a, layer.b):
        assert not factor.any() and not factor.grad.any()
    assert torch.equal(layer.base.weight, before)


@pytest.mark.parametrize(("out", "inputs"), SHAPES)
def test_energy_of_rank_k_is_one_minus_the_relative_error_of_rank_k(out, inputs):
    matrix = torch.randn(out, inputs)
    curve = energy(matrix)
    assert curve.shape == (min(out, inputs),) and curve.dtype == torch.float64
    for rank in range(1, len(curve) + 1):
        a, b = svd_factors(matrix.double(), rank)
        assert float(curve[rank - 1]) == pytest.approx(1 - float((matrix - b @ a).square().sum() / matrix.square().sum()), abs=1e-6)
    assert float(curve[-1]) == pytest.approx(1, abs=1e-12)
    assert (curve.diff() > 0).all()


def test_energy_of_known_singular_values():
    assert_close(energy(known(6, 4, [2.0, 1.0, 1.0])), torch.tensor([4 / 6, 5 / 6, 1, 1], dtype=torch.float64))


# ------------------------------------------------------------------------------------------------ blocks


def test_six_matrices_of_a_block_are_adapted_and_nothing_else_trains():
    module = block()
    attach(module, 2, "zero_b", [])
    assert {name: len(layer.a) for name, layer in adapters(module)} == {QKV: 3, "attn.proj": 1, "mlp.fc1": 1, "mlp.fc2": 1} == ADAPTED
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert names == {f"{layer}.{factor}" for layer in ADAPTED for factor in "ab"}


@pytest.mark.parametrize("rank", [1, 2])
def test_q_k_and_v_are_decomposed_each_on_its_own(rank):
    module, other = block(), block()
    attach(module, rank, "svd", [other])
    for part, matrix in enumerate(other.attn.qkv.weight.chunk(3)):
        u, sigma, vt = torch.linalg.svd(matrix.double())
        own = u[:, :rank] @ sigma[:rank].diag() @ vt[:rank]
        assert_close(module.attn.qkv.product[8 * part : 8 * part + 8].detach(), own.float(), rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_rank(module.attn.qkv.product.detach()) == 3 * rank  # of the fused matrix it would be `rank`


@pytest.mark.parametrize("name", ADAPTED)
def test_several_dropped_blocks_are_summed_before_one_decomposition(name):
    module, others = block(), [block() for _ in range(3)]
    attach(module, 2, "svd", others)
    total = sum(other.get_submodule(name).weight for other in others)
    layer = module.get_submodule(name)
    for part, matrix in enumerate(total.chunk(ADAPTED[name])):
        u, sigma, vt = torch.linalg.svd(matrix.double())
        rows = layer.product.detach().chunk(ADAPTED[name])[part]
        assert_close(rows, ((u[:, :2] * sigma[:2]) @ vt[:2]).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", STARTS)
def test_attaching_leaves_the_dropped_blocks_as_they_were_without_adapters(kind):
    module, other = block(), block()
    before = weights_of(other)
    attach(module, 2, kind, [other])
    moved(module)
    assert_same_arrays(weights_of(other), before)
    assert not list(adapters(other))


@pytest.mark.parametrize("kind", ["zero_b", "svd_shift"])
def test_these_starts_compute_the_kept_block(kind):
    module, inputs = block(), torch.randn(2, 5, 8)
    expected = module(inputs)
    attach(module, 3, kind, [block()])
    assert_close(module(inputs), expected, rtol=1e-5, atol=1e-5)
    assert all(layer.a.any() for _, layer in adapters(module))
    assert all(bool(layer.b.any()) == (kind == "svd_shift") for _, layer in adapters(module))


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("kind", STARTS)
def test_merging_keeps_the_function_and_leaves_plain_layers(kind, scale):
    module, inputs = block(), torch.randn(2, 5, 8)
    names = [name for name, _ in module.named_parameters()]
    attach(module, 3, kind, [block()], scale)
    before = moved(module)(inputs)
    merge(module)
    assert_close(module(inputs), before, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in module.named_parameters()] == names
    assert type(module.attn.qkv) is nn.Linear and not list(adapters(module))


@pytest.mark.parametrize("kind", STARTS)
def test_undo_gives_back_the_weights_to_the_bit(kind):
    module = block()
    before, inputs = weights_of(module), torch.randn(2, 5, 8)
    expected = module(inputs)
    attach(module, 3, kind, [block()])
    moved(module)
    assert not torch.allclose(module(inputs), expected)
    undo(module)
    assert_same_arrays(weights_of(module), before)
    assert torch.equal(module(inputs), expected)


# ------------------------------------------------------------------------------------------------ weight copy and its features


@pytest.mark.parametrize("reduction", [1, 2, 3, 5, 7])
def test_the_student_has_every_rth_block_and_all_that_is_outside_the_blocks(reduction):
    teacher = vit(depth=7)
    student = weight_copy(teacher, reduction)
    expected = copy.deepcopy(teacher)
    expected.blocks = nn.Sequential(*list(expected.blocks)[::reduction])
    assert_same_arrays(weights_of(student), weights_of(expected))


def test_the_student_shares_no_memory_with_its_teacher():
    teacher = vit()
    student = weight_copy(teacher, 2)
    assert not {p.data_ptr() for p in student.parameters()} & {p.data_ptr() for p in teacher.parameters()}
    assert len(teacher.blocks) == 5


@pytest.mark.parametrize("distilled", [False, True])
def test_features_are_the_residual_stream_of_a_plain_loop_with_prefix_tokens_and_before_the_norm(distilled):
    spec = Vit(embed_dim=8, depth=4, num_heads=2, patch_size=4, distilled=distilled)
    model, images = build(spec, image_size=8, channels=1, num_classes=0).eval(), torch.randn(3, 1, 8, 8)
    nn.init.normal_(model.norm.weight)
    stream, streams = model._pos_embed(model.patch_embed(images)), []
    for part in model.blocks:
        stream = part(stream)
        streams.append(stream)
    found = features(model, images, [1, 3])
    assert [tokens.shape for tokens in found] == [(3, 6 if distilled else 5, 8)] * 2
    assert_close(found, [streams[1], streams[3]])


@pytest.mark.parametrize("deepest", range(4))
def test_no_block_behind_the_last_wanted_one_is_called(deepest):
    model, called = vit(depth=4), []
    for index, part in enumerate(model.blocks):
        part.register_forward_hook(lambda *_, index=index: called.append(index))
    features(model, torch.randn(2, 1, 8, 8), [deepest])
    assert called == list(range(deepest + 1))


def test_the_loss_is_the_mean_over_pairs_of_the_mean_absolute_difference():
    student, teacher = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4)
    differences = [abs(a - b) for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)]
    assert float(feature_loss(list(student), list(teacher))) == pytest.approx(sum(differences) / len(differences), rel=1e-5)


def test_pairs_without_a_partner_are_refused():
    streams = torch.zeros(3, 1, 1, 1)
    with pytest.raises(ValueError, match="shorter"):
        feature_loss(list(streams), list(streams[:2]))
