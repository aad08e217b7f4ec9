"""WeCoLoRA (arXiv 2404.09326): the invariants 1-12 of its method sheet, by number, its traps, and its training."""

import copy
from collections import Counter
from fractions import Fraction
from math import floor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.testing import assert_close

from tests.support import assert_same_arrays, assert_same_result
from vitlib.inputs.data import indexed_batches, seed_everything
from vitlib.inputs.foreign.architecture import sizes_of
from vitlib.inputs.models import Timm, Vit, build, parameter_count, weights_of
from vitlib.inputs.sources import Data, load, subset
from vitlib.methods.adapters.lora import LoraLinear, adapters, attach, merge, svd_factors
from vitlib.methods.adapters.weight_copy import feature_loss, features, groups, weight_copy
from vitlib.papers.wecolora import compute
from vitlib.papers.wecolora.specs import Copied, Costs, Distilled, Downstream, Spectra, StageTimes
from vitlib.papers.wecolora.timing import adapter_parameters
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import one_thread
from vitlib.spec import Context, SpecError
from vitlib.teachers.teacher import Checkpoint, Teacher
from vitlib.training.cost import VitCost

STARTS = ["zero_b", "random", "svd", "svd_shift"]
DIGITS = Data(source="digits", image_size=8, per_class=1, mean=(0.304,), std=(0.375,))
MICRO = Vit(embed_dim=8, depth=12, num_heads=2, patch_size=4, init="xavier")
RECIPE = Recipe(epochs=15, batch_size=5, lr=4e-3, beta2=0.95, warmup_epochs=2, warmup_lr=0.0, min_lr=0.0, eval_every=15)
STEPS = 2
STILL = RECIPE.changed(lr=1e-12, weight_decay=0.0)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with the weights of a teacher of twelve blocks, all of whose parameters are drawn at random."""
    folder = tmp_path_factory.mktemp("wecolora")
    torch.manual_seed(0)
    module = build(MICRO, image_size=8, channels=1, num_classes=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_file(weights_of(module), folder / "micro.safetensors")
    return folder


@pytest.fixture(scope="session")
def spec(files):
    """Plain distillation at r = 2."""
    origin = Checkpoint(file="micro.safetensors", model=MICRO, image_size=8, mean=(0.3,), std=(0.4,)).pinned(files)
    return Distilled(teacher=Teacher(origin=origin), data=DIGITS, recipe=RECIPE, seed=0, reduction=2, rank=3, lora_init="zero_b")


@pytest.fixture
def where(files):
    """Makes a context in the teacher's folder."""
    return lambda **fields: Context("cpu", files, **{"scratch": None, "parent": lambda run: None, **fields})


@pytest.fixture
def teacher(spec, where):
    return compute.frozen_teacher(spec.teacher, 8, where())


def images(count=4):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def adapted(teacher, reduction, kind, rank=3):
    student = weight_copy(teacher, reduction)
    for block, group in zip(student.blocks, groups(len(teacher.blocks), reduction), strict=True):
        attach(block, rank, kind, [teacher.blocks[index] for index in group.dropped])
    return student


def trained(spec, context):
    """A student and its teacher after training, without the evaluations of a whole run."""
    student, teacher, group_list = compute.adapted_student(spec, context)
    outcome, schedule = compute.train_adapters(spec, student, teacher, group_list, context)
    return SimpleNamespace(student=student, teacher=teacher, history=outcome.history, schedule=schedule)


def classifying(depth=12):
    """A teacher with a head, for logits."""
    torch.manual_seed(1)
    module = build(MICRO.changed(depth=depth), image_size=8, channels=1, num_classes=5).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return module


# ------------------------------------------------------------------------------------------------ invariants


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


