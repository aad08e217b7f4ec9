"""Masks against sorting by hand, exact counts and loops; what stays zero in training and in files; invariants 8, 9, 10 and 12."""

import copy
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from tests.support import MICRO, MICRO_SIZES, assert_same_arrays, drawn_vit
from vitlib.inputs.models import ResNet, Timm, build, weights_of
from vitlib.methods.pruning.masks import (
    apply_masks,
    densities,
    keep_masks,
    load_pruned,
    masked_gradients,
    prunable,
    save_pruned,
    two_of_four,
)
from vitlib.methods.pruning.saliency import chance, magnitude
from vitlib.spec import SpecError

KEPT = {0.8: 16_986_931, 0.9: 8_493_466, 0.95: 4_246_733, 0.98: 1_698_693}
PRUNABLE = 84_934_656
QKV = "blocks.0.attn.qkv.weight"


@pytest.fixture
def model():
    return drawn_vit()


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8)


@pytest.fixture
def labels():
    return torch.tensor([0, 2, 1, 1, 0, 2])


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


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values())


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


# ------------------------------------------------------------------------------------------------ pruned models


def test_applying_masks_zeroes_what_they_leave_out_in_place_and_nothing_else(model):
    masks = keep_masks(chance(prunable(model), seed=0), 0.7)
    del masks[QKV]
    before, addresses = copy.deepcopy(model.state_dict()), [parameter.data_ptr() for parameter in model.parameters()]
    apply_masks(model, masks)
    for name, tensor in model.state_dict().items():
        expected = (
            [value if keep else 0.0 for value, keep in zip(before[name].flatten(), masks[name].flatten(), strict=True)]
            if name in masks
            else before[name].flatten().tolist()
        )
        assert tensor.flatten().tolist() == expected
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in model.parameters())


def test_a_weight_that_is_not_finite_is_zeroed_too(model):
    masks = keep_masks(chance(prunable(model), seed=0), 0.7)
    with torch.no_grad():
        model.get_parameter(QKV)[~masks[QKV]] = float("nan")
    apply_masks(model, masks)
    assert not model.get_parameter(QKV)[~masks[QKV]].any()


def test_gradients_are_masked_while_it_lasts_and_whole_before_and_after(model, images, labels):
    def slopes():
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    masks, dense = keep_masks(chance(prunable(model), seed=0), 0.7), slopes()
    with masked_gradients(model, masks):
        masked = slopes()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    for name, slope in masked.items():
        assert torch.equal(slope, dense[name] * masks[name] if name in masks else dense[name])
    assert_close(norm, sum(slope.square().sum() for slope in masked.values()).sqrt())
    assert norm < sum(slope.square().sum() for slope in dense.values()).sqrt()
    assert_same_arrays({n: s.numpy() for n, s in slopes().items()}, {n: s.numpy() for n, s in dense.items()})


def test_gradients_that_are_not_finite_are_masked_to_zero(model):
    masks = keep_masks(chance(prunable(model), seed=0), 0.7)
    with masked_gradients(model, masks):
        (model.get_parameter(QKV).sum() * float("inf")).backward()
    gradient = model.get_parameter(QKV).grad
    assert torch.equal(gradient.isfinite(), ~masks[QKV])
    assert not gradient[~masks[QKV]].any()


@pytest.mark.parametrize("error", ["within", "name"])
def test_no_mask_stays_on_gradients_after_an_error(model, error):
    masks = keep_masks(chance(prunable(model), seed=0), 0.7)
    with (
        pytest.raises((ArithmeticError, AttributeError)),
        masked_gradients(model, masks if error == "within" else masks | {"none": masks[QKV]}),
    ):
        raise ArithmeticError
    model.get_parameter(QKV).sum().backward()
    assert model.get_parameter(QKV).grad.all()


OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.5),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
}


