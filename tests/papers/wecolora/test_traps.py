"""WeCoLoRA: the traps that its method sheet warns of."""

import pytest
import torch
from torch.testing import assert_close

from tests.methods.adapters.support import STARTS
from tests.papers.wecolora.support import STEPS, STILL, adapted, distance, images, trained
from tests.support import assert_same_arrays
from vitlib.computing import result_of
from vitlib.inputs.models import parameter_count, weights_of
from vitlib.methods.adapters.lora import adapters
from vitlib.methods.adapters.weight_copy import feature_loss, features, groups, weight_copy
from vitlib.papers.wecolora.compute import students as compute


@pytest.mark.parametrize("kind", STARTS)
def test_trap_training_the_student_leaves_the_teacher_as_it_was_to_the_bit(spec, where, kind):
    staged = spec.changed(lora_init=kind, staged_epochs=1)
    untouched = weights_of(compute.frozen_teacher(spec.teacher, 8, where()))
    run = trained(staged, where())
    assert_same_arrays(weights_of(run.teacher), untouched)
    assert not list(adapters(run.teacher))
    assert not {p.data_ptr() for p in run.student.parameters()} & {p.data_ptr() for p in run.teacher.parameters()}


@pytest.mark.parametrize("cached", [False, True])
def test_trap_the_teacher_is_in_eval_mode_and_records_no_gradient(spec, where, cached):
    student, teacher, group_list = compute.adapted_student(spec, where())
    seen = []
    teacher.requires_grad_(True)
    teacher.blocks[11].register_forward_hook(lambda module, _, output: seen.append((module.training, output.requires_grad)))
    compute.train_adapters(spec.changed(cached=cached), student, teacher, group_list, where())
    assert len(seen) == (1 if cached else 15 * STEPS)
    assert {*seen} == {(False, False)}


def test_trap_only_adapters_of_the_student_train(spec, where):
    frozen = {name for name, parameter in compute.adapted_student(spec, where())[0].named_parameters() if not parameter.requires_grad}
    before = weights_of(compute.adapted_student(spec, where())[0])
    after = weights_of(trained(spec, where()).student)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed.isdisjoint(frozen)
    assert changed == before.keys() - frozen == {name for name in before if name.endswith((".a", ".b"))}


def test_trap_parameters_are_counted_after_merging(spec, where):
    result = result_of(spec, where())
    student = weight_copy(compute.frozen_teacher(spec.teacher, 8, where()), 2)
    assert result.metrics["parameters"] == parameter_count(student)
    assert result.weights.keys() == weights_of(student).keys()
    assert result.metrics["trainable"] == 6 * 3 * sum((3 * 8 + 24, 8 + 8, 8 + 32, 32 + 8))


@pytest.mark.parametrize("kind", ["svd", "svd_shift"])
def test_trap_at_r_1_nothing_is_dropped_and_the_svd_start_is_dead(teacher, kind):
    student, every = adapted(teacher, 1, kind), [11]
    feature_loss(features(student, images(), every), [torch.zeros(4, 5, 8)]).backward()
    for _, layer in adapters(student):
        assert not any(tensor.any() for tensor in (layer.a, layer.b, layer.a.grad, layer.b.grad))
    assert_close(student(images()), teacher(images()), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [1, 2, 7, 12])
@pytest.mark.parametrize("r", [1, 2, 3, 5, 12, 13])
def test_trap_groups_tile_the_blocks_and_a_shorter_last_group_targets_its_last_block(depth, r):
    found = groups(depth, r)
    assert [block for group in found for block in (group.kept, *group.dropped)] == list(range(depth))
    assert [1 + len(group.dropped) for group in found] == [r] * (depth // r) + [depth % r] * (depth % r > 0)
    assert found[-1].target == depth - 1
    assert [group.target for group in found[:-1]] == [group.kept - 1 for group in found[1:]]


def test_trap_a_depth_that_r_does_not_divide_trains_and_compares_the_last_blocks(spec, where):
    uneven = spec.changed(reduction=5, lora_init="svd", recipe=STILL)
    run = trained(uneven, where())
    assert len(run.student.blocks) == 3
    assert run.schedule[-1].pairs == ((2, 11),)
    assert run.history["loss"].to_numpy() == pytest.approx(distance(run, uneven, where(), [(2, 11)]), rel=1e-4)


def test_trap_above_r_2_the_adapters_start_from_the_sum_of_the_dropped_blocks(teacher):
    student = adapted(teacher, 4, "svd", rank=8)
    for index, block in enumerate(student.blocks):
        for name, layer in adapters(block):
            group = [teacher.blocks[4 * index + offset].get_submodule(name).weight for offset in range(4)]
            assert_close(layer.weight.detach(), sum(group), rtol=1e-5, atol=1e-5)
