"""Runs with two teachers: frozen ones and what is known of them, one killed in the middle, what is recorded."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.papers.dual_ssl_kd.support import DIGITS, ONE_STEP, STUDENT, drawn, images, mean_divergence, mixed, soft_cross_entropy
from tests.support import assert_same_arrays, assert_same_result
from vitlib.computing import result_of
from vitlib.inputs.data import test_batches as batches_of
from vitlib.inputs.models import weights_of
from vitlib.papers.dual_ssl_kd import compute
from vitlib.papers.dual_ssl_kd.ends import CUTS
from vitlib.papers.dual_ssl_kd.joint import loss_terms
from vitlib.papers.dual_ssl_kd.specs import Taught, Tuned
from vitlib.runs.workers.one import one_thread
from vitlib.teachers.task import with_fresh_head
from vitlib.training import remembered
from vitlib.training.evaluate import scores_of


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_taught_student_gets_cross_entropy_and_the_mean_divergence_from_its_teachers(count):
    student, *teachers = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(count + 1))
    value = compute.taught_loss(student, images(), theirs(teachers, images()), mixed())
    divergences = [mean_divergence(teacher(images()), student(images())) for teacher in teachers]
    expected = soft_cross_entropy(student(images()), mixed()) + (np.mean(divergences) if teachers else 0)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert all(parameter.grad.any() for parameter in student.parameters())
    assert all(parameter.grad is None for teacher in teachers for parameter in teacher.parameters())


def theirs(teachers, pictures):
    with torch.no_grad():
        return compute.logits_of(teachers)(pictures)


def test_teachers_of_a_taught_student_are_the_tuned_ones_frozen_and_in_eval_mode(spec, where, monkeypatch):
    tuned = tuple(Tuned(teacher=t, data=DIGITS, recipe=ONE_STEP, seed=0, protocol="finetune") for t in (spec.cl, spec.mim))
    stored = {run.id: result_of(run, where()) for run in tuned}
    seen, logits_of = [], compute.logits_of
    monkeypatch.setattr(compute, "logits_of", lambda teachers: logits_of(seen.append(teachers) or teachers))
    taught = Taught(student=STUDENT, data=DIGITS, recipe=ONE_STEP, seed=0, teachers=tuned)
    result_of(taught, where(parent=lambda run: stored[run.id]))
    for teacher, run in zip(*seen, tuned, strict=True):
        assert_same_arrays(weights_of(teacher), stored[run.id].weights)
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())


@torch.no_grad()
@pytest.mark.parametrize("protocol", list(CUTS))
def test_a_teacher_in_two_parts_is_the_teacher(spec, where, protocol):
    teacher, cut = drawn(with_fresh_head(spec.cl, DIGITS, 0, where())).eval(), CUTS[protocol]
    assert_close(cut.end(teacher, cut.front(teacher, images())), teacher(images()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("protocol", list(CUTS))
def test_what_is_trained_lies_in_the_end_of_a_cut_alone(spec, where, protocol):
    teacher, cut = with_fresh_head(spec.cl, DIGITS, 0, where()), CUTS[protocol]
    compute.adapt(teacher, protocol)
    front = cut.front(teacher, images())
    assert not front.requires_grad
    trained = [parameter for parameter in teacher.parameters() if parameter.requires_grad]
    assert all(gradient is not None for gradient in torch.autograd.grad(cut.end(teacher, front).square().sum(), trained))


def test_known_tokens_give_the_joint_loss_and_gradients_of_the_images_alone(spec, model):
    model.double()
    pictures, trained = images().double(), [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        known = tuple(torch.cat(parts) for parts in zip(*(model.frozen(half) for half in pictures.split(3)), strict=True))
    found = [loss_terms(outputs, mixed().double(), spec).total for outputs in (model(pictures, known), model(pictures))]
    assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)
    assert_close(*(torch.autograd.grad(value, trained) for value in found), rtol=1e-6, atol=1e-6)


def kinds(spec):
    tuned = Tuned(teacher=spec.cl, data=spec.data, recipe=spec.recipe, seed=0, protocol="finetune")
    return {
        "joint": spec,
        "taught": Taught(student=STUDENT, data=spec.data, recipe=spec.recipe, seed=0, teachers=(tuned,)),
        "linear": tuned.changed(protocol="linear"),
        "partial1": tuned.changed(protocol="partial1"),
    }


@pytest.mark.parametrize("kind", ["joint", "taught", "linear", "partial1"])
def test_a_run_that_remembers_frozen_outputs_trains_as_one_that_computes_them_anew(spec, where, watched, monkeypatch, kind):
    spec = spec.changed(recipe=ONE_STEP.changed(epochs=3), data=DIGITS.changed(per_class=2), lambda_2=0.5)
    run = kinds(spec)[kind]
    at = where(parent=lambda parent: result_of(parent, where()))
    losses = []
    for most in (remembered.MOST_BYTES, 0):
        monkeypatch.setattr(remembered, "MOST_BYTES", most)
        losses.append(result_of(run, at).history["loss"].to_numpy())
    looked_up, anew = (watched[index].after for index in (len(watched) // 2 - 1, -1))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name in anew:
        assert looked_up[name] == pytest.approx(anew[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("protocol", ["linear", "partial1"])
def test_dropping_paths_of_frozen_blocks_is_refused(spec, protocol):
    tuned = Tuned(teacher=spec.cl, data=DIGITS, recipe=ONE_STEP.changed(drop_path=0.1), seed=0, protocol="finetune")
    with pytest.raises(ValueError, match=r"recipe.drop_path=0.1; allowed: 0.0, frozen blocks run whole"):
        tuned.changed(protocol=protocol)


def test_rates_by_layer_are_refused_where_three_networks_train(spec):
    with pytest.raises(ValueError, match=r"recipe.layer_decay=0.65; allowed: None, each of the three networks has one rate"):
        spec.changed(recipe=ONE_STEP.changed(layer_decay=0.65))


def test_the_classifier_is_drawn_from_the_seed_and_the_rest_is_the_teachers(spec, where):
    one, again, other = (with_fresh_head(spec.cl, DIGITS, seed, where()) for seed in (0, 0, 1))
    assert torch.equal(one.head.weight, again.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert one.head.weight.shape == (10, 16) and not one.head.bias.any() and one.head.weight.any()
    origin = weights_of(spec.cl.module(where(), image_size=8))
    assert_same_arrays({name: array for name, array in weights_of(one).items() if not name.startswith("head")}, origin)


def test_a_joint_run_killed_in_the_middle_ends_as_one_that_was_not(spec, where, tmp_path):
    recipe = ONE_STEP.changed(epochs=3, drop_path=0.2, mixup=0.8)
    spec = spec.changed(recipe=recipe, data=DIGITS.changed(per_class=2), lambda_2=0.5)
    steps = []

    def tick(*_):
        steps.append(0)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with one_thread("cpu"):
        whole = result_of(spec, where())
        with pytest.raises(KeyboardInterrupt):
            result_of(spec, where(scratch=tmp_path, checkpoint_every=0.0, tick=tick))
        resumed = result_of(spec, where(scratch=tmp_path, tick=lambda *_: steps.append(0)))
    assert len(steps) == 4 + 3 and len(whole.history) == 3
    assert_same_result(resumed, whole)


def test_what_a_joint_run_records_is_about_its_final_networks(spec, where, watched):
    result = result_of(spec, where())
    model = watched[0].model.eval()
    last, named = result.history.iloc[-1], {"student": "top1", "cl": "top1 cl", "mim": "top1 mim"}
    for split in ("validation", "test"):
        batches = batches_of(DIGITS, split=split, device="cpu", data_dir=where().data_dir)
        for network, name in named.items():
            right = scores_of(getattr(model, network), batches).argmax(dim=1) == batches.labels
            found = last[f"validation {name}"] if split == "validation" else result.metrics[name]
            assert found == 100 * float(right.double().mean())
    assert set(result.metrics) == {*named.values(), "validation top1"}
    assert result.arrays["confidence student"].shape == (2, 3)
    for name in ("cl", "mim"):
        found = result.arrays[f"confidence {name}"]
        assert found.shape == (12, 4) and found[-1].argmax() == last[f"{name}_head"]
        assert ((found > 1 / 5) & (found < 1)).all()
