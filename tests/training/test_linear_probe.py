"""The linear probe on stored features, and LARS as the reference of MAE writes it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.support import Killed, context
from vitlib.inputs.data import seed_everything
from vitlib.inputs.pictures import DataError
from vitlib.recipe import Recipe
from vitlib.training.loop import cross_entropy, train
from vitlib.training.probe import FeatureBatches, linear_probe

LARS = Recipe(epochs=3, batch_size=16, lr=0.5, optimizer="lars", weight_decay=0.0, min_lr=0.0, eval_every=50)
PROBE = LARS.changed(epochs=60, lr=2.0)


def noise(count, seed, width=8):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def clusters(count, seed, classes=4):
    """Far apart on axes of very different scales, which BatchNorm evens out."""
    truth = np.arange(count) % classes
    scales = torch.tensor([1e-3, 1.0, 1e3, 1.0] + [1.0] * 4)
    return scales * (4 * torch.eye(8)[truth] + 0.1 * noise(count, seed)) + 5, truth


def probed(bank, labels, queries, recipe=PROBE, *, seed=0, where=None):
    seed_everything(0)
    return linear_probe(bank, labels, queries, recipe, seed=seed, context=where or context())


# ------------------------------------------------------------------------------------------------ LARS


class Both(nn.Module):
    """A matrix and vectors, in a function that is not linear in them."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, inputs):
        return self.outer(self.norm(self.inner(inputs)).tanh())


def data(count=48):
    return FeatureBatches(noise(count, 1), torch.arange(count) % 4, 16, 0, "cpu")


