"""Pruned models: what masks leave out is zero and stays so under every optimiser."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tests.methods.pruning.support import QKV, kept
from tests.support import assert_same_arrays
from vitlib.inputs.models import weights_of
from vitlib.methods.pruning.masks import apply_masks, keep_masks, masked_gradients, prunable
from vitlib.methods.pruning.saliency import chance, magnitude


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
