"""Losses that are not finite, exploding gradients, constant labels, empty classes, a single image: failed with the cause, or right."""

import math

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.numbers.cases import RECIPE, RIGHT, SOUND, VIT, WRONG, folder
from vitlib.__main__ import main
from vitlib.papers.deit.specs import Student
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.store import Store
from vitlib.spec import SpecError

DIVERGING = '{"recipe": {"lr": 1e30}}'
ROW = "numbers that go wrong, and sets of hardly any images"


@pytest.mark.parametrize(("spec", "cause"), WRONG.values(), ids=WRONG)
def test_numbers_that_go_wrong_fail_with_their_cause_and_the_batch_goes_on(place, store, spec, cause):
    with pytest.raises(RunsFailedError, match=r"^1 run\(s\) failed") as error:
        execute([spec, SOUND], place)
    assert f"{spec.id}: {cause}" in str(error.value)
    assert "recipe.lr" in str(error.value)
    assert SOUND.id in store and spec.id not in store
    assert store.failure(spec.id).startswith(cause)
    count(ROW)


@pytest.mark.parametrize("spec", RIGHT.values(), ids=RIGHT)
def test_what_looks_dangerous_and_is_not_is_computed(place, spec):
    result = execute([spec], place)[spec.id]
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert result.metrics["top1"] == pytest.approx(100 * np.mean(result.arrays["predictions class"] == result.arrays["labels"]))
    count(ROW)


HARDLY = {
    "labels that are all the same": ({"train": {"only": 9}, "test": {"only": 3}}, 8, 100.0),
    "a test set of one image": ({"train": {"cat": 4, "dog": 4}, "test": {"cat": 1, "dog": 1}}, 8, None),
    "two training images": ({"train": {"cat": 1, "dog": 1}, "test": {"cat": 2, "dog": 2}}, 2, None),
}


@pytest.mark.parametrize(("splits", "batch_size", "top1"), HARDLY.values(), ids=HARDLY)
def test_hardly_any_images_are_trained_on_and_counted_right(place, splits, batch_size, top1):
    spec = Student(data=folder(place.data_dir, "few", **splits), model=VIT, recipe=RECIPE.changed(batch_size=batch_size), seed=0)
    result = execute([spec], place)[spec.id]
    right = result.arrays["predictions class"] == result.arrays["labels"]
    assert len(right) == sum(splits["test"].values())
    assert result.metrics["top1"] == pytest.approx(100 * right.mean())
    assert top1 is None or result.metrics["top1"] == top1
    count(ROW)


REFUSED = {
    "one image": ({"train": {"only": 1}, "test": {"only": 1}}, 2, r"batch_size: got 2, but folder/few has 1 training images"),
    "a batch larger than the set": ({"train": {"cat": 3, "dog": 4}, "test": {"cat": 1, "dog": 1}}, 8, "got 8, but folder/few has 7"),
    "an empty class": ({"train": {"cat": 4, "dog": 0}, "test": {"cat": 1, "dog": 1}}, 2, "class folder .*train/dog: no images in it"),
    "a class that is not tested": ({"train": {"cat": 4, "dog": 4}, "test": {"cat": 1}}, 2, "classes differ between train and test: dog"),
    "a class that is not trained": ({"train": {"cat": 4}, "test": {"cat": 1, "dog": 1}}, 2, "classes differ between train and test: dog"),
    "nothing to test": ({"train": {"cat": 4, "dog": 4}, "test": {}}, 2, "data split 'test'"),
    "no classes at all": ({"train": {"cat": 4}, "test": {"cat": 0}}, 2, "class folder .*test/cat: no images in it"),
}


@pytest.mark.parametrize(("splits", "batch_size", "message"), REFUSED.values(), ids=REFUSED)
def test_sets_that_cannot_be_trained_on_are_refused_before_anything_is_computed(place, store, splits, batch_size, message):
    spec = Student(data=folder(place.data_dir, "few", **splits), model=VIT, recipe=RECIPE.changed(batch_size=batch_size), seed=0)
    with pytest.raises((SpecError, RunsFailedError), match=message):
        execute([spec], place)
    assert spec.id not in store
    count(ROW)


def test_a_study_with_failed_runs_ends_with_status_1_and_its_tables_have_a_dash_for_them(tmp_path, capsys):
    places = ["--profile", "smoke", "--results-dir", str(tmp_path / "results"), "--device", "cpu", "--overrides", DIVERGING]
    assert main(["run", "deit", *places, "--executor", "inline"]) == 1
    said = capsys.readouterr().err
    assert "DivergedError: loss: not finite" in said and "run(s) failed" in said
    assert Store(tmp_path / "results").ids(), "the teachers"
    assert main(["run", "deit", *places, "--executor", "inline"]) == 1, "the same again, without computing"
    assert main(["render", "deit", *places, "--figures-dir", str(tmp_path / "figures")]) == 0
    count(ROW)