@pytest.fixture
def watched(monkeypatch):
    """Runs a training and tells, for each update, its epoch, the block calls of both models and the blocks with gradients."""

    def watch(spec, make_context):
        calls, rows = Counter(), []
        student, teacher, group_list = compute.adapted_student(spec, make_context())
        for name, model in (("student", student), ("teacher", teacher)):
            for index, block in enumerate(model.blocks):
                block.register_forward_hook(lambda *_, key=(name, index): calls.update([key]))
        start = weights_of(student)

        def tick(epoch, *_):
            blocks = enumerate(student.blocks)
            graded = [i for i, block in blocks if any(p.grad is not None for p in block.parameters())]
            moved = sorted({int(name.split(".")[1]) for name, array in weights_of(student).items() if (array != start[name]).any()})
            rows.append(SimpleNamespace(epoch=epoch, calls=Counter(calls), graded=graded, moved=moved))
            calls.clear()

        compute.train_adapters(spec, student, teacher, group_list, make_context(tick=tick))
        return rows

    return watch


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


# ------------------------------------------------------------------------------------------------ traps


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
    result = spec.compute(where())
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


# ------------------------------------------------------------------------------------------------ stages


def test_stages_of_one_epoch_and_ten_epochs_of_the_whole_student(spec):
    schedule = compute.phases(spec.changed(staged_epochs=1), groups(12, 2))
    assert [(phase.name, phase.epochs, phase.active) for phase in schedule] == [
        *((f"stage {k}", 1, k) for k in range(1, 6)),
        ("whole", 10, 6),
    ]
    assert [phase.pairs for phase in schedule[:2]] == [((0, 1),), ((0, 1), (1, 3))]
    assert schedule[-1].pairs == ((5, 11),)


