"""Attention maps against the attention written out by hand, and the distance that they look, in loops and closed forms."""

import math
import weakref

import pytest
import torch
from torch.testing import assert_close

from vitlib.inputs.models import ResNet, Vit, build
from vitlib.methods.attention import (
    attention_distance,
    attention_distances,
    attention_maps,
    attention_unevenness,
    by_block,
    patch_distances,
    unfused_attention,
)

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


def identity(tokens):
    return torch.eye(tokens, dtype=torch.float64)


def uniform(tokens):
    return torch.full((tokens, tokens), 1 / tokens, dtype=torch.float64)


def random_maps(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).mul(2).softmax(dim=-1)


def test_patch_distances_are_those_of_the_places_counted_by_rows():
    distances = patch_distances((3, 5), 4)
    assert distances.shape == (15, 15) and distances.dtype == torch.float64
    for i in range(15):
        for j in range(15):
            expected = 4 * math.dist((i // 5, i % 5), (j // 5, j % 5))
            assert float(distances[i, j]) == pytest.approx(expected, rel=1e-12)


def test_corners_of_fourteen_by_fourteen_patches_of_16_px_are_294_px_apart():
    distances = patch_distances((14, 14), 16)
    assert distances.max() == distances[0, -1] == distances[13, -14]
    assert float(distances[0, -1]) == pytest.approx(294.1564, abs=5e-5)  # 16 * 13 * sqrt(2)


@pytest.mark.parametrize("prefix_tokens", [0, 1, 2])
def test_a_patch_that_sees_itself_alone_looks_no_way_off(prefix_tokens):
    distance = attention_distance(identity(9 + prefix_tokens), (3, 3), 16, prefix_tokens)
    assert float(distance) == pytest.approx(0, abs=1e-25)


@pytest.mark.parametrize("prefix_tokens", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_even_attention_over_fourteen_by_fourteen_patches_of_16_px_looks_116_px_off(prefix_tokens, dtype):
    distance = attention_distance(uniform(196 + prefix_tokens).to(dtype), (14, 14), 16, prefix_tokens)
    assert distance.dtype == dtype
    assert float(distance) == pytest.approx(116.4922, abs=1e-3 if dtype == torch.float32 else 5e-5)


def test_a_corner_that_sees_the_far_corner_alone_adds_their_distance_over_the_number_of_queries():
    attention = identity(1 + 196)
    attention[1] = attention[1].roll(195)
    assert attention[1, -1] == 1
    assert float(attention_distance(attention, (14, 14), 16)) == pytest.approx(294.1564 / 196, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_to_the_class_token_alone_counts_as_even(dtype):
    attention = torch.zeros(1 + 196, 1 + 196, dtype=dtype)
    attention[:, 0] = 1
    assert float(attention_distance(attention, (14, 14), 16)) == pytest.approx(116.4922, abs=1e-3)


def test_distance_is_in_pixels_so_it_doubles_with_the_patches():
    attention = random_maps(2, 10, 10)
    assert_close(attention_distance(attention, (3, 3), 16), 2 * attention_distance(attention, (3, 3), 8))


@pytest.mark.parametrize("prefix_tokens", [1, 2])
def test_distance_is_the_mean_over_queries_of_the_weighted_mean_over_keys_in_loops(prefix_tokens):
    attention = random_maps(2, 3, 6 + prefix_tokens, 6 + prefix_tokens)
    distances = attention_distance(attention, (2, 3), 4, prefix_tokens)
    assert distances.shape == (2, 3)
    for image in range(2):
        for head in range(3):
            by_query = []
            for query in range(6):
                weights = [float(attention[image, head, prefix_tokens + query, prefix_tokens + key]) for key in range(6)]
                ways = [4 * math.dist((query // 3, query % 3), (key // 3, key % 3)) for key in range(6)]
                by_query.append(sum(weight * way for weight, way in zip(weights, ways, strict=True)) / sum(weights))
            assert float(distances[image, head]) == pytest.approx(sum(by_query) / 6, rel=1e-12)


def test_distance_does_not_ask_what_the_class_token_sees_nor_how_much_of_a_row_it_takes():
    attention = random_maps(10, 10)
    other = attention.clone()
    other[0] = identity(10)[3]
    other[1:, 1:] *= torch.linspace(0.1, 0.9, 9, dtype=torch.float64)[:, None]
    other[1:, 0] = 1 - other[1:, 1:].sum(dim=-1)
    assert_close(attention_distance(other, (3, 3), 4), attention_distance(attention, (3, 3), 4))


def test_every_map_of_a_model_has_its_distance(model, images):
    maps = attention_maps(model, images)
    distances = attention_distance(maps, (2, 2), 4, prefix_tokens=2)
    assert distances.shape == (5, DEPTH, HEADS)
    assert ((distances > 0) & (distances < 4 * math.sqrt(2))).all()
    assert_close(distances[1, 2, 0], attention_distance(maps[1, 2, 0], (2, 2), 4, prefix_tokens=2))


def test_distances_measured_while_the_blocks_run_are_those_of_the_maps_in_loops(model, images):
    maps = attention_maps(model, images)[..., 2:, 2:].double()
    expected = torch.zeros(5, DEPTH, HEADS, dtype=torch.float64)
    for query in range(4):
        for key in range(4):
            way = 4 * math.dist(divmod(query, 2), divmod(key, 2))
            expected += way * maps[..., query, key] / maps[..., query, :].sum(dim=-1) / 4
    found = attention_distances(model, images)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_no_map_outlives_its_block(model, images):
    alive = []

    def measure(maps):
        alive.append(weakref.ref(maps))
        assert sum(reference() is not None for reference in alive) == 1
        return maps.sum()

    assert len(by_block(model, images, measure)) == DEPTH == len(alive)
    assert all(reference() is None for reference in alive)


def test_a_grid_that_does_not_fit_the_tokens_is_refused():
    with pytest.raises(RuntimeError, match="size"):
        attention_distance(uniform(10), (2, 3), 4)


# ------------------------------------------------------------------------------------------------ unevenness


def rows(*weights):
    """A map of patches alone, each of whose rows is one of these."""
    return torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize(
    ("row", "share"),
    [((0.25, 0.25, 0.25, 0.25), 0.0), ((1.0, 0.0, 0.0, 0.0), 0.75), ((0.5, 0.5, 0.0, 0.0), 0.5), ((0.4, 0.3, 0.2, 0.1), 0.2)],
)
def test_unevenness_is_the_share_that_would_have_to_move(row, share):
    assert attention_unevenness(rows(*[row] * 4), prefix_tokens=0).item() == pytest.approx(share)


def test_unevenness_leaves_prefix_tokens_out_and_normalises_the_rows_again():
    patches = rows((0.7, 0.3), (0.1, 0.9))
    whole = torch.cat([torch.full((3, 1), 0.6, dtype=torch.float64), torch.cat([rows((0.2, 0.2)), 0.4 * patches])], dim=1)
    assert attention_unevenness(whole, prefix_tokens=1).item() == pytest.approx((0.2 + 0.4) / 2)


def test_unevenness_of_maps_is_that_of_each_by_hand():
    maps = torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps /= maps.sum(dim=-1, keepdim=True)
    found = attention_unevenness(maps, prefix_tokens=2)
    for image in range(2):
        for head in range(3):
            moved = []
            for query in range(2, 6):
                kept = [maps[image, head, query, key].item() for key in range(2, 6)]
                moved.append(sum(max(0.0, weight / sum(kept) - 0.25) for weight in kept))
            assert found[image, head].item() == pytest.approx(sum(moved) / 4)
