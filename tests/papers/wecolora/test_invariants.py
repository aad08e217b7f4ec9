"""WeCoLoRA (arXiv 2404.09326): the invariants 1-12 of its method sheet, by number."""

import copy
from collections import Counter
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.methods.adapters.support import STARTS
from tests.papers.wecolora.support import DIGITS, MICRO, RECIPE, STEPS, adapted, images, trained
from vitlib.inputs.foreign.architecture import sizes_of
from vitlib.inputs.models import Timm, build, parameter_count
from vitlib.inputs.sources import subset
from vitlib.methods.adapters.lora import adapters, merge, svd_factors
from vitlib.methods.adapters.weight_copy import feature_loss, features, groups
from vitlib.papers.wecolora.compute import students as compute
from vitlib.papers.wecolora.compute.timing import adapter_parameters
from vitlib.recipe import Recipe
from vitlib.training.cost import VitCost


def classifying(depth=12):
    """A teacher with a head, for logits."""
    torch.manual_seed(1)
    module = build(MICRO.changed(depth=depth), image_size=8, channels=1, num_classes=5).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return module


def test_invariant_1_a_student_with_zero_b_is_the_teacher_with_every_second_block():
    teacher = classifying()
    expected = copy.deepcopy(teacher)
    expected.blocks = nn.Sequential(*list(expected.blocks)[::2])
    student = adapted(teacher, 2, "zero_b")
    assert_close(student(images()), expected(images()), rtol=0, atol=1e-5)
    assert not torch.allclose(student(images()), teacher(images()), atol=0.1)


@pytest.mark.parametrize("rank", [1, 4, 6])
def test_invariant_2_the_product_misses_the_smaller_singular_values_and_has_at_most_the_rank(rank):
    u, v = (torch.linalg.qr(torch.randn(size, 6, dtype=torch.float64)).Q for size in (9, 6))
    sigma = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    dropped = u * sigma @ v.T
    a, b = svd_factors(dropped, rank)
    assert_close((dropped - b @ a).square().sum(), sigma[rank:].square().sum(), rtol=1e-9, atol=1e-12)
    assert torch.linalg.matrix_rank(b @ a) == rank


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_invariant_3_the_factors_are_balanced(rank):
    u, v = (torch.linalg.qr(torch.randn(size, 5, dtype=torch.float64)).Q for size in (5, 7))
    sigma = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    a, b = svd_factors(u * sigma @ v.T, rank)
    assert_close(a @ a.T, sigma[:rank].diag())
    assert_close(b.T @ b, sigma[:rank].diag())


