"""Which images trainings are followed on, and that these are checked before anything runs."""

import pytest

from tests.support import make_images
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, load
from vitlib.papers.wecolora.specs import Downstream
from vitlib.recipe import Recipe
from vitlib.runs.preflight import preflight
from vitlib.teachers.teacher import Teacher

FOLDER = Data(source="folder/mine", image_size=8)


@pytest.mark.parametrize(
    ("splits", "watched"),
    [
        (("train", "test"), "test"), (("train", "val"), "test"), (("train", "val", "test"), "validation"),
        (("train", "validation", "test"), "validation"), (("train",), "test"),
    ],
)  # fmt: skip
def test_validation_images_are_those_that_are_not_the_test_images(tmp_path, splits, watched):
    make_images(tmp_path / "mine", splits=splits)
    assert watched_split(FOLDER, tmp_path) == watched


def test_the_digits_have_validation_images_that_no_other_split_has():
    digits = Data(source="digits", image_size=8, mean=(0.3,), std=(0.4,))
    assert watched_split(digits, None) == "validation"
    assert [len(load(digits, split, None)[1]) for split in ("train", "validation", "test")] == [898, 179, 720]


def test_validation_images_of_other_classes_are_refused_before_anything_runs(tmp_path):
    make_images(tmp_path / "mine")
    make_images(tmp_path / "mine", classes=("cat", "horse"), splits=("validation",))
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1)
    run = Downstream(teacher=Teacher(origin={"shipped": "supervised"}), student=None, data=FOLDER, recipe=recipe, seed=0)
    with pytest.raises(DataError, match=r"classes differ between train and validation and test: dog, horse"):
        preflight([run], tmp_path)
