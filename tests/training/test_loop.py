"""The training loop against a bare PyTorch loop, closed forms and recursions written here."""

import copy
import io
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import ResNet, Vit, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.spec import Context
from vitlib.training.loop import DivergedError, cross_entropy, target_maker, train
from vitlib.training.optimizer import clip_gradients

DIGITS = Data(source="digits", image_size=8, per_class=6, mean=(0.304,), std=(0.375,))
VIT = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, init="xavier")
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.01)
STEPS = 5


def context(**fields):
    return Context("cpu", Path(), **{"scratch": None, "parent": None, **fields})


def batches(augment=Augment()):  # noqa: B008  (frozen)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (44, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (44,), generator=generator)
    return ResidentBatches(images, labels, DIGITS, batch_size=8, training=Training(augment, seed=0))


def model(seed=0, spec=VIT):
    torch.manual_seed(seed)
    return build(spec, image_size=8, channels=1, num_classes=10)


def fit(module, recipe=RECIPE, *, data=None, loss=cross_entropy, where=None, **options):
    return train(module, data or batches(), loss, recipe, num_classes=10, context=where or context(), **options)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


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


# ------------------------------------------------------------------------------------------------ targets


def test_smoothed_targets_share_epsilon_among_all_classes():
    _, targets = target_maker(RECIPE.changed(label_smoothing=0.1), 4)(None, torch.tensor([2, 0]))
    assert_close(targets, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))


def test_mixed_images_and_targets_are_the_same_mixture_of_the_batch_and_its_reverse():
    images, labels = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 3, 4, 5])
    np.random.seed(0)
    mixed, targets = target_maker(RECIPE.changed(mixup=0.8), 10)(images.clone(), labels)
    share = float(targets[0, 0])
    assert 0.01 < share < 0.99
    assert_close(mixed, share * images + (1 - share) * images.flip(0))
    assert_close(targets, share * F.one_hot(labels, 10) + (1 - share) * F.one_hot(labels.flip(0), 10))


def test_cutmix_weighs_the_labels_by_the_area_that_is_left():
    images, labels = torch.arange(4.0).view(4, 1, 1, 1).repeat(1, 1, 12, 12), torch.tensor([0, 1, 2, 3])
    np.random.seed(2)
    mixed, targets = target_maker(RECIPE.changed(cutmix=1.0), 4)(images.clone(), labels)
    left = (mixed == images).float().mean(dim=(1, 2, 3))
    assert 0 < left[0] < 1
    assert_close(targets.diag(), left)


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}, {}], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_of_all_targets_sum_to_one(fields, smoothing):
    make = target_maker(RECIPE.changed(label_smoothing=smoothing, **fields), 7)
    for _ in range(5):
        _, targets = make(torch.randn(8, 1, 4, 4), torch.arange(8) % 7)
        assert_close(targets.sum(dim=1), torch.ones(8))
        assert (targets >= 0).all()


def test_cross_entropy_takes_dense_targets():
    logits, targets = torch.randn(5, 4), torch.rand(5, 4).softmax(dim=1)
    assert_close(cross_entropy(nn.Identity(), logits, targets), F.cross_entropy(logits, targets))


# ------------------------------------------------------------------------------------------------ options


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
    one = student().compute(context())
    torch.manual_seed(123)
    again, other = student().compute(context()), student(seed=1).compute(context())
    assert same(one.weights, again.weights) and one.history.equals(again.history)
    assert one.metrics == again.metrics
    assert not np.array_equal(one.weights["head.weight"], other.weights["head.weight"])
