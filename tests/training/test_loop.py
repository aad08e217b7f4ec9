"""The training loop against a bare PyTorch loop and closed forms; losses that are not finite, stops, seeds."""

import copy
import io
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.support import context
from tests.training.support import DIGITS, RECIPE, STEPS, VIT, batches, fit, model, same
from vitlib.computing import result_of
from vitlib.inputs.models import weights_of
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.training.loop import DivergedError, cross_entropy


@pytest.fixture
def updates():
    """Learning rates of the parameter groups at each update, by torch's own hook."""
    seen = []
    hook = register_optimizer_step_pre_hook(lambda given, *_: seen.append([group["lr"] for group in given.param_groups]))
    yield seen
    hook.remove()


# ------------------------------------------------------------------------------------------------ the whole loop


def test_the_loop_is_a_bare_pytorch_loop():
    recipe = RECIPE.changed(weight_decay=0.1, warmup_epochs=1.0, label_smoothing=0.1, clip_grad=1.0)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.BatchNorm1d(16), nn.Linear(16, 10))
    bare = copy.deepcopy(ours)
    fit(ours, recipe)

    weights, others = ([p for p in bare.parameters() if (p.ndim > 1) is matrix] for matrix in (True, False))
    optimizer = torch.optim.AdamW([{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])
    for epoch in range(3):
        for step, (images, labels) in enumerate(batches().epoch(epoch)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, epoch * STEPS + step)
            loss = F.cross_entropy(bare(images), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()
    for one, other in zip(ours.state_dict().values(), bare.state_dict().values(), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-6)


def learning_rate(recipe, update):
    """Linear warm-up, then the cosine over the whole training: timm's schedule, stepped per update."""
    warmup, total = recipe.warmup_epochs * STEPS, recipe.epochs * STEPS
    if update < warmup:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * update / warmup
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * update / total)) / 2


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0, 1.4])
def test_learning_rates_are_a_linear_warm_up_and_a_cosine_per_update(updates, warmup_epochs):
    recipe = RECIPE.changed(warmup_epochs=warmup_epochs, warmup_lr=1e-4, min_lr=1e-3)
    history = fit(model(), recipe).history
    expected = [learning_rate(recipe, update) for update in range(3 * STEPS)]
    assert [rate for rates in updates for rate in set(rates)] == pytest.approx(expected)
    assert history["lr"].tolist() == pytest.approx([expected[5], expected[10], 1e-3])  # after each epoch


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0, 1.4])
def test_a_cosine_from_the_warm_up_on_reaches_the_peak_and_then_falls_over_what_is_left(updates, warmup_epochs):
    """MAE's lr_sched.py: min + (peak - min) * (1 + cos(pi * (t - warm-up) / (total - warm-up))) / 2."""
    recipe = RECIPE.changed(warmup_epochs=warmup_epochs, warmup_lr=1e-4, min_lr=1e-3, cosine_from="warmup")
    fit(model(), recipe)
    warmup, total = round(warmup_epochs * STEPS), 3 * STEPS
    falling = [1e-3 + (0.01 - 1e-3) * (1 + math.cos(math.pi * (t - warmup) / (total - warmup))) / 2 for t in range(warmup, total)]
    rising = [learning_rate(recipe, update) for update in range(warmup)]
    assert [rate for rates in updates for rate in set(rates)] == pytest.approx(rising + falling)
    assert max(falling) == pytest.approx(0.01)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_parts_of_a_batch_train_as_the_whole_batch(parts):
    whole, accumulated = model(), model()
    seen = []

    def watched(module, images, targets):
        seen.append(len(images))
        return cross_entropy(module, images, targets)

    recipe = RECIPE.changed(optimizer="sgd", clip_grad=0.5)  # adamw would divide the noise of vanishing gradients by itself
    expected = fit(whole, recipe)
    trained = fit(accumulated, recipe.changed(accumulate=parts), loss=watched)
    assert seen == [8 // parts] * (3 * STEPS * parts)
    assert trained.history["loss"].tolist() == pytest.approx(expected.history["loss"].tolist(), rel=1e-4)
    for name, weight in weights_of(whole).items():
        np.testing.assert_allclose(weights_of(accumulated)[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 3}, "accumulate=3 does not divide batch_size=8"),
        ({"accumulate": 8, "mixup": 0.8}, "mixup and cutmix pair the images"),
    ],
)
def test_parts_that_do_not_make_up_a_batch_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(**RECIPE.model_dump() | fields)


