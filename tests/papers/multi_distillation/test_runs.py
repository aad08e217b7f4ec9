"""Multi-distillation's runs: invariants 9, 12 and 13 of its method sheet, images held out, experiment 2, what is refused.

The other invariants are in test_relations.py, the search is in test_multi_distillation_search.py.
"""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.support import assert_same_arrays, assert_same_result
from vitlib import load_study
from vitlib.inputs import data as inputs
from vitlib.inputs.data import training_batches
from vitlib.inputs.models import ResNet, Vit, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.methods.distillation.exits import with_exits
from vitlib.papers import multi_distillation
from vitlib.papers.multi_distillation.search.settings import run_best, run_curriculum, run_prior_equal
from vitlib.papers.multi_distillation.search.space import LETTERS, Range, Weights
from vitlib.papers.multi_distillation.specs import Alone, Combined, Objective, Proposals
from vitlib.papers.multi_distillation.training import compute, curriculum
from vitlib.papers.multi_distillation.training.curriculum import Losses, Repeated, groups_at
from vitlib.papers.multi_distillation.training.step import at_equal_step
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import one_thread
from vitlib.runs.study import Study
from vitlib.spec import Context, Result, SpecError

DIGITS = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))  # 30 images to train on, 10 held out
NETWORK = ResNet(width=4, blocks=(1, 1, 1, 1))
TRANSFORMER = Vit(embed_dim=8, depth=4, num_heads=2, patch_size=4)
ONE_STEP = Recipe(epochs=1, batch_size=30, lr=0.05, optimizer="momentum", weight_decay=0.0, min_lr=0.0)
WEIGHTS = Weights(a=0.3, b=0.7, c=0.9, d=1.0, e=2.0, f=0.5, g=0.2, h=0.4, i=0.6)
NOTHING = Weights(**dict.fromkeys(LETTERS, 0.0))
SPEC = Combined(
    model=NETWORK, data=DIGITS, recipe=ONE_STEP, seed=0, objective=Objective(weights=WEIGHTS), held_out=0.1, measured_on="held-out"
)
TEACHER = Alone(model=NETWORK, data=DIGITS, recipe=ONE_STEP, seed=7, held_out=0.1, measured_on="test")


