"""WeCoLoRA's stages: which blocks each trains and compares; features of the teacher kept and looked up; recipes refused."""

from pathlib import Path

import pytest
from torch.testing import assert_close

from tests.papers.wecolora.support import DIGITS, RECIPE, STILL, distance, trained
from vitlib.inputs.models import Timm
from vitlib.methods.adapters.weight_copy import groups
from vitlib.papers.wecolora.compute import students as compute
from vitlib.papers.wecolora.specs import Downstream
from vitlib.recipe import Augment
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Teacher

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
