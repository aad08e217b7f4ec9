"""Options of the loop against recursions written here: clipping, eval mode, averages, precision, layout, optimisers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.support import context
from tests.training.support import RECIPE, STEPS, VIT, batches, fit, model, same
from vitlib.inputs.models import ResNet, weights_of
from vitlib.recipe import Recipe
from vitlib.training.loop import cross_entropy
from vitlib.training.optimizer import clip_gradients


@pytest.mark.parametrize("limit", [0.5, 1e-3])
def test_clipping_bounds_the_norm_of_the_gradient(limit):
    def largest(recipe):
        module, norms = model(), []
        hook = register_optimizer_step_pre_hook(
            lambda *_: norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters()]).norm()))
        )
        fit(module, recipe)
        hook.remove()
        return max(norms)

    assert largest(RECIPE) > limit
    assert largest(RECIPE.changed(clip_grad=limit)) <= limit * (1 + 1e-4)


def test_clipping_by_parameter_scales_each_gradient_by_its_own_norm():
    """The rule of DINO's utils.clip_gradients: coefficient limit / (norm + 1e-6) where that is below 1, parameter by parameter."""
    module, limit = model(), 1e-2
    cross_entropy(module, torch.randn(8, 1, 8, 8), torch.eye(10)[:8]).backward()
    before = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    clip_gradients(module, RECIPE.changed(clip_grad=limit, clip="parameter"))
    small = 0
    for name, parameter in module.named_parameters():
        norm = before[name].square().sum().sqrt()
        assert_close(parameter.grad, before[name] * min(1.0, limit / (float(norm) + 1e-6)), rtol=1e-5, atol=1e-9)
        small += bool(norm < limit)
    assert 0 < small < len(before), "some gradients must be left alone, and some not"


def test_clipping_is_by_the_global_norm_unless_said_otherwise():
    one, other, third = model(), model(), model()
    fit(one, RECIPE.changed(clip_grad=0.1))
    fit(other, RECIPE.changed(clip_grad=0.1, clip="global"))
    fit(third, RECIPE.changed(clip_grad=0.1, clip="parameter"))
    assert same(weights_of(one), weights_of(other))
    assert not same(weights_of(one), weights_of(third))


def test_a_recipe_that_clips_nothing_or_drops_paths_in_eval_mode_is_refused():
    with pytest.raises(ValidationError, match="clip='parameter' with clip_grad=None, so that nothing is clipped"):
        Recipe(epochs=1, batch_size=8, lr=0.1, clip="parameter")
    with pytest.raises(ValidationError, match=r"drop_path=0.1 with mode='eval', which leaves it off; allowed: 0.0"):
        Recipe(epochs=1, batch_size=8, lr=0.1, mode="eval", drop_path=0.1)


def test_in_eval_mode_batch_statistics_stand_still_and_weights_learn():
    def trained(mode):
        module = model(spec=ResNet(width=4, blocks=(1, 1, 1, 1)))
        before = weights_of(module)
        fit(module, RECIPE.changed(mode=mode))
        after = weights_of(module)
        return {name: not np.array_equal(before[name], after[name]) for name in before}

    moved = {mode: trained(mode) for mode in ("train", "eval")}
    statistics = [name for name in moved["eval"] if "running_" in name]
    assert statistics and all(moved["train"][name] for name in statistics)
    assert not any(moved["eval"][name] for name in statistics)
    assert all(moved["eval"][name] for name in moved["eval"] if name.endswith("weight"))


def test_in_eval_mode_every_step_goes_without_dropout_and_a_distilled_model_still_gives_both_heads():
    module = model(spec=VIT.changed(distilled=True))
    module.set_distilled_training(True)
    module.pos_drop = nn.Dropout(0.9)
    seen = []

    def loss(network, images, targets):
        seen.append([part.training for part in network.modules()])
        first, second = network(images)
        again, _ = network(images)
        assert_close(first, again, rtol=0, atol=0)
        return cross_entropy(nn.Identity(), first + second, targets)

    fit(module, RECIPE.changed(mode="eval", epochs=2), loss=loss)
    assert len(seen) == 2 * STEPS
    assert all(training == [True] + [False] * (len(training) - 1) for training in seen)


def test_the_moving_average_is_the_recursion_over_the_weights_after_each_update():
    module, trajectory = model(), []
    where = context(tick=lambda *_: trajectory.append(module.head.weight.detach().clone()))
    trained = fit(module, RECIPE.changed(ema_decay=0.8), where=where)
    average = trajectory[0]  # timm's average begins with the first update
    for weight in trajectory[1:]:
        average = 0.8 * average + 0.2 * weight
    assert_close(trained.ema.head.weight.detach(), average, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(average, module.head.weight.detach())


def test_no_moving_average_is_kept_unless_it_is_asked_for():
    assert fit(model()).ema is None


def test_bf16_computes_the_forward_pass_in_bfloat16_and_keeps_float32_weights():
    def outputs_of(precision):
        module, dtypes = model(), set()
        module.head.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
        loss = fit(module, RECIPE.changed(precision=precision)).history["loss"].iloc[-1]
        return dtypes, {parameter.dtype for parameter in module.parameters()}, loss

    (half, weights, loss), (full, _, exact) = outputs_of("bf16"), outputs_of("fp32")
    assert half == {torch.bfloat16} and full == weights == {torch.float32}
    assert loss == pytest.approx(exact, rel=0.05) and loss != exact


def test_channels_last_changes_the_layout_and_not_the_result():
    layouts = set()

    def loss(module, images, targets):
        layouts.add(module.conv1.weight.is_contiguous(memory_format=torch.channels_last))
        return cross_entropy(module, images, targets)

    spec, recipe = ResNet(width=4, blocks=(1, 1, 1, 1)), RECIPE.changed(epochs=1, optimizer="sgd")
    plain, last = model(spec=spec), model(spec=spec)
    fit(plain, recipe)
    fit(last, recipe.changed(channels_last=True), loss=loss)
    assert layouts == {True}
    for one, other in zip(plain.state_dict().values(), last.state_dict().values(), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_sgd_is_nesterovs():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bare.load_state_dict(module.state_dict())
    recipe = RECIPE.changed(epochs=1, optimizer="sgd", momentum=0.7, weight_decay=0.0)
    fit(module, recipe)
    velocity = [torch.zeros_like(parameter) for parameter in bare.parameters()]
    for step, (images, labels) in enumerate(batches().epoch(0)):
        rate = recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * step / STEPS)) / 2
        gradients = torch.autograd.grad(F.cross_entropy(bare(images), labels), list(bare.parameters()))
        with torch.no_grad():
            for parameter, speed, gradient in zip(bare.parameters(), velocity, gradients, strict=True):
                speed.mul_(0.7).add_(gradient)
                parameter -= rate * (gradient + 0.7 * speed)
    assert_close(module[1].weight, bare[1].weight)


def test_sgd_without_momentum_is_refused_when_the_recipe_is_built():
    with pytest.raises(ValueError, match="momentum"):
        Recipe(epochs=1, batch_size=8, lr=0.1, optimizer="sgd", momentum=0.0)
