"""Batch norm over several processes is batch norm over all their images: forward, backward, running statistics, unequal parts."""

import copy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from tests.processes import forked
from vitlib import distributed
from vitlib.recipe import Recipe
from vitlib.spec import SpecError
from vitlib.training.step.batchnorm import synchronise

LAYERS = {
    "images": (nn.BatchNorm2d(3), (5, 3, 4, 2)),
    "vectors": (nn.BatchNorm1d(3), (7, 3)),
    "without parameters": (nn.BatchNorm2d(3, affine=False), (5, 3, 2, 2)),
    "cumulative average": (nn.BatchNorm2d(3, momentum=None), (5, 3, 2, 2)),
    "with timm's activation": (BatchNormAct2d(3, act_layer=nn.GELU), (5, 3, 4, 2)),
}
PARTS = {1: [5], 2: [2, 3], 3: [1, 1, 3]}  # images of each process, of five


def network(name):
    """The layer between two others, its parameters drawn."""
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    layer = copy.deepcopy(layer)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return nn.Sequential(nn.Identity(), layer, nn.Tanh()), 3 * torch.randn(2, *shape) + 1


def two_steps(model, steps):
    """Outputs and gradients by images and parameters of sums of squares: the second step with the first's running statistics."""
    model.train()
    outputs, gradients = [], []
    for images in steps:
        images = images.clone().requires_grad_()
        out = model(images)
        (out * torch.linspace(-1, 2, out[0].numel()).view(out[0].shape)).square().sum().backward()
        outputs.append(out.detach())
        gradients.append(images.grad)
    return outputs, gradients, {name: parameter.grad for name, parameter in model.named_parameters()}, model.state_dict()


def parts_of(steps, name, rank, size):
    images = steps.shape[1]
    sizes = PARTS[size] if images == 5 else [images // size + (place < images % size) for place in range(size)]
    return steps.split(sizes, dim=1)[rank]


def compare(rank: int, size: int, name: str) -> None:
    """As one of several processes: what this one has of it equals one process's."""
    model, steps = network(name)
    expected = two_steps(copy.deepcopy(model), steps)
    synchronise(model, "cpu")
    outputs, gradients, by_parameter, state = two_steps(model, parts_of(steps, name, rank, size))
    for mine, whole in zip([*outputs, *gradients], [*expected[0], *expected[1]], strict=True):
        torch.testing.assert_close(mine, parts_of(whole[None], name, rank, size)[0], rtol=1e-5, atol=1e-6)
    for parameter, gradient in by_parameter.items():
        distributed.add_up(gradient)
        torch.testing.assert_close(gradient, expected[2][parameter], rtol=1e-5, atol=1e-6)
    assert state.keys() == expected[3].keys()
    for key, value in state.items():
        torch.testing.assert_close(value, expected[3][key], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.eval()(steps[0]), torch_eval(model, name)(steps[0]))


def torch_eval(model, name):
    """Torch's own layer with the same state."""
    own, _ = network(name)
    own.load_state_dict(model.state_dict())
    return own.eval()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_parts_of_a_batch_are_normalised_as_the_whole(forking, name, size):
    assert forked(forking, compare, size, name) == [0] * size


def test_one_process_keeps_torch_s_layer():
    model, _ = network("images")
    synchronise(model, "cpu")
    assert type(model[1]) is nn.BatchNorm2d


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(SpecError, match=r"recipe.sync_batchnorm: got True, and the model has no batch norm; allowed: False"):
        synchronise(nn.Sequential(nn.Linear(2, 2)), "cpu")


def test_a_mode_without_batch_statistics_is_refused():
    with pytest.raises(ValueError, match="sync_batchnorm=True with mode='eval'"):
        Recipe(epochs=1, batch_size=2, lr=0.1, mode="eval", sync_batchnorm=True)
