"""Masks against sorts of all scores and counts by hand: prunable weights, thresholds, two of four."""

import copy
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from tests.methods.pruning.support import kept
from tests.support import MICRO_SIZES
from vitlib.inputs.models import ResNet, Timm, build
from vitlib.methods.pruning.masks import apply_masks, densities, keep_masks, prunable, two_of_four
from vitlib.methods.pruning.saliency import chance, magnitude
from vitlib.spec import SpecError

KEPT = {0.8: 16_986_931, 0.9: 8_493_466, 0.95: 4_246_733, 0.98: 1_698_693}
PRUNABLE = 84_934_656


def with_ties():
    """Scores of three matrices, a kernel among them, that take five values."""
    shapes = {"one": (6, 8), "two": (3, 5), "kernel": (2, 1, 3, 4)}
    return {name: torch.randint(5, shape).float() / 4 for name, shape in shapes.items()}


def best(values, count):
    """Which of the values a sort keeps that puts the larger first, and the first among equals."""
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    return [index in set(order[:count]) for index in range(len(values))]


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def inside(one, other):
    """Whether every weight that one keeps is kept by the other."""
    return all(not (one[name] & ~other[name]).any() for name in one)


# ------------------------------------------------------------------------------------------------ prunable weights


@pytest.mark.parametrize("include", [False, True])
def test_prunable_are_four_matrices_of_every_block_and_the_patch_embedding_if_wanted(model, include):
    layers = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    expected = {f"blocks.{block}.{layer}.weight" for block in range(2) for layer in layers}
    weights = prunable(model, include_patch_embed=include)
    assert weights.keys() == expected | ({"patch_embed.proj.weight"} if include else set())
    assert all(weight is model.get_parameter(name) for name, weight in weights.items())


def test_invariant_8_prunable_weights_of_vit_b_are_counted_as_in_the_sheet():
    with torch.device("meta"):
        base = build(Timm(name="vit_base_patch16_224.augreg_in1k"), image_size=224, channels=3, num_classes=100)
    assert sum(weight.numel() for weight in prunable(base).values()) == PRUNABLE
    embedded = prunable(base, include_patch_embed=True)
    assert sum(weight.numel() for weight in embedded.values()) == PRUNABLE + 3 * 16 * 16 * 768
    assert len(embedded) == 12 * 4 + 1


@pytest.mark.parametrize("include", [False, True])
def test_a_resnet_has_nothing_prunable(include):
    resnet = build(ResNet(width=4, blocks=(1, 1, 1, 1)), **MICRO_SIZES)
    with pytest.raises(SpecError, match=r"ResNet has none of attn\.qkv.*allowed: timm Vision Transformers"):
        prunable(resnet, include)


# ------------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.93, 0.98, 1.0])
def test_masks_keep_what_a_sort_of_all_scores_keeps(sparsity):
    for scores in (with_ties(), chance(with_ties(), seed=1)):
        values = flat(scores).tolist()
        masks = keep_masks(scores, sparsity)
        assert flat(masks).tolist() == best(values, round((1 - sparsity) * len(values)))
        assert {name: (mask.dtype, mask.shape) for name, mask in masks.items()} == {
            name: (torch.bool, score.shape) for name, score in scores.items()
        }


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.93, 0.98, 1.0])
def test_masks_by_layer_keep_what_a_sort_of_each_matrix_keeps(sparsity):
    scores = with_ties()
    masks = keep_masks(scores, sparsity, scope="layer")
    for name, score in scores.items():
        values = score.flatten().tolist()
        assert masks[name].flatten().tolist() == best(values, round((1 - sparsity) * len(values)))
        assert masks[name].shape == score.shape


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_trap_scores_that_are_all_equal_give_the_exact_count(scope, value):
    scores = {"one": torch.full((10, 7), value), "two": torch.full((30,), value)}
    for percent in range(101):
        masks = keep_masks(scores, percent / 100, scope)
        together = round((1 - percent / 100) * 100)
        assert kept(masks) == (together if scope == "global" else sum(round((1 - percent / 100) * n) for n in (70, 30)))


def test_negative_scores_as_afrs_are_ranked_by_value_and_not_by_size():
    assert keep_masks({"one": torch.tensor([-3.0, -1.0, 2.0, 0.5])}, 0.5)["one"].tolist() == [False, False, True, True]


def test_a_ranking_over_all_matrices_can_empty_one():
    scores = {"weak": torch.rand(4, 5), "strong": 1 + torch.rand(2, 10)}
    assert densities(keep_masks(scores, 0.5)) == {"weak": 0.0, "strong": 1.0}
    assert densities(keep_masks(scores, 0.5, "layer")) == {"weak": 0.5, "strong": 0.5}


def test_scores_are_left_as_they_were():
    scores = with_ties()
    before = copy.deepcopy(scores)
    keep_masks(scores, 0.5)
    two_of_four({"one": scores["one"]})
    assert all(torch.equal(scores[name], before[name]) for name in scores)


