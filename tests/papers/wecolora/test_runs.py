"""WeCoLoRA's runs: distances and accuracies from start to end, killed and resumed, spectra, cost and time."""

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.methods.adapters.support import STARTS
from tests.papers.wecolora.support import DIGITS, RECIPE, STILL, images, trained
from tests.support import Killed, assert_same_arrays, assert_same_result, killing
from vitlib.computing import result_of
from vitlib.inputs.data import seed_everything
from vitlib.inputs.models import parameter_count
from vitlib.inputs.sources import load
from vitlib.methods.adapters.lora import LoraLinear
from vitlib.papers.wecolora.compute import students as compute
from vitlib.papers.wecolora.specs import Copied, Costs, Downstream, Spectra, StageTimes
from vitlib.recipe import Augment, Recipe
from vitlib.runs.workers.one import one_thread

# ------------------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("kind", STARTS)
def test_a_run_begins_at_the_distance_of_its_start_and_comes_closer(spec, where, kind):
    metrics = result_of(spec.changed(lora_init=kind, recipe=RECIPE.changed(lr=0.02)), where()).metrics
    assert metrics["last"] == metrics["block 6"] < metrics["step-0 last"] == metrics["step-0 block 6"]
    if kind == "svd_shift":
        zero = result_of(spec.changed(recipe=STILL), where()).metrics
        steps = [f"step-0 block {block}" for block in range(1, 7)]
        assert [metrics[step] for step in steps] == pytest.approx([zero[step] for step in steps], rel=1e-4)


def test_a_seed_gives_the_same_run_to_the_bit_and_another_seed_another(spec, where):
    staged = spec.changed(staged_epochs=1, recipe=RECIPE.changed(augment=Augment(crop=1)))
    with one_thread("cpu"):
        one = result_of(staged, where())
        torch.manual_seed(99)
        again, other = result_of(staged, where()), result_of(staged.changed(seed=1), where())
    assert_same_result(one, again)
    assert any((one.weights[name] != other.weights[name]).any() for name in one.weights)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["zero_b", "svd_shift"])
def test_a_run_killed_in_several_stages_and_resumed_ends_in_the_same_bits(spec, where, tmp_path, kind, cached):
    staged = spec.changed(lora_init=kind, staged_epochs=1, cached=cached)
    left = [3, 5, 8]  # updates until each kill: within stage 2, in stage 4, with the whole student
    tick = killing(left)

    with one_thread("cpu"):
        whole = result_of(staged, where())
        for _ in range(3):
            with pytest.raises(Killed):
                result_of(staged, where(scratch=tmp_path, tick=tick, checkpoint_every=0.0))
        assert any(tmp_path.iterdir())
        resumed = result_of(staged, where(scratch=tmp_path, checkpoint_every=0.0))
    assert_same_result(resumed, whole)


def test_the_stored_student_computes_what_the_adapted_one_computed(spec, where):
    student, result = trained(spec, where()).student, result_of(spec, where())
    downstream = Downstream(teacher=spec.teacher, student=spec, data=DIGITS, recipe=RECIPE, seed=0)
    backbone = compute.backbone_of(downstream, where(parent=lambda run: result))
    assert not [module for module in backbone.modules() if isinstance(module, LoraLinear)]
    assert_close(backbone(images()), student.eval()(images()), rtol=1e-4, atol=1e-4)


def test_weight_copy_at_r_1_is_worth_what_the_teacher_is_worth(spec, where):
    probe = Recipe(epochs=5, batch_size=20, lr=2.0, optimizer="lars", weight_decay=0.0, eval_every=5)
    data = DIGITS.changed(per_class=10)
    own = Downstream(teacher=spec.teacher, student=None, data=data, recipe=probe, seed=0)
    copied = Copied(teacher=spec.teacher, data=DIGITS, reduction=1)
    result = result_of(copied, where())
    assert result.metrics["parameters"] == parameter_count(compute.frozen_teacher(spec.teacher, 8, where()))
    one, other = result_of(own, where()), result_of(own.changed(student=copied), where(parent=lambda run: result))
    assert_same_result(one, other)
    assert 10 < one.metrics["top1"] < one.metrics["top5"] <= 100


@pytest.mark.parametrize("protocol", ["probe", "finetune"])
def test_accuracy_downstream_follows_from_the_seed_and_leaves_the_student_alone(spec, where, protocol):
    recipe = Recipe(epochs=2, batch_size=20, lr=1e-2)
    copied = Copied(teacher=spec.teacher, data=DIGITS, reduction=3)
    result = result_of(copied, where())
    before = copy.deepcopy(result.weights)
    downstream = Downstream(
        teacher=spec.teacher, student=copied, data=DIGITS.changed(per_class=5), recipe=recipe, seed=0, protocol=protocol
    )  # fmt: skip
    one = result_of(downstream, where(parent=lambda run: result))
    seed_everything(99)
    assert_same_result(result_of(downstream, where(parent=lambda run: result)), one)
    assert_same_arrays(result.weights, before)