@pytest.mark.parametrize("earlier", [0, 3], ids=["fresh", "moving"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_invariant_10_after_any_number_of_steps_pruned_weights_are_zero_and_no_weight_came_back(model, images, labels, kind, earlier):
    """A 'moving' optimiser has momentum in pruned weights from steps before they were pruned."""
    optimizer = OPTIMIZERS[kind](model.parameters())

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(earlier):
        step()
    masks = keep_masks(magnitude(prunable(model)), 0.8)
    apply_masks(model, masks)
    start, nonzero = weights_of(model), kept(masks)
    with masked_gradients(model, masks):
        for _ in range(10):
            step()
            apply_masks(model, masks)
            assert not any(model.get_parameter(name)[~mask].any() for name, mask in masks.items())
            count = sum(int(weight.count_nonzero()) for weight in prunable(model).values())
            assert count <= nonzero
            nonzero = count
    moved = weights_of(model)
    assert nonzero > 0.9 * kept(masks)
    assert all((moved[name] != start[name])[mask.numpy()].mean() > 0.9 for name, mask in masks.items())
    assert all((moved[name] != start[name]).any() for name in ("norm.bias", "head.weight", "blocks.0.attn.qkv.bias"))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_masked_gradients_alone_keep_zeros_of_a_fresh_optimiser_and_leave_no_momentum_in_them(model, images, labels, kind):
    optimizer = OPTIMIZERS[kind](model.parameters())
    masks = keep_masks(magnitude(prunable(model)), 0.8)
    apply_masks(model, masks)
    with masked_gradients(model, masks):
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    for name, mask in masks.items():
        held = [value for value in optimizer.state[model.get_parameter(name)].values() if value is not None and value.shape == mask.shape]
        assert held and all(not value[~mask].any() and value.any() for value in held)
        assert not model.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_trap_without_masks_pruned_weights_come_back(model, images, labels, kind):
    optimizer = OPTIMIZERS[kind](model.parameters())
    masks = keep_masks(magnitude(prunable(model)), 0.8)
    apply_masks(model, masks)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    assert all(model.get_parameter(name)[~mask].any() for name, mask in masks.items())


def test_a_layer_that_lost_all_weights_still_adds_its_bias(model):
    layer, inputs = model.blocks[0].mlp.fc1, torch.randn(3, 8)
    apply_masks(model, {"blocks.0.mlp.fc1.weight": torch.zeros_like(layer.weight, dtype=torch.bool)})
    assert torch.equal(layer(inputs), layer.bias.expand(3, -1))


# ------------------------------------------------------------------------------------------------ files


@pytest.fixture
def pruned(tmp_path):
    """A pruned transformer, its masks and its file."""
    model = drawn_vit()
    masks = keep_masks(magnitude(prunable(model, include_patch_embed=True)), 0.8)
    apply_masks(model, masks)
    return model, masks, save_pruned(tmp_path / "new" / "folder" / "pruned.safetensors", model.state_dict(), masks, MICRO, **MICRO_SIZES)


def rewritten(path, change):
    """The file with its tensors changed and its description kept."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def test_a_pruned_model_comes_back_with_its_outputs_its_zeros_and_its_masks_to_the_bit(pruned, images):
    model, masks, path = pruned
    again, found = load_pruned(str(path))
    assert torch.equal(again(images), model(images))
    assert_same_arrays(weights_of(again), weights_of(model))
    assert {name: mask.tolist() for name, mask in found.items()} == {name: mask.tolist() for name, mask in masks.items()}
    assert all(mask.dtype == torch.bool and not again.get_parameter(name)[~mask].any() for name, mask in found.items())
    assert not any(module.training for module in again.modules())
    assert all(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("distilled", [False, True])
def test_other_sizes_and_classes_and_channels_come_back_too(tmp_path, distilled):
    spec = MICRO.changed(distilled=distilled, depth=3, mlp_ratio=2.0)
    options = {"image_size": 12, "channels": 3, "num_classes": 5}
    model, images = drawn_vit(spec, **options), torch.randn(2, 3, 12, 12)
    masks = two_of_four(magnitude(prunable(model)))
    apply_masks(model, masks)
    again, found = load_pruned(save_pruned(tmp_path / "file", model.state_dict(), masks, spec, **options))
    assert torch.equal(again(images), model(images))
    assert densities(found) == dict.fromkeys(masks, 0.5)


def test_a_resnet_with_masks_of_its_own_comes_back_too(tmp_path, images):
    spec = ResNet(width=4, blocks=(1, 1, 1, 1))
    model = build(spec, **MICRO_SIZES).train()
    model(images)
    masks = keep_masks({"layer1.0.conv1.weight": model.layer1[0].conv1.weight.detach().abs()}, 0.5)
    apply_masks(model, masks)
    again, _ = load_pruned(save_pruned(tmp_path / "file", model.state_dict(), masks, spec, **MICRO_SIZES))
    assert torch.equal(again(images), model.eval()(images))


def test_a_released_model_comes_back_without_its_released_weights(tmp_path):
    spec = Timm(name="test_vit.r160_in1k")
    options = {"image_size": 160, "channels": 3, "num_classes": 5}
    model, images = build(spec, **options).eval(), torch.randn(1, 3, 160, 160)
    masks = keep_masks(magnitude(prunable(model)), 0.9)
    apply_masks(model, masks)
    path = save_pruned(tmp_path / "file", model.state_dict(), masks, spec.changed(pretrained=True), **options)
    again, _ = load_pruned(path)
    assert torch.equal(again(images), model(images))


def test_saving_leaves_weights_and_masks_as_they_were(pruned):
    model, masks, path = pruned
    weights, copies = model.state_dict(), copy.deepcopy(masks)
    save_pruned(path, weights, masks, MICRO, **MICRO_SIZES)
    assert list(weights) == list(model.state_dict())
    assert all(torch.equal(masks[name], copies[name]) for name in copies)


def test_a_pruned_weight_that_is_not_zero_is_refused(pruned):
    _, masks, path = pruned
    for value in (1e-30, float("nan")):
        rewritten(path, lambda tensors, value=value: tensors[QKV].view(-1).__setitem__(int((~masks[QKV]).flatten().nonzero()[-1]), value))
        with pytest.raises(SpecError, match=rf"{QKV} has weights that its mask leaves out; allowed: zeros there"):
            load_pruned(path)


def test_a_kept_weight_may_have_any_value(pruned):
    _, masks, path = pruned
    first = int(masks[QKV].flatten().nonzero()[0])
    rewritten(path, lambda tensors: tensors[QKV].view(-1).__setitem__(first, 0.0))
    assert load_pruned(path)[0].get_parameter(QKV).flatten().tolist()[first] == 0.0


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=str)
def test_a_safetensors_file_of_another_program_is_refused(tmp_path, model, metadata):
    save_file(model.state_dict(), tmp_path / "file", metadata)
    with pytest.raises(SpecError, match="not a file of save_pruned"):
        load_pruned(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100)], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SpecError, match="save_pruned"):
        load_pruned(tmp_path / "file")


@pytest.mark.parametrize("name", [QKV, "norm.weight"])
def test_a_file_that_lacks_a_weight_is_refused(pruned, name):
    _, _, path = pruned
    rewritten(path, lambda tensors: [tensors.pop(name), tensors.pop(f"mask.{name}", None)])
    with pytest.raises(RuntimeError, match=f'Missing key.*"{name}"'):
        load_pruned(path)