def test_invariant_4_the_literal_start_at_full_rank_adds_the_dropped_matrix(teacher):
    student = adapted(teacher, 2, "svd", rank=8)
    for index, block in enumerate(student.blocks):
        kept, dropped = teacher.blocks[2 * index], teacher.blocks[2 * index + 1]
        for name, layer in adapters(block):
            expected = kept.get_submodule(name).weight + dropped.get_submodule(name).weight
            assert_close(layer.weight.detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_invariant_4_the_shifted_start_computes_what_zero_b_computes(teacher, rank):
    shifted, zero = adapted(teacher, 2, "svd_shift", rank), adapted(teacher, 2, "zero_b", rank)
    assert_close(shifted(images()), zero(images()), rtol=1e-4, atol=1e-5)


def test_invariant_5_at_r_1_with_zero_b_the_loss_and_all_gradients_are_zero(teacher):
    student, every = adapted(teacher, 1, "zero_b"), list(range(12))
    loss = feature_loss(features(student, images(), every), features(teacher, images(), every))
    loss.backward()
    assert float(loss.detach()) == 0
    gradients = [parameter.grad for parameter in student.parameters() if parameter.requires_grad]
    assert len(gradients) == 12 * 4 * 2
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("constant", [-0.75, 2.0])
@pytest.mark.parametrize("pairs", [1, 3])
def test_invariant_5_a_constant_added_to_every_feature_is_the_loss(constant, pairs):
    streams = [torch.randint(-9, 9, (2, 5, 8)).float() for _ in range(pairs)]
    assert float(feature_loss(streams, [stream + constant for stream in streams])) == abs(constant)


@pytest.mark.parametrize("reduction", [2, 5])
@pytest.mark.parametrize("kind", STARTS)
def test_invariant_6_logits_before_and_after_merging_agree(kind, reduction):
    student = adapted(classifying(), reduction, kind)
    with torch.no_grad():
        for _, layer in adapters(student):
            layer.a += 0.1 * torch.randn_like(layer.a)
            layer.b += 0.1 * torch.randn_like(layer.b)
    before = student(images())
    merge(student)
    assert_close(student(images()), before, rtol=1e-5, atol=1e-5)
    assert not list(adapters(student))


def test_invariant_7_parameters_of_vit_b_at_rank_128():
    with torch.device("meta"):
        name = "vit_base_patch16_224.orig_in21k_ft_in1k"
        teacher = build(Timm(name=name), image_size=224, channels=3, num_classes=0).requires_grad_(False)
        student = adapted(teacher, 2, "zero_b", rank=128)
    trainable = [parameter.numel() for parameter in student.parameters() if parameter.requires_grad]
    assert sum(trainable) == 10_616_832 == 6 * 13_824 * 128
    assert parameter_count(student) == 43_271_424 + 10_616_832
    merge(student)
    assert parameter_count(student) == 43_271_424
    assert parameter_count(teacher) == 85_798_656
    by_formula = [VitCost(sizes_of(model, 224, 3), 224, 3, num_classes=0).parameters for model in (teacher, student)]
    assert (adapter_parameters(sizes_of(student, 224, 3), 128), *by_formula) == (10_616_832, 85_798_656, 43_271_424)


@pytest.mark.parametrize("kind", ["zero_b", "svd"])
@pytest.mark.parametrize("targets", ["active", "deepest"])
def test_invariant_8_stage_k_trains_and_calls_the_first_k_blocks_alone(spec, where, watched, targets, kind):
    warm = RECIPE.changed(warmup_epochs=0)
    rows = watched(spec.changed(staged_epochs=1, stage_targets=targets, lora_init=kind, recipe=warm), where)
    assert [row.epoch for row in rows] == [epoch for epoch in range(15) for _ in range(STEPS)]
    for row in rows:
        k = min(row.epoch + 1, 6)
        assert row.graded == list(range(k))
        assert row.calls == Counter({("student", i): 1 for i in range(k)}) + Counter({("teacher", i): 1 for i in range(2 * k)})
        assert row.moved == list(range(k))  # weight decay moves no factor whose stage has not come


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_invariant_9_staged_training_calls_12_5_fifteenths_of_the_blocks(spec, where, watched, model):
    staged, plain = spec.changed(staged_epochs=1), spec

    def calls(distilled):
        return sum(count for row in watched(distilled, where) for (name, _), count in row.calls.items() if name == model)

    assert calls(staged) / calls(plain) == pytest.approx(12.5 / 15, rel=1e-12)
    schedule = compute.phases(staged, groups(12, 2))
    assert compute.block_calls(schedule, 6) == pytest.approx(12.5 / 15, rel=1e-12)
    assert compute.block_calls(compute.phases(plain, groups(12, 2)), 6) == 1


@pytest.mark.parametrize(("r", "kept", "targets"), [(2, [1, 3, 5, 7, 9, 11], [2, 4, 6, 8, 10, 12]), (3, [1, 4, 7, 10], [3, 6, 9, 12])])
def test_invariant_10_index_map_of_twelve_blocks(r, kept, targets):
    assert [group.kept + 1 for group in groups(12, r)] == kept
    assert [group.target + 1 for group in groups(12, r)] == targets


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_invariant_11_the_first_step_from_zero_b_moves_a_by_weight_decay_alone(spec, where, decay):
    once = spec.changed(recipe=Recipe(epochs=1, batch_size=10, lr=0.01, weight_decay=decay))
    before, after = (dict(adapters(student)) for student in (compute.adapted_student(once, where())[0], trained(once, where()).student))
    for name, layer in after.items():
        assert_close(layer.a, (1 - 0.01 * decay) * before[name].a, rtol=1e-6, atol=0)
        assert layer.b.all()


@pytest.mark.parametrize("kind", ["random", "svd", "svd_shift"])
def test_invariant_11_the_first_step_from_other_starts_moves_both_factors(spec, where, kind):
    once = spec.changed(lora_init=kind, recipe=Recipe(epochs=1, batch_size=10, lr=0.01, weight_decay=0.0))
    before, after = (dict(adapters(student)) for student in (compute.adapted_student(once, where())[0], trained(once, where()).student))
    for name, layer in after.items():
        assert not torch.equal(layer.a, before[name].a) and not torch.equal(layer.b, before[name].b)


def test_invariant_12_the_subset_is_deterministic():
    labels, few = np.repeat(np.arange(3), 1300), DIGITS.changed(per_class=None, fraction=0.01, subset_seed=12)
    assert np.array_equal(subset(labels, few), subset(labels, few))
    assert not np.array_equal(subset(labels, few), subset(labels, few.changed(subset_seed=13)))


@pytest.mark.parametrize("share", ["0.01", "0.07", "0.29"])
def test_invariant_12_the_subset_holds_the_floor_of_the_share_of_each_class(share):
    labels = np.repeat(np.arange(5), [1300, 1299, 1050, 732, 100])
    kept = subset(labels, DIGITS.changed(per_class=None, fraction=float(share), subset_seed=12))
    assert np.bincount(labels[kept]).tolist() == [floor(Fraction(share) * size) for size in np.bincount(labels).tolist()]
    assert len({*kept.tolist()}) == len(kept)
