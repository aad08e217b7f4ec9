"""Updates that are replayed from a record are those that are taken anew, to the bit: shown on the CPU, with a record of its operations."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch

from tests.support import context
from tests.training.step.recorder import Recorder
from tests.training.step.support import FLAT, LONG, assert_same, trained
from tests.training.support import DIGITS, RECIPE, STEPS, batches, fit, model, same
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import ResNet, build, weights_of
from vitlib.methods.pruning.masks import apply_masks, keep_masks, masked_gradients, prunable
from vitlib.recipe import Augment
from vitlib.training import loop
from vitlib.training.loop import cross_entropy
from vitlib.training.step import steps

RESNET = ResNet(width=4, blocks=(1, 1, 1, 1))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ema_decay": 0.9, "clip_grad": 0.5},
        {"clip_grad": 0.05, "clip": "parameter", "warmup_epochs": 1.0},
        {"accumulate": 2, "clip_grad": 0.5},
        {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1, "drop_path": 0.3},
        {"layer_decay": 0.65, "cosine_from": "warmup", "warmup_epochs": 1.0},
        {"precision": "bf16"},
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "ema_decay": 0.9},
        {"optimizer": "lars"},
        {"mode": "eval"},
    ],
    ids=str,
)
def test_a_transformer_trains_to_the_same_bits_with_and_without_a_record(graphs, fields):
    recipe, data = LONG.changed(**fields), batches(Augment(crop=1, flip=0.5, erasing=0.25))
    eager, captured = (trained(recipe, data=data, make=partial(drawn, recipe.drop_path), capture=capture) for capture in (False, True))
    assert_same(eager, captured)
    assert (eager[1].measured["step"], captured[1].measured["step"]) == ("eager: asked for", "captured")
    assert (graphs.kinds, graphs.replays) == (1, 3 * STEPS - steps.FIRST)


def drawn(drop_path):
    torch.manual_seed(0)
    return build(FLAT, image_size=8, channels=1, num_classes=10, drop_path=drop_path)


@pytest.mark.parametrize("fields", [{}, {"channels_last": True}, {"mode": "eval", "ema_decay": 0.5}], ids=str)
def test_a_convnet_trains_to_the_same_bits_batch_statistics_included(graphs, fields):
    recipe = LONG.changed(optimizer="sgd", **fields)
    assert_same(trained(recipe, RESNET, capture=False), trained(recipe, RESNET))
    assert graphs.replays


def test_steps_as_a_gpu_takes_them_are_those_of_the_cpu_up_to_the_rounding_of_rates(graphs, monkeypatch):
    recipe = LONG.changed(warmup_epochs=1.0, optimizer="sgd", ema_decay=0.9)
    there, _ = trained(recipe)
    monkeypatch.undo()
    here, _ = trained(recipe)
    for one, other in zip(there.parameters(), here.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("steps_before", [2, STEPS, 9])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(graphs, tmp_path, steps_before):
    recipe, data = LONG.changed(mixup=0.8, ema_decay=0.9, clip_grad=0.5), batches(Augment(crop=1))
    expected = trained(recipe, data=data, capture=False)
    left = [steps_before]

    def stopping(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(recipe, data=data, where=context(scratch=tmp_path, checkpoint_every=0.0, tick=stopping))
    resumed = trained(recipe, data=data, make=lambda: model(seed=1, spec=FLAT), where=context(scratch=tmp_path))
    assert_same(expected, resumed)
    assert graphs.replays


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "momentum", "lars"])
def test_a_checkpoint_of_a_cpu_goes_on_where_steps_are_recorded_and_the_other_way_round(monkeypatch, tmp_path, optimizer):
    recipe = LONG.changed(optimizer=optimizer)
    expected = fit(model(spec=FLAT), recipe).history["loss"].tolist()
    for first, second in ((None, Recorder()), (Recorder(), None)):
        folder, left = tmp_path / str(first is None), [STEPS + 2]

        def stopping(*_, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "graphs_of", lambda device, first=first: first)
        with pytest.raises(KeyboardInterrupt):
            fit(model(spec=FLAT), recipe, where=context(scratch=folder, checkpoint_every=0.0, tick=stopping))
        monkeypatch.setattr(loop, "graphs_of", lambda device, second=second: second)
        again = fit(model(spec=FLAT), recipe, where=context(scratch=folder))
        assert again.history["loss"].tolist() == pytest.approx(expected, rel=1e-5)
        assert (again.measured["step"] == "captured") is (second is not None)


# ------------------------------------------------------------------------------------------------ kinds of steps


def two_kinds(gives):
    """A loss that changes with every second update, and what says so, if it does."""
    scale = 1.0

    @contextmanager
    def around_step(progress):
        nonlocal scale
        scale = 1.0 + round(progress * 3 * STEPS) % 2
        yield scale if gives else None

    return {"loss": lambda module, images, targets: scale * cross_entropy(module, images, targets), "around_step": around_step}


def test_each_kind_of_step_has_a_record_of_its_own(graphs):
    assert_same(trained(capture=False, **two_kinds(True)), trained(**two_kinds(True)))
    assert graphs.kinds == 2


def test_a_number_that_the_kind_does_not_name_stays_as_it_was_recorded(graphs):
    """Which is what a real record does, and why `around_step` has to say what changes."""
    (eager, _), (captured, _) = trained(capture=False, **two_kinds(False)), trained(**two_kinds(False))
    assert not same(weights_of(eager), weights_of(captured))


def test_a_number_in_a_tensor_is_read_anew_by_every_replay(graphs):
    def options():
        share = torch.zeros(())

        @contextmanager
        def around_step(progress):
            share.fill_(progress)
            yield

        return {"loss": lambda module, images, targets: share * cross_entropy(module, images, targets), "around_step": around_step}

    assert_same(trained(capture=False, **options()), trained(**options()))
    assert graphs.kinds == 1


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "momentum"])
def test_parameters_that_begin_to_train_later_make_steps_of_another_kind(graphs, optimizer):
    def options(module):
        @contextmanager
        def around_step(progress):
            module.head.weight.requires_grad_(progress >= 0.5)
            yield

        return {"around_step": around_step}

    results = []
    for capture in (False, True):
        module = model(spec=FLAT)
        recipe = LONG.changed(epochs=4, optimizer=optimizer)
        results.append((module, fit(module, recipe, where=context(capture=capture), **options(module))))
    assert_same(*results)
    assert graphs.kinds == 2


def test_what_is_done_after_an_update_is_done_after_a_replay(graphs):
    def options(module):
        @contextmanager
        def around_step(progress):
            yield
            with torch.no_grad():
                module.head.weight[:2].zero_()

        return {"around_step": around_step}

    results = []
    for capture in (False, True):
        module = model(spec=FLAT)
        results.append((module, fit(module, LONG, where=context(capture=capture), **options(module))))
    assert_same(*results)
    assert not results[1][0].head.weight[:2].any() and results[1][0].head.weight[2:].any()


def test_a_kind_that_comes_too_seldom_is_not_recorded(graphs):
    data = ResidentBatches(torch.zeros(24, 1, 8, 8, dtype=torch.uint8), torch.arange(24) % 10, DIGITS, 8, Training(Augment(), seed=0))
    _, short = trained(RECIPE.changed(epochs=1), data=data)
    assert short.measured["step"] == "eager: at most 3 updates of a kind" and not graphs.kinds


# ------------------------------------------------------------------------------------------------ what cannot be recorded


def test_a_loss_that_waits_for_the_device_stays_eager_and_this_is_said_once(graphs, said):
    def loss(module, images, targets):
        value = cross_entropy(module, images, targets)
        return value * (2.0 if value.item() > 2 else 1.0)

    assert_same(trained(capture=False, loss=loss), first := trained(loss=loss))
    trained(loss=loss)
    assert first[1].measured["step"].startswith("eager: an update waits for the device")
    assert len(said()) == 1 and "waits for the device" in said()[0] and not graphs.kinds


def test_a_loss_that_is_broken_off_while_it_is_recorded_goes_on_eager_to_the_same_bits(graphs, said, monkeypatch):
    def refused(work):
        graphs.recording = True
        try:
            return type(graphs).record(graphs, work)
        finally:
            graphs.recording = False

    graphs.recording = False
    monkeypatch.setattr(graphs, "record", refused)

    def loss(module, images, targets):
        value = cross_entropy(module, images, targets)
        if graphs.recording:
            value.item()
        return value

    recipe = LONG.changed(drop_path=0.2, ema_decay=0.9)
    assert_same(trained(recipe, RESNET, capture=False, loss=loss), broken := trained(recipe, RESNET, loss=loss))
    assert "cannot be recorded (aten::_local_scalar_dense: operation not permitted" in broken[1].measured["step"]
    assert len(said()) == 1


def test_what_stands_against_a_record_from_the_start_is_said(graphs, said, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    _, compiled = trained(LONG.changed(compile=True))
    assert compiled.measured["step"] == "eager: recipe.compile"
    assert said() == ["updates are not replayed from a CUDA graph: recipe.compile"]


def test_a_cpu_says_that_it_records_nothing(said):
    _, plain = trained()
    assert plain.measured["step"] == "eager: nothing is captured on cpu" and not said()


def test_pruned_weights_stay_zero_in_replays(graphs):
    results = []
    for capture in (False, True):
        module = model(spec=FLAT)
        masks = keep_masks({name: weight.detach().abs() for name, weight in prunable(module).items()}, 0.5)
        apply_masks(module, masks)
        with masked_gradients(module, masks):
            results.append((module, fit(module, LONG.changed(clip_grad=0.1), where=context(capture=capture))))
    assert_same(*results)
    assert all(not (module.get_parameter(name) * ~mask).any() for name, mask in masks.items() for module, _ in results)
    assert graphs.replays
