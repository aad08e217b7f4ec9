"""What scoring leaves behind: modes, flags, weights and gradients as they were, and scores of the right kind."""

import copy

import pytest
import torch
from torch import nn

from tests.methods.pruning.saliency.support import batches, spread_scores
from tests.support import drawn_vit
from vitlib.methods.pruning.masks import prunable
from vitlib.methods.pruning.saliency import refer, snip
from vitlib.spec import SpecError

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


def test_scores_of_no_images_are_refused():
    model = nn.Linear(3, 2)
    weights = {"weight": model.weight}
    with pytest.raises(SpecError, match="batches: got none"):
        snip(model, [], weights)
    with pytest.raises(SpecError, match="batches: got none"):
        refer(model, lambda: [], weights, lambda module, inputs: [module(inputs)])