@pytest.mark.parametrize("sparsity", [-0.01, 1.01, 90, float("nan")])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_sparsity_that_is_no_share_is_refused(sparsity, scope):
    with pytest.raises(SpecError, match=f"sparsity: got {sparsity}; allowed: 0 to 1"):
        keep_masks(with_ties(), sparsity, scope)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_score_that_is_not_finite_is_refused(value, scope):
    scores = with_ties()
    scores["two"][1, 1] = value
    with pytest.raises(SpecError, match="not finite"):
        keep_masks(scores, 0.5, scope)


def test_invariant_8_kept_counts_of_vit_b_are_those_of_the_sheet_and_its_masks_are_nested():
    """85 million scores of ViT-B's shapes; seconds and two GiB."""
    sizes = {"attn.qkv": (2304, 768), "attn.proj": (768, 768), "mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    generator = np.random.default_rng(0)
    scores = {
        f"{block}.{name}": torch.from_numpy(generator.random(size, dtype=np.float32)) for block in range(12) for name, size in sizes.items()
    }
    assert sum(score.numel() for score in scores.values()) == PRUNABLE
    larger = None
    for sparsity, count in KEPT.items():
        masks = keep_masks(scores, sparsity)
        assert kept(masks) == count
        assert larger is None or inside(masks, larger)
        larger = masks


def test_invariant_8_at_sparsity_zero_the_mask_is_all_ones_and_the_model_the_dense_one(model, images):
    expected = model(images)
    masks = keep_masks(magnitude(prunable(model)), 0.0)
    apply_masks(model, masks)
    assert all(mask.all() for mask in masks.values())
    assert torch.equal(model(images), expected)
    apply_masks(model, keep_masks(magnitude(prunable(model)), 0.5))
    assert not torch.allclose(model(images), expected, atol=1e-2)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("kind", ["equal", "ties", "distinct"])
def test_invariant_9_masks_of_a_higher_sparsity_lie_inside_those_of_a_lower_one(kind, scope):
    scores = {"equal": {"one": torch.zeros(7, 9), "two": torch.zeros(20)}, "ties": with_ties(), "distinct": chance(with_ties(), 1)}[kind]
    masks = [keep_masks(scores, percent / 100, scope) for percent in range(101)]
    assert all(inside(sparser, denser) for denser, sparser in pairwise(masks))
    assert (kept(masks[0]), kept(masks[100])) == (sum(score.numel() for score in scores.values()), 0)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
def test_invariant_12_random_scores_keep_in_every_matrix_the_global_share_within_sampling_error(sparsity):
    shapes = {"one": (300, 400), "two": (40, 50), "three": (1000, 200), "four": (120, 3, 16, 16)}
    scores = chance({name: torch.empty(shape) for name, shape in shapes.items()}, seed=5)
    total, share = sum(score.numel() for score in scores.values()), 1 - sparsity
    found = densities(keep_masks(scores, sparsity))
    for name, score in scores.items():
        error = (share * sparsity / score.numel() * (total - score.numel()) / (total - 1)) ** 0.5
        assert 0 < abs(found[name] - share) < 4 * error


def test_densities_are_the_means_of_the_masks():
    masks = {"one": torch.tensor([[True, False], [True, True]]), "two": torch.zeros(3, dtype=torch.bool), "three": torch.ones(5).bool()}
    assert densities(masks) == {"one": 0.75, "two": 0.0, "three": 1.0}


# ------------------------------------------------------------------------------------------------ two of four


@pytest.mark.parametrize("kind", ["distinct", "ties", "equal"])
def test_two_of_four_keeps_the_best_pair_of_every_four_neighbours_in_a_row(kind):
    score = {"distinct": torch.randn(5, 12), "ties": torch.randint(3, (5, 12)).float(), "equal": torch.zeros(5, 12)}[kind]
    mask = two_of_four({"one": score})["one"]
    assert (mask.dtype, mask.shape) == (torch.bool, (5, 12))
    for row in range(5):
        for first in range(0, 12, 4):
            values, chosen = score[row, first : first + 4].tolist(), mask[row, first : first + 4].nonzero().flatten().tolist()
            sums = {pair: values[pair[0]] + values[pair[1]] for pair in combinations(range(4), 2)}
            assert tuple(chosen) == max(sums, key=sums.get)


def test_two_of_four_is_the_same_for_scores_that_lie_transposed_in_memory():
    score = torch.randn(12, 8).T
    assert torch.equal(two_of_four({"one": score})["one"], two_of_four({"one": score.contiguous()})["one"])


def test_two_of_four_keeps_half_of_every_matrix_of_a_transformer(model):
    masks = two_of_four(magnitude(prunable(model)))
    assert densities(masks) == dict.fromkeys(prunable(model), 0.5)


@pytest.mark.parametrize("columns", [1, 2, 6, 7, 9])
def test_two_of_four_refuses_columns_that_fours_do_not_tile(columns):
    with pytest.raises(SpecError, match=rf"odd: {columns} columns; allowed: a multiple of 4"):
        two_of_four({"even": torch.rand(3, 8), "odd": torch.rand(4, columns)})