def test_time_and_images_of_a_broken_training_are_those_of_all_its_sessions(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(model(), where=context(scratch=tmp_path, checkpoint_every=0.0, tick=stopped_after(2 * STEPS + 1)))
    state = torch.load(io.BytesIO((tmp_path / "checkpoint.pt").read_bytes()[32:]), weights_only=True)
    seconds, stepping, images = state["spent"]
    assert images == 2 * STEPS * 8 and 0 < stepping < seconds
    began = time.perf_counter()
    resumed = fit(model(), where=context(scratch=tmp_path))
    here = time.perf_counter() - began
    assert seconds < resumed.measured["training_seconds"] < seconds + here
    rate = resumed.measured["images_per_second"]
    assert (images + (STEPS - 1) * 8) / (stepping + here) < rate < (images + STEPS * 8) / stepping


def test_a_training_that_was_over_gives_its_numbers_again_without_a_step(tmp_path):
    whole = model()
    expected = fit(whole, where=context(scratch=tmp_path, checkpoint_every=0.0))
    ticks, again = [], model(seed=1)
    trained = fit(again, where=context(scratch=tmp_path, tick=lambda *tick: ticks.append(tick)))
    assert not ticks and trained.history.equals(expected.history) and same(weights_of(again), weights_of(whole))
    assert trained.measured["images_per_second"] == pytest.approx(expected.measured["images_per_second"])


def test_layer_decay_gives_each_block_its_share_of_the_next_ones_rate(updates):
    seen = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: seen.append(optimizer))
    module, recipe = model(spec=VIT.changed(depth=4)), RECIPE.changed(layer_decay=0.65, warmup_epochs=1.0)
    history = fit(module, recipe).history
    hook.remove()
    layers = {"cls_token": 0, "pos_embed": 0, "patch_embed": 0, "norm": 4, "head": 5} | {f"blocks.{block}": block + 1 for block in range(4)}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    shares = [{layers[".".join(names[id(p)].split(".")[: 1 + names[id(p)].startswith("blocks")])] for p in group["params"]}
              for group in seen[0].param_groups]  # fmt: skip
    assert all(len(layer) == 1 for layer in shares) and set().union(*shares) == set(range(6))
    for update, rates in enumerate(updates):
        expected = [0.65 ** (5 - layer) * learning_rate(recipe, update) for (layer,) in shares]
        assert rates == pytest.approx(expected)
    assert history["lr"].tolist() == pytest.approx([learning_rate(recipe, 5), learning_rate(recipe, 10), recipe.min_lr])


def test_layer_decay_is_refused_where_layers_are_not_known():
    with pytest.raises(ValueError, match=r"recipe.layer_decay=0.65: Sequential names no layers; allowed: None, or a timm model"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), RECIPE.changed(layer_decay=0.65))
    with pytest.raises(ValueError, match=r"layer_decay=0.65 with optimizer='lars'"):
        RECIPE.changed(optimizer="lars", layer_decay=0.65)


def test_no_decay_reaches_biases_norms_tokens_and_positions():
    seen = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: seen.append(optimizer))
    module = model()
    fit(module, RECIPE.changed(epochs=1, weight_decay=0.3))
    hook.remove()
    decayed = {id(p) for group in seen[0].param_groups if group["weight_decay"] == 0.3 for p in group["params"]}
    names = {name for name, parameter in module.named_parameters() if id(parameter) in decayed}
    assert names == {name for name in dict(module.named_parameters()) if name.endswith("weight") and "norm" not in name}


def test_history_has_one_row_an_epoch_with_the_mean_loss():
    losses = []

    def recorded(module, images, targets):
        loss = cross_entropy(module, images, targets)
        losses.append(float(loss.detach()))
        return loss

    history = fit(model(), loss=recorded).history
    assert history["epoch"].tolist() == [1, 2, 3]
    means = [sum(losses[start : start + STEPS]) / STEPS for start in (0, 5, 10)]
    assert history["loss"].tolist() == pytest.approx(means)


def test_training_lowers_the_loss_of_labels_that_can_be_learnt():
    history = fit(model(spec=VIT.changed(embed_dim=32)), RECIPE.changed(epochs=40, eval_every=40)).history
    assert history["loss"].iloc[-1] < 0.7 * history["loss"].iloc[0]