@pytest.mark.parametrize("staged", [1, 2])
@pytest.mark.parametrize("steps", [1, 3, 7, 12])
def test_every_update_falls_into_the_phase_of_its_epoch(spec, staged, steps):
    schedule = compute.phases(spec.changed(staged_epochs=staged), groups(12, 2))
    for update in range(15 * steps):
        phase = compute.phase_at(update / (15 * steps), 15, schedule)
        assert phase.active == min(update // steps // staged + 1, 6)


def distance(run, spec, context, pairs):
    """Mean |T - S| over the training images by a plain loop over the blocks, of untrained models; mean over the pairs."""
    batches = indexed_batches(spec.data, spec.recipe, seed=0, device="cpu", data_dir=context.data_dir)
    streams = []
    with torch.no_grad():
        for model in (run.student, run.teacher):
            stream = model._pos_embed(model.patch_embed(batches.plain()))
            streams.append([stream := block(stream) for block in model.blocks])
    return np.mean([float((streams[1][target] - streams[0][block]).abs().mean()) for block, target in pairs])


@pytest.mark.parametrize("stage_targets", ["active", "deepest"])
@pytest.mark.parametrize("final_targets", ["last", "all"])
def test_a_stage_compares_its_active_blocks_or_the_deepest_alone_and_the_end_the_last_pair_or_all(
    spec, where, stage_targets, final_targets
):
    still = spec.changed(staged_epochs=1, stage_targets=stage_targets, final_targets=final_targets, recipe=STILL, lora_init="svd")
    run = trained(still, where())
    pairs = [(block, 2 * block + 1) for block in range(6)]
    for epoch, loss in enumerate(run.history["loss"]):
        k = min(epoch + 1, 6)
        every = stage_targets == "active" if k < 6 else final_targets == "all"
        assert loss == pytest.approx(distance(run, still, where(), pairs[:k] if every else pairs[k - 1 : k]), rel=1e-4)


def test_targets_of_the_deepest_block_call_and_train_the_blocks_below_it_too(spec):
    schedule = compute.phases(spec.changed(staged_epochs=1, stage_targets="deepest"), groups(12, 2))
    assert [phase.pairs for phase in schedule] == [((k, 2 * k + 1),) for k in range(6)]
    assert [phase.active for phase in schedule] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("staged", [3, 4, 15])
def test_stages_that_leave_no_epoch_for_the_whole_student_are_refused(spec, staged):
    with pytest.raises(SpecError, match=rf"staged_epochs={staged} leave none of 15 epochs .*; allowed: recipe.epochs above"):
        require(spec.changed(staged_epochs=staged))
    require(spec.changed(staged_epochs=2))


def test_stages_that_leave_no_epoch_are_refused_for_a_released_teacher_too(spec):
    released = Teacher(origin=Timm(name="vit_base_patch16_224.orig_in21k_ft_in1k", pretrained=True))
    run = spec.changed(teacher=released, staged_epochs=4, data=spec.data.changed(image_size=224))
    with pytest.raises(SpecError, match="leave none of 15 epochs"):
        compute.phases(run, groups(12, 2))
    with pytest.raises(SpecError, match="staged_epochs=4 leave none of 15 epochs"):
        require(run)


def require(run):
    for demand in run.demands():
        demand.check(Path("/nowhere"))


# ------------------------------------------------------------------------------------------------ cached features


@pytest.mark.parametrize("kind", ["zero_b", "svd"])
@pytest.mark.parametrize("staged", [0, 1])
def test_cached_features_train_the_student_that_live_features_train(spec, where, staged, kind):
    live = spec.changed(staged_epochs=staged, lora_init=kind)
    one, other = (trained(each, where()) for each in (live, live.changed(cached=True)))
    for mine, theirs in zip(one.student.parameters(), other.student.parameters(), strict=True):
        assert_close(mine, theirs, rtol=0, atol=1e-5)
    assert one.history["loss"].to_numpy() == pytest.approx(other.history["loss"].to_numpy(), rel=1e-5)


def test_cached_features_call_the_teacher_once_for_every_image(spec, where):
    student, teacher, group_list = compute.adapted_student(spec, where())
    seen = []
    teacher.register_forward_hook(lambda *_: seen.append("forward"))
    teacher.blocks[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    compute.train_adapters(spec.changed(cached=True, staged_epochs=1), student, teacher, group_list, where())
    assert seen == [10]


@pytest.mark.parametrize("augment", [{"flip": 0.5}, {"crop": 1}, {"cutout": 2}, {"erasing": 0.1}], ids=str)
def test_cached_features_of_augmented_images_are_refused(spec, augment):
    with pytest.raises(ValueError, match="cached=True with augmented or streamed images"):
        spec.changed(cached=True, recipe=RECIPE.changed(augment=Augment(**augment)))


def test_cached_features_of_streamed_images_are_refused(spec):
    with pytest.raises(ValueError, match="cached=True with augmented or streamed images"):
        spec.changed(cached=True, data=DIGITS.changed(source="folder/any", resident=False))


# ------------------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("kind", STARTS)
def test_a_run_begins_at_the_distance_of_its_start_and_comes_closer(spec, where, kind):
    metrics = spec.changed(lora_init=kind, recipe=RECIPE.changed(lr=0.02)).compute(where()).metrics
    assert metrics["last"] == metrics["block 6"] < metrics["step-0 last"] == metrics["step-0 block 6"]
    if kind == "svd_shift":
        zero = spec.changed(recipe=STILL).compute(where()).metrics
        steps = [f"step-0 block {block}" for block in range(1, 7)]
        assert [metrics[step] for step in steps] == pytest.approx([zero[step] for step in steps], rel=1e-4)


def test_a_seed_gives_the_same_run_to_the_bit_and_another_seed_another(spec, where):
    staged = spec.changed(staged_epochs=1, recipe=RECIPE.changed(augment=Augment(crop=1)))
    with one_thread("cpu"):
        one = staged.compute(where())
        torch.manual_seed(99)
        again, other = staged.compute(where()), staged.changed(seed=1).compute(where())
    assert_same_result(one, again)
    assert any((one.weights[name] != other.weights[name]).any() for name in one.weights)


class Killed(BaseException):
    """Nothing of ours may catch this."""


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["zero_b", "svd_shift"])
def test_a_run_killed_in_several_stages_and_resumed_ends_in_the_same_bits(spec, where, tmp_path, kind, cached):
    staged = spec.changed(lora_init=kind, staged_epochs=1, cached=cached)
    left = [3, 5, 8]  # updates until each kill: within stage 2, in stage 4, with the whole student

    def tick(*_):
        if left:
            left[0] -= 1
            if left[0] == 0:
                left.pop(0)
                raise Killed

    with one_thread("cpu"):
        whole = staged.compute(where())
        for _ in range(3):
            with pytest.raises(Killed):
                staged.compute(where(scratch=tmp_path, tick=tick, checkpoint_every=0.0))
        assert any(tmp_path.iterdir())
        resumed = staged.compute(where(scratch=tmp_path, checkpoint_every=0.0))
    assert_same_result(resumed, whole)


def test_the_stored_student_computes_what_the_adapted_one_computed(spec, where):
    student, result = trained(spec, where()).student, spec.compute(where())
    downstream = Downstream(teacher=spec.teacher, student=spec, data=DIGITS, recipe=RECIPE, seed=0)
    backbone = compute.backbone_of(downstream, where(parent=lambda run: result))
    assert not [module for module in backbone.modules() if isinstance(module, LoraLinear)]
    assert_close(backbone(images()), student.eval()(images()), rtol=1e-4, atol=1e-4)


def test_weight_copy_at_r_1_is_worth_what_the_teacher_is_worth(spec, where):
    probe = Recipe(epochs=5, batch_size=20, lr=2.0, optimizer="lars", weight_decay=0.0, eval_every=5)
    data = DIGITS.changed(per_class=10)
    own = Downstream(teacher=spec.teacher, student=None, data=data, recipe=probe, seed=0)
    copied = Copied(teacher=spec.teacher, data=DIGITS, reduction=1)
    result = copied.compute(where())
    assert result.metrics["parameters"] == parameter_count(compute.frozen_teacher(spec.teacher, 8, where()))
    one, other = own.compute(where()), own.changed(student=copied).compute(where(parent=lambda run: result))
    assert_same_result(one, other)
    assert 10 < one.metrics["top1"] < one.metrics["top5"] <= 100


@pytest.mark.parametrize("protocol", ["probe", "finetune"])
def test_accuracy_downstream_follows_from_the_seed_and_leaves_the_student_alone(spec, where, protocol):
    recipe = Recipe(epochs=2, batch_size=20, lr=1e-2)
    copied = Copied(teacher=spec.teacher, data=DIGITS, reduction=3)
    result = copied.compute(where())
    before = copy.deepcopy(result.weights)
    downstream = Downstream(
        teacher=spec.teacher, student=copied, data=DIGITS.changed(per_class=5), recipe=recipe, seed=0, protocol=protocol
    )  # fmt: skip
    one = downstream.compute(where(parent=lambda run: result))
    seed_everything(99)
    assert_same_result(downstream.compute(where(parent=lambda run: result)), one)
    assert_same_arrays(result.weights, before)


def test_the_probe_is_fitted_to_training_images_and_asked_about_test_and_validation_images(spec, where, teacher, monkeypatch):
    given, probe = [], compute.linear_probe

    def watched(bank, labels, queries, *rest, **options):
        given.extend([bank, labels, queries])
        return probe(bank, labels, queries, *rest, **options)

    monkeypatch.setattr(compute, "linear_probe", watched)
    recipe = Recipe(epochs=1, batch_size=10, lr=0.1, optimizer="lars")
    metrics = Downstream(teacher=spec.teacher, student=None, data=DIGITS, recipe=recipe, seed=0).compute(where()).metrics
    (seen, labels), (asked, true), (watched_on, _) = (load(DIGITS, split, where().data_dir) for split in ("train", "test", "validation"))
    for tokens, pictures in ((given[0], seen), (given[2], np.concatenate([asked, watched_on]))):
        normalised = (torch.from_numpy(pictures).float() / 255 - 0.304) / 0.375
        assert_close(tokens, teacher.forward_features(normalised)[:, 0], rtol=1e-4, atol=1e-4)
    assert np.array_equal(given[1], labels)
    assert (len(seen), len(asked), len(watched_on)) == (10, 720, 179)
    for name, count in (("top1", len(true)), ("validation top1", 179)):
        assert metrics[name] * count / 100 == pytest.approx(round(metrics[name] * count / 100), abs=1e-9)


def test_spectra_hold_the_distances_of_the_starts_and_the_energy_of_each_dropped_matrix(spec, where, teacher):
    found = Spectra(teacher=spec.teacher, data=DIGITS, reduction=2, ranks=(2, 8), images=16).compute(where()).arrays
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
    few, more = (Spectra(teacher=spec.teacher, data=DIGITS, reduction=2, ranks=(2,), images=count).compute(where()) for count in (4, 64))
    assert not np.array_equal(few.arrays["step-0"], more.arrays["step-0"])


def test_spectra_of_several_dropped_blocks_are_of_their_sum_and_a_group_without_dropped_blocks_has_none(spec, where, teacher):
    found = Spectra(teacher=spec.teacher, data=DIGITS, reduction=11, ranks=(2,), images=16).compute(where()).arrays
    total = sum(teacher.blocks[index].mlp.fc1.weight for index in range(1, 11)).double().numpy()
    sigma = np.linalg.svd(total, compute_uv=False)
    assert found["energy fc1"].shape == (1, 8)
    np.testing.assert_allclose(found["energy fc1"][0], np.cumsum(sigma**2) / (sigma**2).sum(), rtol=1e-5)


# ------------------------------------------------------------------------------------------------ cost and time


@pytest.mark.parametrize("reduction", [1, 2, 5])
def test_counted_parameters_and_macs_of_student_and_adapters_are_those_of_the_formula(spec, where, reduction):
    found = Costs(teacher=spec.teacher, image_size=8, reduction=reduction, rank=3, batch_size=2).compute(where()).metrics
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
    found = few.compute(where())
    names = ["plain", "staged"] + ["plain, cached", "staged, cached"] * cached
    arrays = {f"seconds {name}": (3,) for name in names} | {f"epochs of stage {k}": (3, 1) for k in range(1, 6)}
    assert {name: array.shape for name, array in found.arrays.items()} == arrays | {"epochs of whole": (3, 10), "epochs of plain": (3, 15)}
    assert found.metrics == {name: sorted(array)[1] for name, array in found.arrays.items() if name.startswith("seconds ")}
    epochs = np.concatenate(
        [array for name, array in found.arrays.items() if name.startswith(("epochs of stage", "epochs of whole"))], axis=1
    )
    assert (epochs > 0).all() and (epochs.sum(axis=1) <= found.arrays["seconds staged"]).all()
    assert (found.arrays["epochs of plain"].sum(axis=1) <= found.arrays["seconds plain"]).all()


# ------------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize("field", [{"mixup": 0.2}, {"cutmix": 1.0}, {"label_smoothing": 0.1}, {"ema_decay": 0.9}, {"drop_path": 0.1}])
def test_a_recipe_whose_field_distillation_would_ignore_is_refused(field, spec):
    name, value = next(iter(field.items()))
    with pytest.raises(SpecError, match=f"recipe.{name}={value}; allowed: "):
        spec.changed(recipe=RECIPE.changed(batch_size=4, **field))


@pytest.mark.parametrize("field", [{"ema_decay": 0.9}, {"drop_path": 0.1}, {"augment": Augment(flip=0.5)}, {"repeats": 2}])
def test_a_recipe_whose_field_the_probe_would_ignore_is_refused(field, spec):
    with pytest.raises(SpecError, match=f"recipe.{next(iter(field))}=.*; allowed: "):
        Downstream(teacher=spec.teacher, student=None, data=DIGITS, recipe=RECIPE, seed=0).changed(recipe=RECIPE.changed(**field))
