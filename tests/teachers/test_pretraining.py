"""Pretraining that survives a kill, lowers its loss and follows the accuracy; recipes, views and models that it refuses."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.support import Killed, assert_same_result, context, killing
from tests.teachers.support import DATA, MICRO
from vitlib.computing import result_of
from vitlib.inputs.sources import Data
from vitlib.inputs.views import resized_crop
from vitlib.runs.workers.one import one_thread
from vitlib.spec import SpecError
from vitlib.teachers import compute as training
from vitlib.teachers.compute import in_float32
from vitlib.teachers.pretrain import DinoMethod, DinoTeacher, MaeMethod, MaeTeacher, MultiCrop, SupervisedTeacher

RECIPE = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "warmup_epochs": 1, "eval_every": 1}
TRACKING = {"bank": 20, "queries": 10}
DINO = DinoMethod.parse(
    {
        "recipe": RECIPE,
        "views": {"global_size": 8, "local_size": 4, "local_views": 2},
        "hidden": 16,
        "bottleneck": 8,
        "prototypes": 32,
        "ema": 0.9,
        "frozen": 0.4,
        "teacher_temp": 0.07,
        "tracking": TRACKING,
    }
)
MAE = MaeMethod.parse({"recipe": RECIPE, "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2, "tracking": TRACKING})
RUNS = {
    "dino": DinoTeacher(data=DATA, model=MICRO, method=DINO, seed=0),
    "mae": MaeTeacher(data=DATA, model=MICRO, method=MAE, seed=0),
    "supervised": SupervisedTeacher(data=DATA, model=MICRO, recipe=DINO.recipe, seed=0),
}


@pytest.mark.parametrize("name", RUNS)
def test_pretraining_killed_at_several_steps_ends_in_the_same_bits(name, tmp_path):
    with one_thread("cpu"):
        whole = result_of(RUNS[name], context())
        left = [2, 5, 6]  # steps until each kill: inside an epoch, at its end, across the thawing of the last layer
        tick = killing(left)

        for _ in range(3):
            with pytest.raises(Killed):
                result_of(RUNS[name], context(scratch=tmp_path, tick=tick, checkpoint_every=0.0))
        resumed = result_of(RUNS[name], context(scratch=tmp_path, checkpoint_every=0.0))
    assert_same_result(resumed, whole)


@pytest.mark.parametrize("name", ["dino", "mae"])
def test_pretraining_lowers_its_loss_and_follows_the_accuracy(name):
    method = DINO if name == "dino" else MAE
    longer = method.changed(recipe=method.recipe.changed(epochs=12, lr=5e-3))
    history = result_of(RUNS[name].changed(method=longer), context()).history
    assert len(history) == 12
    if name == "mae":
        assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert history[["knn class", "knn mean"]].notna().all().all()


def test_the_weights_of_dino_are_the_teachers_which_follow_the_student_from_behind():
    """With momentum 1 the teacher never moves: it stays the network as it was drawn."""
    still = RUNS["dino"].changed(method=DINO.changed(ema=0.9999999))
    shorter, longer = (still.changed(method=still.method.changed(recipe=DINO.recipe.changed(epochs=epochs))) for epochs in (2, 3))
    one, other = (result_of(spec, context()).weights for spec in (shorter, longer))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)
    moved = result_of(RUNS["dino"], context()).weights
    assert max(np.abs(moved[name] - one[name]).max() for name in one) > 1e-4


@pytest.mark.parametrize("field", ["mixup", "cutmix", "label_smoothing"])
def test_recipes_without_labels_refuse_to_mix_them(field):
    with pytest.raises(SpecError, match=rf"recipe.{field}=0.5; allowed: 0"):
        MaeMethod.parse({"recipe": RECIPE | {field: 0.5}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder_dim": 10}, "decoder_dim=10; allowed: multiples of 4"),
        ({"decoder_heads": 3}, "decoder_heads=3 does not divide decoder_dim=8"),
        ({"mask_ratio": 1.0}, "mask_ratio: got 1.0"),
    ],
)
def test_decoders_that_cannot_be_built_are_refused(change, message):
    with pytest.raises(SpecError, match=message):
        MAE.changed(**change)


def test_models_with_a_second_prefix_token_and_crops_that_do_not_tile_are_refused():
    with pytest.raises(SpecError, match="distilled=True has a second prefix token"):
        RUNS["mae"].changed(model=MICRO.changed(distilled=True))
    with pytest.raises(ValueError, match="patch_size: got 2, which does not tile 5 px"):
        RUNS["dino"].changed(method=DINO.changed(views=MultiCrop(global_size=8, local_size=5)))


def test_views_are_coloured_in_dinos_order_and_the_second_global_one_is_solarised_last(monkeypatch):
    """Each change replaced by a sum that its place can be read from: DataAugmentationDINO is jitter, greyscale, solarise, normalise."""
    chances = {}

    def planted(name, change):
        def changed(images, probability, *_):
            chances[name] = probability
            return change(images)

        monkeypatch.setattr(training, name, changed)

    planted("colour_jitter", lambda x: x / 2)
    planted("greyscale", lambda x: x + 0.25)
    planted("solarised", lambda x: 1 - x)
    monkeypatch.setattr(training, "resized_crop", lambda images, *_: images)
    data = Data(source="digits", image_size=8, mean=(0.5,), std=(0.125,))
    pictures = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    views = training.Views(MultiCrop(global_size=8, local_size=8, local_views=2), data, "cpu")
    global_views, local_views = views((pictures - 0.5) / 0.125)
    plain = pictures / 2 + 0.25
    expected = torch.cat([plain, 1 - plain])
    assert_close(global_views * 0.125 + 0.5, expected, rtol=0, atol=1e-6)
    assert_close(local_views * 0.125 + 0.5, plain.repeat(2, 1, 1, 1), rtol=0, atol=1e-6)
    assert chances == {"colour_jitter": 0.8, "greyscale": 0.2, "solarised": 0.2}


def test_crops_are_as_fine_under_bf16_as_without_it():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def crops(around):
        torch.manual_seed(1)
        with around:
            return resized_crop(images, 64, (0.2, 0.4))

    plain = crops(nullcontext())
    with torch.autocast("cpu", torch.bfloat16):
        guarded, unguarded = crops(in_float32(images)), crops(nullcontext())
    assert torch.equal(guarded, plain)
    assert (unguarded - plain).abs().max() > 0.01