def test_the_probe_is_fitted_to_training_images_and_asked_about_test_and_validation_images(spec, where, teacher, monkeypatch):
    given, probe = [], compute.linear_probe

    def watched(bank, labels, queries, *rest, **options):
        given.extend([bank, labels, queries])
        return probe(bank, labels, queries, *rest, **options)

    monkeypatch.setattr(compute, "linear_probe", watched)
    recipe = Recipe(epochs=1, batch_size=10, lr=0.1, optimizer="lars")
    metrics = result_of(Downstream(teacher=spec.teacher, student=None, data=DIGITS, recipe=recipe, seed=0), where()).metrics
    (seen, labels), (asked, true), (watched_on, _) = (load(DIGITS, split, where().data_dir) for split in ("train", "test", "validation"))
    for tokens, pictures in ((given[0], seen), (given[2], np.concatenate([asked, watched_on]))):
        normalised = (torch.from_numpy(pictures).float() / 255 - 0.304) / 0.375
        assert_close(tokens, teacher.forward_features(normalised)[:, 0], rtol=1e-4, atol=1e-4)
    assert np.array_equal(given[1], labels)
    assert (len(seen), len(asked), len(watched_on)) == (10, 720, 179)
    for name, count in (("top1", len(true)), ("validation top1", 179)):
        assert metrics[name] * count / 100 == pytest.approx(round(metrics[name] * count / 100), abs=1e-9)


def test_spectra_hold_the_distances_of_the_starts_and_the_energy_of_each_dropped_matrix(spec, where, teacher):
    found = result_of(Spectra(teacher=spec.teacher, data=DIGITS, reduction=2, ranks=(2, 8), images=16), where()).arrays
    assert found["step-0"].shape == (3, 2, 6)
    zero, svd, shifted = found["step-0"]
    np.testing.assert_allclose(zero[0], zero[1])
    np.testing.assert_allclose(shifted, zero, rtol=1e-4)
    assert (np.abs(svd[0] - svd[1]) > 1e-3).all()
    for name, rows in {"q": slice(0, 8), "k": slice(8, 16), "v": slice(16, 24)}.items():
        sigma = np.linalg.svd(teacher.blocks[3].attn.qkv.weight[rows].double().numpy(), compute_uv=False)
        np.testing.assert_allclose(found[f"energy {name}"][1], np.cumsum(sigma**2) / (sigma**2).sum(), rtol=1e-6)
    assert {name for name in found if name.startswith("energy")} == {f"energy {name}" for name in ("q", "k", "v", "proj", "fc1", "fc2")}


def test_spectra_look_at_as_many_images_as_they_are_told(spec, where):
    few, more = (result_of(Spectra(teacher=spec.teacher, data=DIGITS, reduction=2, ranks=(2,), images=count), where()) for count in (4, 64))
    assert not np.array_equal(few.arrays["step-0"], more.arrays["step-0"])


def test_spectra_of_several_dropped_blocks_are_of_their_sum_and_a_group_without_dropped_blocks_has_none(spec, where, teacher):
    found = result_of(Spectra(teacher=spec.teacher, data=DIGITS, reduction=11, ranks=(2,), images=16), where()).arrays
    total = sum(teacher.blocks[index].mlp.fc1.weight for index in range(1, 11)).double().numpy()
    sigma = np.linalg.svd(total, compute_uv=False)
    assert found["energy fc1"].shape == (1, 8)
    np.testing.assert_allclose(found["energy fc1"][0], np.cumsum(sigma**2) / (sigma**2).sum(), rtol=1e-5)


# ------------------------------------------------------------------------------------------------ cost and time


@pytest.mark.parametrize("reduction", [1, 2, 5])
def test_counted_parameters_and_macs_of_student_and_adapters_are_those_of_the_formula(spec, where, reduction):
    found = result_of(Costs(teacher=spec.teacher, image_size=8, reduction=reduction, rank=3, batch_size=2), where()).metrics
    for who in ("teacher", "student", "adapters"):
        for what in ("parameters", "macs"):
            assert found[f"{who} {what}"] == found[f"{who} {what}, by formula"] > 0
    blocks = len(range(0, 12, reduction))
    assert found["adapters parameters"] == blocks * 3 * (4 * (8 + 8) + 2 * (8 + 32))
    assert found["adapters macs"] == 5 * found["adapters parameters"]  # four patches and the class token
    block = 5 * 12 * 8**2 + 2 * 5**2 * 8  # q, k, v, proj, fc1, fc2; the attention's two products
    assert found["student macs"] == 4 * 16 * 8 + blocks * block


@pytest.mark.parametrize("cached", [True, False])
def test_times_are_kept_round_by_round_and_epoch_by_epoch(spec, where, cached):
    recipe = RECIPE if cached else RECIPE.changed(augment=Augment(flip=0.5))
    few = StageTimes(teacher=spec.teacher, data=DIGITS, recipe=recipe, reduction=2, rank=3, staged_epochs=1, repeats=3)
    found = result_of(few, where())
    names = ["plain", "staged"] + ["plain, cached", "staged, cached"] * cached
    arrays = {f"seconds {name}": (3,) for name in names} | {f"epochs of stage {k}": (3, 1) for k in range(1, 6)}
    assert {name: array.shape for name, array in found.arrays.items()} == arrays | {"epochs of whole": (3, 10), "epochs of plain": (3, 15)}
    assert found.metrics == {name: sorted(array)[1] for name, array in found.arrays.items() if name.startswith("seconds ")}
    epochs = np.concatenate(
        [array for name, array in found.arrays.items() if name.startswith(("epochs of stage", "epochs of whole"))], axis=1
    )
    assert (epochs > 0).all() and (epochs.sum(axis=1) <= found.arrays["seconds staged"]).all()
    assert (found.arrays["epochs of plain"].sum(axis=1) <= found.arrays["seconds plain"]).all()
