"""What makes the seeds of two students pairs: the same images in the same order, whatever they learn from."""

import pytest

from tests.support import context
from vitlib.computing import result_of
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit import compute
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Recipe

DIGITS = Data(source="digits", image_size=8, per_class=8, mean=(0.304,), std=(0.375,))
RECIPE = Recipe(epochs=1, batch_size=16, lr=1e-3)
ALONE = Student(data=DIGITS, model=Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, distilled=True), recipe=RECIPE, seed=0)
TEACHER = Student(data=DIGITS, model=ResNet(width=4, blocks=(1, 1, 1, 1)), recipe=RECIPE, seed=0)


def test_students_of_one_seed_see_the_same_images_in_the_same_order_whatever_they_learn_from(monkeypatch):
    shown = []

    def first_epoch(model, batches, *given, **named):
        shown.append([labels.tolist() for _, labels in batches.epoch(0)])
        raise InterruptedError

    monkeypatch.setattr(compute, "train", first_epoch)
    monkeypatch.setattr(compute, "frozen_teacher", lambda *about: None)
    arms = [
        ALONE,
        ALONE.changed(objective="hard", teacher=TEACHER),
        ALONE.changed(objective="soft", teacher=TEACHER),
        ALONE.changed(seed=1),
    ]
    for arm in arms:
        with pytest.raises(InterruptedError):
            result_of(arm, context())
    assert shown[0] == shown[1] == shown[2] != shown[3]