def test_lars_is_the_recursion_of_maes_reference():
    torch.manual_seed(0)
    ours, bare = Both(), Both()
    bare.load_state_dict(ours.state_dict())
    train(ours, data(), cross_entropy, LARS, num_classes=4, context=context())
    velocity = [torch.zeros_like(parameter) for parameter in bare.parameters()]
    for update in range(9):
        images, labels = list(data().epoch(update // 3))[update % 3]
        rate = 0.5 * (1 + np.cos(np.pi * update / 9)) / 2
        gradients = torch.autograd.grad(F.cross_entropy(bare(images), labels), list(bare.parameters()))
        with torch.no_grad():
            for parameter, speed, gradient in zip(bare.parameters(), velocity, gradients, strict=True):
                trust = 0.001 * parameter.norm() / gradient.norm() if parameter.ndim > 1 else 1.0
                speed.mul_(0.9).add_(trust * gradient)
                parameter -= rate * speed
    assert_close(weights(ours), weights(bare), rtol=1e-4, atol=1e-5)


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_a_matrix_moves_by_a_thousandth_of_its_norm_whatever_the_gradient_and_a_vector_by_its_gradient(factor):
    module = Both()
    before, gradients = weights(module), []
    hook = register_optimizer_step_pre_hook(lambda *_: gradients.extend(parameter.grad.clone() for parameter in module.parameters()))
    recipe = LARS.changed(epochs=1)
    train(module, data(16), lambda *about: factor * cross_entropy(*about), recipe, num_classes=4, context=context())
    hook.remove()
    for old, new, gradient in zip(before, weights(module), gradients, strict=True):
        step = (new - old).norm()
        expected = 0.5 * 0.001 * old.norm() if old.ndim > 1 else 0.5 * gradient.norm()
        assert_close(step, expected, rtol=1e-2, atol=1e-6)
        assert float(F.cosine_similarity((old - new).flatten(), gradient.flatten(), dim=0)) == pytest.approx(1, abs=1e-3)


def test_weight_decay_of_lars_reaches_matrices_alone():
    seen = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: seen.append(optimizer.param_groups))
    train(Both(), data(16), cross_entropy, LARS.changed(epochs=1, weight_decay=0.2), num_classes=4, context=context())
    hook.remove()
    assert {(parameter.ndim, group["weight_decay"]) for group in seen[0] for parameter in group["params"]} == {(2, 0.2), (1, 0.0)}


def test_lars_leaves_frozen_parameters_out():
    module = Both()
    module.inner.requires_grad_(False)
    before = module.inner.weight.clone()
    train(module, data(), cross_entropy, LARS, num_classes=4, context=context())
    assert torch.equal(module.inner.weight, before)


# ------------------------------------------------------------------------------------------------ probe


def test_separable_clusters_are_separated_whatever_the_scales_of_their_axes():
    (bank, labels), (queries, truth) = clusters(96, 1), clusters(200, 2)
    scores, trained = probed(bank, labels, queries)
    assert scores.shape == (200, 4) and scores.device.type == "cpu"
    assert (scores.argmax(dim=1).numpy() == truth).all()
    assert trained.history["loss"].iloc[-1] < 0.75 * trained.history["loss"].iloc[0]


def test_labels_that_have_nothing_to_do_with_the_features_are_at_chance():
    generator = np.random.default_rng(0)
    labels, truth = generator.integers(0, 4, 96), generator.integers(0, 4, 2000)
    scores, _ = probed(noise(96, 1), labels, noise(2000, 2))
    right = (scores.argmax(dim=1).numpy() == truth).mean()
    assert abs(right - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)


def test_a_query_is_scored_by_running_statistics_and_not_by_its_batch():
    bank, labels = clusters(96, 1)
    queries = bank[:40]
    together, _ = probed(bank, labels, queries)
    alone, _ = probed(bank, labels, queries[7:8])
    reversed_, _ = probed(bank, labels, queries.flip(0))
    assert_close(alone[0], together[7], rtol=1e-5, atol=1e-5)
    assert_close(reversed_.flip(0), together, rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_scale_and_the_offset_of_the_features():
    bank, queries, labels = noise(96, 1), noise(40, 2), np.arange(96) % 4
    plain, _ = probed(bank, labels, queries)
    other, _ = probed(8 * bank - 3, labels, 8 * queries - 3)
    assert plain.std() > 0.05
    assert_close(other, plain, rtol=1e-3, atol=1e-3)


def test_a_matrix_of_small_numbers_and_a_bias_of_zeros_are_all_that_trains():
    seen = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([parameter.detach().clone() for group in optimizer.param_groups for parameter in group["params"]])
    )
    probed(noise(96, 1, width=400), np.arange(96) % 4, noise(3, 2, width=400))
    hook.remove()
    weight, bias = seen[0]
    assert weight.shape == (4, 400) and bias.shape == (4,)
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert not bias.any() and seen[-1][1].any()


def test_a_seed_gives_the_same_scores_to_the_bit_and_another_order_gives_others():
    bank, labels = clusters(96, 1)
    one, again, other = (probed(bank, labels, bank, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_bank_and_the_queries_are_left_as_they_were():
    bank, labels = clusters(96, 1)
    before = bank.clone()
    probed(bank, labels, bank)
    assert torch.equal(bank, before)


@pytest.mark.parametrize("mixup", [0.0, 0.8])
@pytest.mark.parametrize("steps", [4, 6, 9])
def test_a_probe_that_is_killed_and_resumed_ends_in_the_same_bits(tmp_path, steps, mixup):
    bank, labels = clusters(96, 1)
    recipe = PROBE.changed(epochs=3, mixup=mixup)
    whole, expected = probed(bank, labels, bank, recipe)
    ticks = []

    def tick(*_):
        ticks.append(1)
        if len(ticks) == steps:
            raise Killed

    with pytest.raises(Killed):
        probed(bank, labels, bank, recipe, where=context(scratch=tmp_path, checkpoint_every=0.0, tick=tick))
    resumed, trained = probed(bank, labels, bank, recipe, where=context(scratch=tmp_path, tick=tick))
    assert len(ticks) == 18 + 1  # the step at which it was killed is done again
    assert torch.equal(resumed, whole)
    assert trained.history.equals(expected.history)


# ------------------------------------------------------------------------------------------------ batches of features


def test_an_epoch_is_a_shuffle_of_features_with_their_labels_without_the_tail():
    features, labels = torch.arange(50.0)[:, None].repeat(1, 3), torch.arange(50)
    batches = FeatureBatches(features, labels, 8, 0, "cpu")
    assert (batches.steps, batches.images) == (6, 50)
    epochs = []
    for epoch in range(2):
        drawn = list(batches.epoch(epoch))
        assert [len(images) for images, _ in drawn] == [8] * 6
        assert all(torch.equal(images[:, 0].long(), given) for images, given in drawn)
        epochs.append(torch.cat([given for _, given in drawn]).tolist())
        assert len({*epochs[-1]}) == 48
    assert epochs[0] != epochs[1] != sorted(epochs[1])


@pytest.mark.parametrize("start", [0, 2, 6])
def test_an_epoch_goes_on_where_it_was_left(start):
    batches = FeatureBatches(noise(50, 0), torch.arange(50), 8, 3, "cpu")
    whole, rest = list(batches.epoch(4)), list(batches.epoch(4, start))
    assert len(rest) == 6 - start
    assert all(torch.equal(one[1], other[1]) for one, other in zip(whole[start:], rest, strict=True))


def test_a_batch_larger_than_the_set_is_refused_and_one_as_large_is_the_whole_set():
    with pytest.raises(DataError, match="batch_size: got 11, but the bank of features has 10 training images"):
        FeatureBatches(noise(10, 0), torch.arange(10), 11, 0, "cpu")
    batches = FeatureBatches(noise(10, 0), torch.arange(10), 10, 0, "cpu")
    ((images, labels),) = batches.epoch(0)
    assert batches.steps == 1 and images.shape == (10, 8)
    assert sorted(labels.tolist()) == list(range(10))