@pytest.mark.parametrize(("every", "evaluated"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_evaluation_comes_every_so_many_epochs_and_after_the_last(every, evaluated):
    modes = []

    def evaluate(module):
        modes.append(module.training)
        return {"top1": float(len(modes))}

    history = fit(model(), RECIPE.changed(epochs=5, eval_every=every), evaluate=evaluate).history
    assert history.loc[history["top1"].notna(), "epoch"].tolist() == evaluated
    assert modes == [False] * len(evaluated)


def test_training_goes_on_in_train_mode_after_an_evaluation():
    modes = []

    def loss(module, images, targets):
        modes.append(module.training)
        return cross_entropy(module, images, targets)

    fit(model(), loss=loss, evaluate=lambda module: {})
    assert modes == [True] * 3 * STEPS


def test_each_batch_is_reported_once_with_its_epoch():
    ticks = []
    fit(model(), where=context(tick=lambda *tick: ticks.append(tick)))
    assert ticks == [(epoch, 3, 8) for epoch in range(3) for _ in range(STEPS)]


# ------------------------------------------------------------------------------------------------ trouble


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training_and_says_what_to_lower(bad):
    calls = []

    def loss(module, images, targets):
        calls.append(1)
        return cross_entropy(module, images, targets) * (bad if len(calls) == STEPS + 2 else 1.0)

    with pytest.raises(DivergedError, match=r"not finite in epoch 2, .* of 5") as refused:
        fit(model(), loss=loss)
    assert all(name in str(refused.value) for name in ("recipe.lr", "recipe.warmup_epochs", "recipe.clip_grad"))
    assert len(calls) == 2 * STEPS


def test_a_long_epoch_stops_within_fifty_steps_of_a_loss_that_is_not_finite():
    class Long:
        steps, images = 1000, 8000

        def epoch(self, epoch, start=0):
            yield from ((torch.zeros(8, 1, 8, 8), torch.arange(8)) for _ in range(1000))

    calls = []

    def loss(module, images, targets):
        calls.append(1)
        return cross_entropy(module, images, targets) * math.nan

    with pytest.raises(DivergedError, match="epoch 1, by step 50 of 1000"):
        fit(model(), data=Long(), loss=loss)
    assert len(calls) == 50


def stopped_after(count):
    """A tick that stops training as a kill would, after so many steps."""
    ticks = []

    def tick(*_):
        ticks.append(1)
        if len(ticks) > count:
            raise KeyboardInterrupt

    return tick


@pytest.mark.parametrize("steps", [3, STEPS, 7])
def test_a_training_that_was_stopped_goes_on_to_the_same_numbers_to_the_bit(tmp_path, steps):
    recipe = RECIPE.changed(mixup=0.8, ema_decay=0.9)
    data = batches(Augment(crop=1, erasing=0.5))
    whole, resumed = model(), model()
    expected = fit(whole, recipe, data=data)
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, recipe, data=data, where=context(scratch=tmp_path, checkpoint_every=0.0, tick=stopped_after(steps)))
    ticks = []
    fresh = model(seed=1)
    trained = fit(fresh, recipe, data=data, where=context(scratch=tmp_path, tick=lambda *tick: ticks.append(tick)))
    assert len(ticks) == 3 * STEPS - steps
    assert same(weights_of(whole), weights_of(fresh)) and same(weights_of(expected.ema), weights_of(trained.ema))
    assert trained.history.equals(expected.history)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"], "it stays until the result is stored"


def test_a_damaged_checkpoint_is_left_aside(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(model(), where=context(scratch=tmp_path, checkpoint_every=0.0, tick=stopped_after(3)))
    (file,) = tmp_path.iterdir()
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    again, whole = model(), model()
    fit(again, where=context(scratch=tmp_path))
    fit(whole)
    assert same(weights_of(again), weights_of(whole))


# ------------------------------------------------------------------------------------------------ seeds


def student(seed=0):
    recipe = Recipe(epochs=2, batch_size=20, lr=0.01, mixup=0.8, drop_path=0.2, augment=Augment(crop=1))
    return Student(data=DIGITS, model=VIT.changed(depth=2), recipe=recipe, seed=seed)


def test_a_seed_gives_the_same_weights_to_the_bit_and_another_seed_gives_others():
    one = result_of(student(), context())
    torch.manual_seed(123)
    again, other = result_of(student(), context()), result_of(student(seed=1), context())
    assert same(one.weights, again.weights) and one.history.equals(again.history)
    assert one.metrics == again.metrics
    assert not np.array_equal(one.weights["head.weight"], other.weights["head.weight"])
