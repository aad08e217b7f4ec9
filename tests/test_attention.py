"""Attention maps against the attention written out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from vitlib.inputs.models import ResNet, Vit, build
from vitlib.methods.attention import attention_maps, unfused_attention

DEPTH, HEADS, TOKENS, WIDTH = 3, 2, 6, 8  # 4 patches, class and distillation token


@pytest.fixture
def model():
    torch.manual_seed(0)
    vit = Vit(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, patch_size=4, distilled=True)
    built = build(vit, image_size=8, channels=1, num_classes=5).eval()
    for block in built.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight)  # timm's small initial weights attend to everything alike
        torch.nn.init.normal_(block.attn.qkv.bias)
    return built


@pytest.fixture
def images():
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_maps_have_one_row_a_token_that_sums_to_one(model, images):
    maps = attention_maps(model, images)
    assert maps.shape == (5, DEPTH, HEADS, TOKENS, TOKENS)
    assert (maps >= 0).all()
    assert_close(maps.sum(dim=-1), torch.ones(5, DEPTH, HEADS, TOKENS))


@torch.no_grad()
def test_maps_are_the_softmax_of_query_times_key_of_each_block(model, images):
    inputs = []
    hooks = [block.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for block in model.blocks]
    maps = attention_maps(model, images)
    for hook in hooks:
        hook.remove()
    size = WIDTH // HEADS
    for depth, block in enumerate(model.blocks):
        tokens = block.norm1(inputs[depth])
        weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
        for head in range(HEADS):
            rows = slice(head * size, (head + 1) * size)
            query = tokens @ weight[:WIDTH][rows].T + bias[:WIDTH][rows]
            key = tokens @ weight[WIDTH : 2 * WIDTH][rows].T + bias[WIDTH : 2 * WIDTH][rows]
            scores = query @ key.transpose(1, 2) / math.sqrt(size)
            expected = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
            assert_close(maps[:, depth, head], expected, rtol=1e-4, atol=1e-6)


def test_maps_do_not_depend_on_fused_attention_or_the_mode_before(model, images):
    fused = attention_maps(model, images)
    for block in model.blocks:
        block.attn.fused_attn = False
    assert torch.equal(attention_maps(model.train(), images), fused)


def test_afterwards_the_model_computes_as_before(model, images):
    flags = [True, False, True]
    for block, flag in zip(model.blocks, flags, strict=True):
        block.attn.fused_attn = flag
    before = model(images)
    attention_maps(model, images)
    assert [block.attn.fused_attn for block in model.blocks] == flags
    assert torch.equal(model(images), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_unfused_attention_computes_the_same_and_is_undone_by_an_error(model, images):
    fused = model(images)
    with pytest.raises(KeyError), unfused_attention(model) as modules:
        assert len(modules) == DEPTH and not any(module.fused_attn for module in modules)
        assert_close(model(images), fused)
        raise KeyError
    assert all(block.attn.fused_attn for block in model.blocks)


def test_a_model_without_attention_is_refused():
    resnet = build(ResNet(width=4, blocks=(1, 1, 1, 1)), image_size=8, channels=1, num_classes=5)
    with pytest.raises(ValueError, match="ResNet gave no attention maps; allowed: timm Vision Transformers"):
        attention_maps(resnet, torch.zeros(1, 1, 8, 8))