def smoke_of(folder, **options) -> Study:
    return load_study("multi_distillation", "smoke", results_dir=str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return smoke_of(tmp_path_factory.mktemp("multi") / "results")


@pytest.fixture
def where(tmp_path):
    """Makes a context."""
    return lambda **fields: Context("cpu", tmp_path, **{"scratch": None, "parent": lambda run: None, **fields})


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


def result_of(spec, context):
    with one_thread("cpu"):
        return spec.compute(context)


def taught_by(network):
    """What the store would answer: the teacher's weights."""
    return lambda run: SimpleNamespace(weights=weights_of(network))


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
    result_of(SPEC.changed(objective=objective), where())
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
    result = result_of(SPEC.changed(objective=objective, teacher=TEACHER), where(parent=taught_by(teacher)))
    (expected,) = step_of(watched, ["networks.0.backbone."], hinton)
    assert_stepped(watched, expected)
    after = {name.removeprefix("teacher.backbone."): array for name, array in watched[0].after.items() if name.startswith("teacher.")}
    assert_same_arrays(after, weights_of(teacher))
    assert "top1 peer 2" not in result.metrics


def test_cross_entropy_alone_at_twice_the_label_weight_takes_twice_the_step(watched, where):
    """Of one step of plain SGD, by the weights before and after it."""
    once, twice, at_twice_the_rate = (
        result_of(spec, where()) and watched[-1]
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
    one, other = (result_of(spec.changed(peers=peers), where()).metrics for peers in ((2, 5), (5, 2)))
    assert one["top1"] == other["top1 peer 2"] != one["top1 peer 2"] == other["top1"]
    first, second = (training.after for training in watched)
    swapped = {
        name.replace("networks.0", "x").replace("networks.1", "networks.0").replace("x", "networks.1"): second[name] for name in second
    }
    assert_same_arrays(first, {name: swapped[name] for name in first})


def test_what_a_run_records_is_about_the_first_peer(watched, where):
    result = result_of(SPEC, where())
    assert {k: result.metrics[k] for k in LETTERS} == WEIGHTS.model_dump() and result.metrics["label weight"] == WEIGHTS.a + WEIGHTS.c
    last = result.history.iloc[-1]
    assert all(last[f"held-out {name}"] == result.metrics[name] for name in ("top1", "top1 peer 2")) and result.metrics["scale"] == 1
    assert {name for name in last.index if name.startswith("term ")} == {
        f"term {name}" for name in ("CE", "KL", "distance", "angle", "exits CE", "exits soft", "exits hint")
    }
    assert {"top1 exit 1", "top1 exit 2", "top1 exit 3"} <= result.metrics.keys()
    without = result_of(SPEC.changed(objective=Objective(weights=WEIGHTS.changed(c=0.0))), where())
    assert not any(name.startswith("top1 exit") for name in without.metrics)


@pytest.mark.parametrize("model", [TRANSFORMER, NETWORK], ids=["vit", "resnet"])
def test_warm_peers_start_from_networks_trained_alone(watched, where, model):
    starts = {seed: build(model, image_size=8, channels=1, num_classes=10) for seed in (3, 4)}
    alone = tuple(TEACHER.changed(model=model, seed=seed) for seed in starts)
    result_of(SPEC.changed(model=model, warm_start=alone), where(parent=lambda run: SimpleNamespace(weights=weights_of(starts[run.seed]))))
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
    result_of(spec, context)
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
    result = result_of(spec, where(parent=taught_by(teacher)))
    images = {"held-out": 10, "test": 720}[spec.measured_on]
    judged = {name: result.arrays[f"{name} by image"] for name in ("top1", "top1 peer 2") if name in result.metrics}
    assert len(judged) == (2 if kind == "trial" else 1) and set(result.arrays) == {f"{name} by image" for name in judged}
    for name, right in judged.items():
        assert right.dtype == bool and right.shape == (images,) and result.metrics[name] == 100 * right.mean()


def test_learning_curves_are_of_held_out_images_and_results_of_the_test_images(where, monkeypatch):
    splits, load = [], inputs.load
    monkeypatch.setattr(inputs, "load", lambda data, split, folder: splits.append(split) or load(data, split, folder))
    recipe = ONE_STEP.changed(epochs=3, batch_size=10)
    held_out, tested = (result_of(SPEC.changed(recipe=recipe, measured_on=images), where()) for images in ("held-out", "test"))
    assert splits.count("test") == 1 and set(splits) == {"train", "test"}
    pd.testing.assert_frame_equal(held_out.history, tested.history)
    assert held_out.history["held-out top1"].iloc[-1] == held_out.metrics["top1"] and "top1" not in tested.history
    assert held_out.metrics["top1"] != tested.metrics["top1"] and len(tested.arrays["top1 by image"]) == 720


def test_the_same_images_are_held_out_whatever_the_seed(watched, where):
    for seed in (0, 1):
        result_of(SPEC.changed(seed=seed, peers=(8, 9)), where())
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
    best.compute(where(parent=lambda run: answers[run.id]))
    (run,) = seen
    assert (run.measured_on, run.seed, run.peers, run.objective.weights) == ("test", 10_005, (20_010, 20_011), chosen)
    assert run.objective.label_weight == pytest.approx(1.2, rel=1e-12) and run.equal_step == equal_step
    assert run.changed(objective=best.base.objective) == best.base and best.trials[0].measured_on == "held-out"


# ------------------------------------------------------------------------------------------------ an equal step


def length(loss, network):
    """Of a gradient over all parameters, by autograd's own accumulation."""
    network.zero_grad()
    loss.backward()
    return float(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double().norm())


EQUAL = {
    "all terms": {},
    "without exits": {"objective": Objective(weights=WEIGHTS.changed(c=0.0))},
    "scaled before": {"objective": Objective(weights=WEIGHTS, scale=7.0)},
    "transformers": {"model": TRANSFORMER},
    "a teacher": {"teacher": TEACHER},
    "smoothed": {"recipe": ONE_STEP.changed(batch_size=10, label_smoothing=0.1)},
}


@pytest.mark.parametrize("kind", EQUAL)
def test_at_an_equal_step_the_first_gradient_is_as_long_as_that_of_cross_entropy(where, kind):
    """Both by a backward pass of what is trained on, on copies of the networks that training starts from."""
    spec = SPEC.changed(equal_step=1.7, **EQUAL[kind])
    context = where(parent=taught_by(build(NETWORK, image_size=8, channels=1, num_classes=10)))
    batches = training_batches(DIGITS, spec.recipe, seed=0, device="cpu", data_dir=Path())
    scaled = at_equal_step(spec, compute.pair(spec, context), batches)
    assert scaled.equal_step is None and scaled.changed(objective=spec.objective, equal_step=1.7) == spec
    images, labels = next(iter(batches.epoch(0)))
    smoothing = spec.recipe.label_smoothing
    targets = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
    model = compute.pair(spec, context).train()
    trained_on = length(Losses(scaled, batches)(model, images, targets), model.networks[0].backbone)
    alone = build(spec.model, image_size=8, channels=1, num_classes=10).train()
    alone.load_state_dict(model.networks[0].backbone.state_dict())
    labels_alone = length(1.7 * F.cross_entropy(alone(images), targets), alone)
    assert labels_alone > 0.01 and trained_on == pytest.approx(labels_alone, rel=1e-5)


@pytest.mark.parametrize("model", [NETWORK, TRANSFORMER], ids=["resnet", "vit"])
def test_measuring_the_first_gradient_leaves_the_networks_as_they_were(where, model):
    spec = SPEC.changed(equal_step=2.0, model=model)
    networks = compute.pair(spec, where())
    before = weights_of(networks)
    at_equal_step(spec, networks, training_batches(DIGITS, ONE_STEP, seed=0, device="cpu", data_dir=Path()))
    assert_same_arrays(weights_of(networks), before)
    assert all(parameter.grad is None for parameter in networks.parameters()) and networks.training


def test_a_run_at_an_equal_step_is_the_run_of_its_scale(where):
    scaled = result_of(SPEC.changed(equal_step=2.0), where())
    again = result_of(SPEC.changed(objective=Objective(weights=WEIGHTS, scale=scaled.metrics["scale"])), where())
    assert scaled.metrics["scale"] != 1 and scaled.metrics["label weight"] == pytest.approx(
        scaled.metrics["scale"] * (WEIGHTS.a + WEIGHTS.c)
    )
    assert_same_result(scaled, again)


def test_cross_entropy_alone_has_its_label_weight_at_an_equal_step(where):
    """As KD whose only term are the labels: its scale is the label weight."""
    objective = Objective(weights=NOTHING.changed(a=0.5), kd="ce")
    assert result_of(SPEC.changed(objective=objective, equal_step=2.0), where()).metrics["label weight"] == pytest.approx(2, rel=1e-5)


# ------------------------------------------------------------------------------------------------ experiment 2


@pytest.mark.parametrize("updates", [3, 9, 30, 31, 32])
def test_each_loss_gets_a_third_of_the_updates_in_its_order(updates):
    together, successive, phases = (
        [groups_at(order, update, updates) for update in range(updates)] for order in ("together", "successive", "phases")
    )
    assert together == [("kd", "rkd", "skd")] * updates
    assert successive == ([("kd",), ("rkd",), ("skd",)] * updates)[:updates]
    assert phases == sorted(phases) and set(phases) == {("kd",), ("rkd",), ("skd",)}
    assert all(abs(count - updates / 3) < 1 for count in Counter(phases).values())


@pytest.mark.parametrize("order", ["together", "successive", "phases"])
def test_a_training_takes_its_losses_in_turn(where, monkeypatch, order):
    """Three epochs of three batches: which loss each update is on, and on which images."""
    seen, loss_terms = [], curriculum.loss_terms

    def watch(own, taught, targets, objective, groups):
        seen.append((groups, targets.argmax(1).tolist()))
        return loss_terms(own, taught, targets, objective, groups)

    monkeypatch.setattr(curriculum, "loss_terms", watch)
    result_of(SPEC.changed(order=order, recipe=ONE_STEP.changed(epochs=3, batch_size=10)), where())
    groups, labels = zip(*seen[::2], strict=True)
    assert seen[::2] == seen[1::2]  # both peers
    repeats = 3 if order == "successive" else 1
    assert len(groups) == 9 * repeats
    batches = [labels[first : first + repeats] for first in range(0, len(labels), repeats)]
    assert all(len(set(map(tuple, batch))) == 1 for batch in batches) and len({tuple(batch[0]) for batch in batches}) == 9
    each = [("kd",), ("rkd",), ("skd",)]
    assert (
        list(groups)
        == {"together": [("kd", "rkd", "skd")] * 9, "successive": each * 9, "phases": [g for g in each for _ in range(3)]}[order]
    )


@pytest.mark.parametrize("times", [1, 3])
def test_repeated_batches_go_on_in_the_middle(times):
    recipe = ONE_STEP.changed(batch_size=10, augment=Augment(crop=1, erasing=0.5))
    batches = training_batches(DIGITS, recipe, seed=0, device="cpu", data_dir=Path())
    repeated = Repeated(batches, times)
    assert repeated.steps == 4 * times and repeated.images == 40
    for epoch in (0, 1):
        whole = list(repeated.epoch(epoch))
        singles = list(batches.epoch(epoch))
        assert len(whole) == repeated.steps
        for step, (images, labels) in enumerate(whole):
            assert torch.equal(images, singles[step // times][0]) and torch.equal(labels, singles[step // times][1])
        for start in range(repeated.steps + 1):
            tail = list(repeated.epoch(epoch, start))
            assert len(tail) == len(whole) - start
            assert all(
                torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in zip(tail, whole[start:], strict=True)
            )


@pytest.mark.parametrize(
    ("order", "fields", "stop"),
    [
        ("together", {"mixup": 0.8}, 4),
        ("together", {"equal_step": 2.0}, 4),
        ("phases", {"mixup": 0.8}, 4),
        ("successive", {"augment": Augment(crop=1, erasing=0.5)}, 5),
        ("successive", {"augment": Augment(crop=1, erasing=0.5)}, 12),
    ],
)
def test_a_run_killed_in_the_middle_ends_as_one_that_was_not(where, tmp_path, order, fields, stop):
    step = {"equal_step": fields.get("equal_step")}
    recipe = ONE_STEP.changed(batch_size=10, epochs=2, **{name: value for name, value in fields.items() if name not in step})
    spec, steps = SPEC.changed(order=order, recipe=recipe, **step), []

    def tick(*_):
        steps.append(0)
        if len(steps) == stop:
            raise KeyboardInterrupt

    whole = result_of(spec, where())
    with pytest.raises(KeyboardInterrupt):
        result_of(spec, where(scratch=tmp_path, checkpoint_every=0.0, tick=tick))
    resumed = result_of(spec, where(scratch=tmp_path))
    assert_same_result(resumed, whole)


def test_experiment_2_is_the_prior_work_row_without_a_b_and_c_at_comparable_steps(study):
    prior = study.settings.prior
    runs = {order: run_curriculum(study.settings, order=order, seed=0) for order in ("sum", "successive", "phases")}
    assert [run.order for run in runs.values()] == ["together", "successive", "phases"]
    for run in runs.values():
        w = run.objective.weights
        assert (w.a, w.b, w.c) == (1, 1, 1) and all(getattr(w, letter) == getattr(prior, letter) for letter in "defghi")
        assert run.measured_on == "test"
    assert [run.objective.scale for run in runs.values()] == [1, 1, 3]
    assert runs["sum"].objective.label_weight == pytest.approx(run_prior_equal(study.settings, seed=0).equal_step)
    assert {run.equal_step for run in runs.values()} == {None}


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("fields", "weights", "message"),
    [
        ({"exit_form": "convex"}, {"h": 1.1}, r"h=1\.1 with exit_form='convex' trains away from the labels; allowed: at most 1"),
        ({}, {"f": 0.0}, r"f=0\.0, g=0\.2 are smooth-L1 thresholds; allowed: above 0"),
        ({}, {"g": 0.0}, r"f=0\.5, g=0\.0 are smooth-L1 thresholds; allowed: above 0"),
        ({}, {"a": 0.0, "c": 0.0}, r"a=0\.0, c=0\.0, h=0\.4 with kd='ce\+kl': no label .*allowed: a above 0, or c above 0$"),
        ({"kd": "kl"}, {"c": 0.0}, r"a=0\.3, c=0\.0, h=0\.4 with kd='kl': no label .*allowed: c above 0$"),
        ({"exit_form": "convex", "kd": "kl"}, {"h": 1.0}, r"h=1\.0 with kd='kl': no label .*c above 0 with h below 1$"),
        ({"kd": "ce", "kd_temperature": 4.0}, {}, r"kd_temperature=4\.0 with kd='ce' .* have no KL; allowed: 1\.0"),
        ({"exit_form": "concave"}, {}, r"exit_form: got 'concave'.*'additive' or 'convex'"),
        ({"kd_temperature": 0.0}, {}, r"kd_temperature: got 0\.0; .*greater than 0"),
        ({"scale": -1.0}, {}, r"scale: got -1\.0; .*greater than 0"),
        ({}, {"d": -25.0}, r"d: got -25\.0; .*greater than or equal to 0"),
        ({}, {"h": float("nan")}, r"h: got nan; .*finite"),
    ],
)  # fmt: skip
def test_objectives_that_cannot_be_learnt_from_are_refused(fields, weights, message):
    with pytest.raises(SpecError, match=message):
        Objective(weights=WEIGHTS).changed(weights=WEIGHTS.changed(**weights), **fields)


@pytest.mark.parametrize(
    ("fields", "weights"),
    [
        ({"exit_form": "convex"}, {"h": 1.0}),
        ({"exit_form": "additive"}, {"h": 5.0}),
        ({}, {"b": 0.0, "f": 0.0, "g": 0.0}),
        ({"relation_reading": "multiplicative"}, {"f": 0.0}),
        ({"kd": "kl"}, {}),
        ({}, {"a": 0.0}),
    ],
)
def test_their_neighbours_are_not(fields, weights):
    assert Objective(weights=WEIGHTS.changed(**weights), **fields).label_weight > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peers": (3, 3)}, r"peers=\(3, 3\) are copies of one network.*allowed: two seeds"),
        ({"teacher": TEACHER, "warm_start": (TEACHER, TEACHER)}, r"teacher and warm_start exclude each other; give one"),
        (
            {"order": "phases", "objective": Objective(weights=WEIGHTS.changed(b=0.0))},
            r"order='phases' with a=0\.3, b=0\.0, c=0\.9; allowed: all three above 0",
        ),
        *(
            ({"order": "successive", "recipe": ONE_STEP.changed(**{name: 0.8})}, rf"recipe\.{name}=0\.8; allowed: 0\.0, .* the same batch")
            for name in ("mixup", "cutmix")
        ),
        (
            {"order": "phases", "equal_step": 2.0},
            r"order='phases' with equal_step=2\.0; allowed: order='together', whose first step is on all terms",
        ),
        ({"equal_step": 0.0}, r"equal_step: got 0\.0; .*greater than 0"),
        ({"order": "random"}, r"order: got 'random'; .*'together', 'successive' or 'phases'"),
        ({"held_out": 0.0}, r"held_out: got 0\.0; .*greater than 0"),
        ({"held_out": 1.0}, r"held_out: got 1\.0; .*less than 1"),
        ({"measured_on": "train"}, r"measured_on: got 'train'; .*'held-out' or 'test'"),
    ],
)
def test_runs_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(SpecError, match=message):
        SPEC.changed(**fields)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rounds": 3, "positions": 2}, r"rounds=3 of positions=2 are no fewer than numbers=6; allowed: fewer"),
        ({"methods": {"prior": {"objective": {"weights": WEIGHTS.model_dump()}}}}, r"methods: prior; allowed: other names"),
        ({"recipe": {"ema_decay": 0.9}}, r"recipe\.ema_decay=0\.9; allowed: None"),
        ({"recipe": {"mixup": 0.8}}, r"recipe\.mixup=0\.8; allowed: 0\.0"),
        ({"recipe": {"drop_path": 0.1}}, r"recipe\.drop_path=0\.1; allowed: 0\.0"),
        ({"space": {"a": {"low": 1.0}}}, r"space\.a: low=1\.0 and high=1\.0; allowed: low below high"),
        ({"space": {"a": {"step": 0.0}}}, r"space\.a\.step: got 0\.0; .*greater than 0"),
        ({"prior": {"j": 1.0}}, r"prior\.j: unknown field.* allowed: a, b, c"),
        (
            {"seeds": [0, 1], "trial_seeds": [0]},
            r"seeds=\[0, 1\] and trial_seeds=\[0\]; allowed: as many of one as of the other, since each seed of the comparison",
        ),
        ({"trial_seeds": [3, 4]}, r"seeds=\[0\] and trial_seeds=\[3, 4\]; allowed: as many"),
        ({"numbers": 3}, r"numbers: got 3; .*greater than or equal to 4"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(overrides, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        smoke_of(tmp_path, overrides=overrides)
