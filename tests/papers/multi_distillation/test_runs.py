"""Multi-distillation's runs: invariants 9, 12 and 13 of its method sheet, and which images they learn from and are measured on."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.papers.multi_distillation.support import (
    DIGITS,
    NETWORK,
    NOTHING,
    ONE_STEP,
    SPEC,
    TEACHER,
    TRANSFORMER,
    WEIGHTS,
    computed,
    taught_by,
)
from tests.support import assert_same_arrays
from vitlib.computing import Result
from vitlib.inputs import data as inputs
from vitlib.inputs.data import training_batches
from vitlib.inputs.models import build, weights_of
from vitlib.methods.distillation.exits import with_exits
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.settings import run_best
from vitlib.papers.multi_distillation.search.space import LETTERS, Range
from vitlib.papers.multi_distillation.specs import Combined, Objective, Proposals
from vitlib.papers.multi_distillation.training import networks as compute
from vitlib.papers.multi_distillation.training.curriculum import Losses


@pytest.fixture
def watched(monkeypatch):
    """The weights before and after each training that a run does, and its batches."""
    seen, train = [], compute.train

    def watch(model, batches, *arguments, **options):
        before = weights_of(model)
        trained = train(model, batches, *arguments, **options)
        seen.append(SimpleNamespace(batches=batches, before=before, after=weights_of(model)))
        return trained

    monkeypatch.setattr(compute, "train", watch)
    return seen


# ------------------------------------------------------------------------------------------------ known methods


def step_of(watched, start, loss):
    """One plain SGD step of backbones taken from what was trained: their weights after it, by `loss(backbones, images, labels)`."""
    (training,) = watched
    backbones = []
    for number in start:
        backbones.append(build(NETWORK, image_size=8, channels=1, num_classes=10).train())
        named = {name: torch.from_numpy(training.before[f"{number}{name}"]) for name in backbones[-1].state_dict()}
        backbones[-1].load_state_dict(named)
    ((images, labels),) = training.batches.epoch(0)
    loss(backbones, images, labels).backward()
    for backbone in backbones:
        torch.optim.SGD(backbone.parameters(), lr=0.05).step()
    return [
        {number + name: torch.from_numpy(array) for name, array in weights_of(b).items()}
        for number, b in zip(start, backbones, strict=True)
    ]


def assert_stepped(watched, expected):
    (training,) = watched
    for name, weights in expected.items():
        assert_close(torch.from_numpy(training.after[name]), weights, rtol=1e-4, atol=1e-6)
    assert any((training.after[name] != training.before[name]).any() for name in expected if name.endswith("conv1.weight"))


def test_invariant_9_kd_alone_is_deep_mutual_learning(watched, where):
    def mutual(backbones, images, labels):
        first, second = (backbone(images) for backbone in backbones)
        return sum(
            F.cross_entropy(own, labels) + F.kl_div(own.log_softmax(1), other.detach().softmax(1), reduction="batchmean")
            for own, other in ((first, second), (second, first))
        )

    objective = Objective(weights=NOTHING.changed(a=1.0))
    computed(SPEC.changed(objective=objective), where())
    for expected in step_of(watched, ["networks.0.backbone.", "networks.1.backbone."], mutual):
        assert_stepped(watched, expected)
    assert {name.split(".")[2] for name in watched[0].before} == {"backbone"}  # no exits that nothing would train


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_invariant_9_kd_with_a_frozen_teacher_is_hintons(watched, where, temperature):
    teacher = build(NETWORK, image_size=8, channels=1, num_classes=10)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter += 0.2 * torch.randn_like(parameter)

    def hinton(backbones, images, labels):
        with torch.no_grad():
            taught = (teacher.eval()(images) / temperature).softmax(1)
        logits = backbones[0](images)
        soft = -(taught * ((logits / temperature).log_softmax(1) - taught.log())).sum(1).mean()
        return F.cross_entropy(logits, labels) + temperature**2 * soft

    objective = Objective(weights=NOTHING.changed(a=1.0), kd_temperature=temperature)
    result = computed(SPEC.changed(objective=objective, teacher=TEACHER), where(parent=taught_by(teacher)))
    (expected,) = step_of(watched, ["networks.0.backbone."], hinton)
    assert_stepped(watched, expected)
    after = {name.removeprefix("teacher.backbone."): array for name, array in watched[0].after.items() if name.startswith("teacher.")}
    assert_same_arrays(after, weights_of(teacher))
    assert "top1 peer 2" not in result.metrics


def test_cross_entropy_alone_at_twice_the_label_weight_takes_twice_the_step(watched, where):
    """Of one step of plain SGD, by the weights before and after it."""
    once, twice, at_twice_the_rate = (
        computed(spec, where()) and watched[-1]
        for spec in (TEACHER, TEACHER.changed(label_weight=2.0), TEACHER.changed(recipe=ONE_STEP.changed(lr=0.1)))
    )
    moved = False
    for name in (name for name in once.before if name.endswith("weight")):
        step = once.after[name] - once.before[name]
        assert_close(twice.after[name] - twice.before[name], 2 * step, rtol=1e-3, atol=1e-6)
        assert_close(twice.after[name], at_twice_the_rate.after[name], rtol=1e-6, atol=1e-8)
        moved |= bool(np.abs(step).max() > 1e-4)
    assert moved


def test_invariant_12_three_steps_are_one_on_the_sum_to_first_order():
    """Without momentum and batch norm: a rate half as large leaves a quarter of the difference."""
    ((images, labels),) = training_batches(DIGITS, ONE_STEP, seed=0, device="cpu", data_dir=Path()).epoch(0)
    batches = SimpleNamespace(steps=1, images=30, epoch=lambda *_: [(images.double(), F.one_hot(labels, 10))])
    spec = SPEC.changed(model=TRANSFORMER, objective=Objective(weights=WEIGHTS.changed(a=1.0, b=1.0, c=1.0)))

    def after(order, rate):
        torch.manual_seed(0)
        peers = compute.Peers([with_exits(build(TRANSFORMER, image_size=8, channels=1, num_classes=10)) for _ in range(2)]).double()
        losses = Losses(spec.changed(order=order), batches)
        for update, batch in enumerate(losses.batches.epoch(0)):
            with losses.around_step(update / losses.batches.steps):
                gradients = torch.autograd.grad(losses(peers, *batch), list(peers.parameters()), allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(peers.parameters(), gradients, strict=True):
                    parameter -= 0 if gradient is None else rate * gradient
        assert update == (2 if order == "successive" else 0)
        return torch.cat([parameter.detach().flatten() for parameter in peers.parameters()])

    apart = [float((after("successive", rate) - after("together", rate)).norm()) for rate in (2e-6, 1e-6, 5e-7)]
    assert apart[0] / apart[1] == pytest.approx(4, rel=0.01) and apart[1] / apart[2] == pytest.approx(4, rel=0.01)
    assert 0 < apart[0] < 0.01 * float((after("together", 2e-6) - after("together", 0.0)).norm())


def test_invariant_13_swapping_the_peers_seeds_swaps_their_results(watched, where):
    spec = SPEC.changed(recipe=ONE_STEP.changed(batch_size=10, epochs=2), measured_on="test")
    one, other = (computed(spec.changed(peers=peers), where()).metrics for peers in ((2, 5), (5, 2)))
    assert one["top1"] == other["top1 peer 2"] != one["top1 peer 2"] == other["top1"]
    first, second = (training.after for training in watched)
    swapped = {
        name.replace("networks.0", "x").replace("networks.1", "networks.0").replace("x", "networks.1"): second[name] for name in second
    }
    assert_same_arrays(first, {name: swapped[name] for name in first})


def test_what_a_run_records_is_about_the_first_peer(watched, where):
    result = computed(SPEC, where())
    assert {k: result.metrics[k] for k in LETTERS} == WEIGHTS.model_dump() and result.metrics["label weight"] == WEIGHTS.a + WEIGHTS.c
    last = result.history.iloc[-1]
    assert all(last[f"held-out {name}"] == result.metrics[name] for name in ("top1", "top1 peer 2")) and result.metrics["scale"] == 1
    assert {name for name in last.index if name.startswith("term ")} == {
        f"term {name}" for name in ("CE", "KL", "distance", "angle", "exits CE", "exits soft", "exits hint")
    }
    assert {"top1 exit 1", "top1 exit 2", "top1 exit 3"} <= result.metrics.keys()
    without = computed(SPEC.changed(objective=Objective(weights=WEIGHTS.changed(c=0.0))), where())
    assert not any(name.startswith("top1 exit") for name in without.metrics)


@pytest.mark.parametrize("model", [TRANSFORMER, NETWORK], ids=["vit", "resnet"])
def test_warm_peers_start_from_networks_trained_alone(watched, where, model):
    starts = {seed: build(model, image_size=8, channels=1, num_classes=10) for seed in (3, 4)}
    alone = tuple(TEACHER.changed(model=model, seed=seed) for seed in starts)
    computed(SPEC.changed(model=model, warm_start=alone), where(parent=lambda run: SimpleNamespace(weights=weights_of(starts[run.seed]))))
    for place, network in enumerate(starts.values()):
        for name, array in weights_of(network).items():
            np.testing.assert_array_equal(watched[0].before[f"networks.{place}.backbone.{name}"], array)


# ------------------------------------------------------------------------------------------------ which images


def seen_by(batches):
    return Counter(image.numpy().tobytes() for images, _ in batches.epoch(0) for image in images)


@pytest.mark.parametrize("share", [0.1, 0.25])
@pytest.mark.parametrize("kind", ["trial", "alone", "guided"])
def test_held_out_images_are_measured_and_never_trained_on(watched, where, monkeypatch, share, kind):
    data, loaded, measured = DIGITS.changed(per_class=20), [], []
    load, labels_of = inputs.load, compute.labels_of
    monkeypatch.setattr(inputs, "load", lambda data, split, folder: loaded.append(split) or load(data, split, folder))
    monkeypatch.setattr(compute, "labels_of", lambda batches: measured.append(batches) or labels_of(batches))
    spec = SPEC.changed(data=data, held_out=share, recipe=ONE_STEP.changed(batch_size=10))
    if kind == "alone":
        spec = TEACHER.changed(measured_on="held-out", **{name: getattr(spec, name) for name in ("data", "held_out", "recipe")})
    context = where()
    if kind == "guided":
        space = {k: Range(low=0.1, high=1.0, step=0.1) for k in LETTERS}
        proposals = Proposals(base=spec, space=multi_distillation.Space(**space), search_seed=0, first=1, size=1)
        spec, context = proposals.guided()[0], where(parent=lambda run: SimpleNamespace(arrays={"weights": np.full((1, 9), 0.5)}))
    computed(spec, context)
    assert set(loaded) == {"train"}
    kept, held_out, every = (
        seen_by(watched[0].batches),
        seen_by(measured[-1]),
        seen_by(inputs.test_batches(data, device="cpu", data_dir=Path(), split="train")),
    )
    assert held_out.total() == 10 * 20 * share and kept + held_out == every


@pytest.mark.parametrize("kind", ["trial", "alone", "with a teacher"])
def test_a_runs_accuracies_are_the_means_of_its_right_images(where, kind):
    recipe = ONE_STEP.changed(epochs=4, batch_size=10)
    teacher = build(NETWORK, image_size=8, channels=1, num_classes=10)
    spec = {"trial": SPEC, "alone": TEACHER, "with a teacher": SPEC.changed(teacher=TEACHER, measured_on="test")}[kind].changed(
        recipe=recipe
    )
    result = computed(spec, where(parent=taught_by(teacher)))
    images = {"held-out": 10, "test": 720}[spec.measured_on]
    judged = {name: result.arrays[f"{name} by image"] for name in ("top1", "top1 peer 2") if name in result.metrics}
    assert len(judged) == (2 if kind == "trial" else 1) and set(result.arrays) == {f"{name} by image" for name in judged}
    for name, right in judged.items():
        assert right.dtype == bool and right.shape == (images,) and result.metrics[name] == 100 * right.mean()


def test_learning_curves_are_of_held_out_images_and_results_of_the_test_images(where, monkeypatch):
    splits, load = [], inputs.load
    monkeypatch.setattr(inputs, "load", lambda data, split, folder: splits.append(split) or load(data, split, folder))
    recipe = ONE_STEP.changed(epochs=3, batch_size=10)
    held_out, tested = (computed(SPEC.changed(recipe=recipe, measured_on=images), where()) for images in ("held-out", "test"))
    assert splits.count("test") == 1 and set(splits) == {"train", "test"}
    pd.testing.assert_frame_equal(held_out.history, tested.history)
    assert held_out.history["held-out top1"].iloc[-1] == held_out.metrics["top1"] and "top1" not in tested.history
    assert held_out.metrics["top1"] != tested.metrics["top1"] and len(tested.arrays["top1 by image"]) == 720


def test_the_same_images_are_held_out_whatever_the_seed(watched, where):
    for seed in (0, 1):
        computed(SPEC.changed(seed=seed, peers=(8, 9)), where())
    assert seen_by(watched[0].batches) == seen_by(watched[1].batches)


@pytest.mark.parametrize(("step", "equal_step"), [("as given", None), ("equal", 2.0)])
def test_the_best_setting_is_trained_anew_and_measured_on_the_test_images(study, where, monkeypatch, step, equal_step):
    """Of six random trials the fourth; its weights replace those of the prior-work row and nothing else."""
    settings = study.settings.changed(seeds=(5,))
    chosen, seen = settings.prior.changed(a=0.5, c=0.7, h=3.0), []
    monkeypatch.setattr(Combined, "compute", lambda spec, context: seen.append(spec) or Result({}))
    best = run_best(settings, search="random", step=step, seed=5)
    rows = (
        [settings.prior.model_dump() | {"top1": 10.0}] * 3
        + [chosen.model_dump() | {"top1": 30.0}]
        + [{**NOTHING.model_dump(), "top1": 20.0}] * 2
    )
    answers = {trial.id: SimpleNamespace(metrics=row) for trial, row in zip(best.trials, rows, strict=True)}
    computed(best, where(parent=lambda run: answers[run.id]))
    (run,) = seen
    assert (run.measured_on, run.seed, run.peers, run.objective.weights) == ("test", 10_005, (20_010, 20_011), chosen)
    assert run.objective.label_weight == pytest.approx(1.2, rel=1e-12) and run.equal_step == equal_step
    assert run.changed(objective=best.base.objective) == best.base and best.trials[0].measured_on == "held-out"
