# ruff: noqa: E501  (one case a line)
"""Bad inputs are refused before anything is computed, within seconds, by a message that helps.

Each message names the field, the value, and what is allowed.
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from tests.support import files_below, make_images
from vitlib import load_study
from vitlib.inputs.models import Timm
from vitlib.inputs.sources import Data, fingerprint
from vitlib.papers.deit.specs import Released
from vitlib.runs.archive import import_
from vitlib.runs.manifest import StoreError
from vitlib.runs.preflight import preflight
from vitlib.runs.store import Store
from vitlib.spec import SpecError

SECONDS = 5


@pytest.fixture
def refused(tmp_path):
    """Asserts that a call is refused in time, in these words, and that nothing was computed."""

    def refused(call, *words: str) -> None:
        begun = time.monotonic()
        with pytest.raises((SpecError, StoreError)) as error:
            call()
        assert time.monotonic() - begun < SECONDS
        message = str(error.value)
        for word in words:
            assert word in message
        assert not re.search(r"Value error|function-after|\{'", message), f"not for a reader: {message}"
        assert not [name for name in files_below(tmp_path) if name.startswith("results/")]

    return refused


@pytest.fixture
def study(tmp_path):
    def study(overrides=None, profile="smoke", paper="deit", **places):
        places = {"results_dir": str(tmp_path / "results"), "data_dir": str(tmp_path / "data"), **places}
        return load_study(paper, profile, overrides=overrides, **places)

    return study


RECIPE_FIELDS = "augment, batch_size, beta2, channels_last"
SETTINGS = {  # overrides, and what the message must hold: field, value, what is allowed
    "misspelt setting": ({"seed": [1]}, "seed: unknown field; did you mean 'seeds'? allowed: classifier, data, finetune"),
    "unknown setting": ({"xyz": 1}, "xyz: unknown field; allowed: classifier, data, finetune"),
    "misspelt field of a recipe": ({"recipe": {"epoch": 1}}, "recipe.epoch: unknown field; did you mean 'epochs'?", RECIPE_FIELDS),
    "misspelt field two levels down": ({"recipe": {"augment": {"crops": 1}}}, "recipe.augment.crops", "did you mean 'crop'?", "allowed: crop, crop_area, cutout"),
    "misspelt field of one of two model classes": ({"teachers": {"ResNet-8": {"widht": 4}}}, "teachers.ResNet-8.widht: unknown field; did you mean 'width'? allowed: blocks, width"),
    "misspelt field of a student": ({"students": {"tiny": {"dept": 1}}}, "students.tiny.dept", "did you mean 'depth'?", "allowed: depth, distilled"),
    "unknown student": ({"students": {"huge": {"depth": 1}}}, "students.huge", "'huge'", "'tiny', 'small' or 'base'"),
    "text for a whole number": ({"recipe": {"epochs": "3"}}, "recipe.epochs: got '3'", "valid integer"),
    "text for a number": ({"recipe": {"lr": "0.1"}}, "recipe.lr: got '0.1'", "valid number"),
    "truth value for a whole number": ({"recipe": {"epochs": True}}, "recipe.epochs: got True", "valid integer"),
    "truth value for a number": ({"recipe": {"lr": True}}, "recipe.lr: got True", "valid number"),
    "fraction for a whole number": ({"recipe": {"epochs": 2.5}}, "recipe.epochs: got 2.5", "valid integer"),
    "float for a whole number": ({"seeds": [1.0]}, "seeds.0: got 1.0", "valid integer"),
    "number for a text": ({"teacher": 8}, "teacher: got 8", "valid string"),
    "number for a table": ({"recipe": 3}, "recipe: got 3", "object"),
    "nothing for a model": ({"teachers": {"ResNet-8": None}}, "teachers: got {}", "at least 1 item"),
    "negative epochs": ({"recipe": {"epochs": -1}}, "recipe.epochs: got -1", "greater than or equal to 1"),
    "no batch": ({"recipe": {"batch_size": 0}}, "recipe.batch_size: got 0", "greater than or equal to 2"),
    "learning rate that is no number": ({"recipe": {"lr": float("nan")}}, "recipe.lr: got nan", "finite"),
    "endless learning rate": ({"recipe": {"lr": float("inf")}}, "recipe.lr: got inf", "finite"),
    "no learning rate": ({"recipe": {"lr": 0}}, "recipe.lr: got 0", "greater than 0"),
    "odd batch under mixup": ({"recipe": {"batch_size": 41}}, "recipe: batch_size=41", "must be even"),
    "warm-up longer than training": ({"recipe": {"warmup_epochs": 7}}, "recipe: warmup_epochs=7", "epochs=2; allowed: at most that"),
    "labels smoothed away": ({"recipe": {"label_smoothing": 1.0}}, "recipe.label_smoothing: got 1.0", "less than 1"),
    "unknown optimiser": ({"recipe": {"optimizer": "adam"}}, "recipe.optimizer: got 'adam'", "'adamw', 'sgd', 'momentum' or 'lars'"),
    "heads that do not divide the width": ({"students": {"tiny": {"num_heads": 3}}}, "students.tiny: num_heads=3", "embed_dim=8", "[1, 2, 4, 8]"),
    "patches that do not tile": ({"students": {"tiny": {"patch_size": 3}}}, "students.tiny.patch_size=3", "8 px; choose a divisor"),
    "patches that do not tile the larger image": ({"finetune_size": 13}, "patch_size=2", "13 px; choose a divisor"),
    "unknown teacher": ({"teacher": "ResNet-50"}, "teacher='ResNet-50'", "allowed: ResNet-8"),
    "no seeds": ({"seeds": []}, "seeds: got []", "at least 1"),
    "negative seed": ({"seeds": [-1]}, "seeds.0: got -1", "greater than or equal to 0"),
    "the same seed twice": ({"seeds": [3, 3]}, "seeds: got [3, 3]", "allowed: each seed once"),
    "seeds that are no list": ({"seeds": range(3)}, "seeds: got range(0, 3)", "allowed: plain numbers, strings, lists"),
    "numpy's numbers": ({"recipe": {"epochs": np.int64(3)}}, "recipe.epochs: got np.int64(3)", "allowed: plain numbers"),
    "settings that are no table": (["seeds"], "overrides: got ['seeds']", "allowed: a table of settings"),
    "few-shot twice": ({"data": {"fraction": 0.5}}, "data: per_class=12 and fraction=0.5", "give one"),
    "no part of the data": ({"data": {"per_class": None, "fraction": 0.0}}, "data.fraction: got 0.0", "greater than 0"),
    "source outside the data folder": ({"data": {"source": "../x"}}, "data.source: got '../x'", "allowed: 'digits', 'folder/NAME'"),
    "source that climbs out": ({"data": {"source": "folder/../../x"}}, "data.source: got 'folder/../../x'", "allowed: 'digits', 'folder/NAME'"),
    "absolute source": ({"data": {"source": "folder//etc"}}, "data.source: got 'folder//etc'", "allowed: 'digits'"),
    "unknown source": ({"data": {"source": "cifar10"}}, "data.source: got 'cifar10'", "allowed: 'digits'"),
    "constants of another number of channels": ({"data": {"mean": [0.1, 0.2]}}, "data: mean has 2 channels and std 1", "must agree"),
    "no channels": ({"data": {"mean": [], "std": []}}, "data.mean: got []", "at least 1"),
    "timm name without a tag": ({"teachers": {"RegNet": {"name": "regnety_160", "pretrained": True}}}, "teachers.RegNet: name='regnety_160'", "allowed: 'architecture.tag'"),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), [(first, rest) for first, *rest in SETTINGS.values()], ids=[*SETTINGS])
def test_bad_settings_are_refused_when_the_study_is_loaded(study, refused, overrides, words):
    refused(lambda: study(overrides), *words)


def test_several_bad_settings_are_all_named(study, refused):
    refused(lambda: study({"seed": [1], "recipe": {"lr": "x"}}), "seed: unknown field", "recipe.lr: got 'x'")


CALLS = {
    "unknown paper": ({"paper": "diet"}, "paper: got 'diet'; did you mean 'deit'? allowed: "),
    "unknown profile": ({"profile": "nope"}, "profile: got 'nope'; allowed: desk, paper, quick, smoke, tiny"),
    "misspelt profile": ({"profile": "qick"}, "profile: got 'qick'; did you mean 'quick'?"),
    "no profile": ({"profile": None}, "profile: got None; allowed: desk"),
    "unknown device": ({"device": "gpu"}, "device: got 'gpu'; allowed: auto, cpu, cuda, cuda:N"),
}


@pytest.mark.parametrize(("places", "words"), [*CALLS.values()], ids=[*CALLS])
def test_bad_names_are_refused_when_the_study_is_loaded(study, refused, places, words):
    refused(lambda: study(**places), words)


EXECUTIONS = {
    "unknown executor": ({"executor": "slurm"}, "executor: got 'slurm'; allowed: inline, local, ray"),
    "misspelt executor": ({"executor": "lokal"}, "executor: got 'lokal'; did you mean 'local'? allowed: inline, local, ray"),
    "misspelt mode": ({"mode": "readonly"}, "mode: got 'readonly'; did you mean 'read-only'? allowed: cached, force"),
}


@pytest.mark.parametrize(("how", "words"), [*EXECUTIONS.values()], ids=[*EXECUTIONS])
def test_bad_ways_to_execute_are_refused(study, refused, how, words):
    refused(lambda: study().execute(**how), words)


def test_a_few_shot_subset_larger_than_a_class_of_the_digits_is_refused(study, refused):
    # the smallest class of the training half of scikit-learn's digits has 87 images
    load = lambda: study({"data": {"per_class": 88}})  # noqa: E731
    refused(load, "data.per_class: got 88", "of digits has 87 images; allowed: at most that")


UNWRITABLE = r"results_dir: .*/results/deeper cannot be written \(.*\); choose a folder .*mode='read-only'"


@pytest.mark.parametrize(("place", "said"), [("results", r"results_dir: .*/results is a file"), ("results/deeper", UNWRITABLE)])
def test_a_results_folder_that_cannot_be_written_is_refused(study, tmp_path, place, said):
    """Root may write everywhere, but nobody below a file."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StoreError, match=said):
        study(results_dir=str(tmp_path / place)).execute()
    assert (tmp_path / "results").read_text() == "a file"


def test_an_archive_that_climbs_out_is_refused(refused, tmp_path):
    with tarfile.open(tmp_path / "runs.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil/result.json"), io.BytesIO())
    refused(
        lambda: import_(Store(tmp_path / "results"), tmp_path / "runs.tar"),
        "runs.tar",
        "'../evil/result.json'",
        "allowed: regular files RUN/",
    )


# ------------------------------------------------------------------------------------------------ image folders


def remove_all(root):
    for path in sorted(root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def remove_folder(root):
    remove_all(root)
    root.rmdir()


def remove_training(root):
    (root / "train").rename(root / "trian")


def remove_classes(root):
    remove_all(root / "test")


def empty_a_class(root):
    remove_all(root / "train" / "dog")


def write_text_for_an_image(root):
    (root / "train" / "cat" / "1.png").write_text("not an image")


def truncate_an_image(root):
    path = root / "test" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])


def break_a_header(root):
    path = root / "test" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:8] + b"\0\0\0\x05IHDR" + path.read_bytes()[16:])


def rename_a_class(root):
    (root / "test" / "dog").rename(root / "test" / "wolf")


def leave(root):
    pass


FOLDERS = {
    "missing folder": (remove_folder, {}, "data.source: 'folder/pets'", "data/pets: the folder does not exist", "Put train|val|test/CLASS/*.jpg there"),
    "empty folder": (remove_all, {}, "data.source: 'folder/pets'", "it holds no files", "Put train|val|test/CLASS/*.jpg there"),
    "no training split": (remove_training, {}, "data split 'train': none of train in", "allowed layout: train|val|test/CLASS/*"),
    "split without classes": (remove_classes, {}, "data/pets/test: no class folders", "allowed layout: train|val|test/CLASS/*"),
    "class without images": (empty_a_class, {}, "train/dog: no images in it", "allowed suffixes: .bmp, .jpeg"),
    "image that is none": (write_text_for_an_image, {}, "train/cat/1.png: cannot be read", "replace or remove the file"),
    "truncated image": (truncate_an_image, {}, "test/dog/2.png: cannot be read", "replace or remove the file"),
    "broken header": (break_a_header, {}, "test/dog/2.png: cannot be read", "replace or remove the file"),
    "classes that differ": (rename_a_class, {}, "classes differ between train and test: dog, wolf", "allowed: the same in both"),
    "too many images a class": (leave, {"per_class": 4}, "data.per_class: got 4, class 0 of folder/pets has 3 images", "allowed: at most that"),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "fields", "words"), [(harm, fields, words) for harm, fields, *words in FOLDERS.values()], ids=[*FOLDERS])
def test_bad_image_folders_are_refused_before_training(study, refused, tmp_path, harm, fields, words):
    harm(make_images(tmp_path / "data" / "pets"))
    fingerprint.cache_clear()
    small = {name: {"batch_size": 6} for name in ("recipe", "teacher_recipe", "finetune")} | {"num_classes": 2, "second_test": None}
    refused(lambda: study({"data": {"source": "folder/pets", "per_class": None, **fields}, **small}).execute(), *words)


def test_a_second_test_set_needs_test_images_and_no_training_images(tmp_path):
    """ImageNet-V2 has none of the latter."""
    make_images(tmp_path / "pets")
    other = make_images(tmp_path / "pets2", splits=("val",))
    data = Data(source="folder/pets", image_size=8, mean=(0.5,), std=(0.5,))
    run = Released(model=Timm(name="vit.tag"), data=data, second_test=data.changed(source="folder/pets2"))
    fingerprint.cache_clear()
    preflight([run], tmp_path)
    remove_all(other / "val" / "dog")
    with pytest.raises(SpecError, match=r"val/dog: no images in it"):
        preflight([run], tmp_path)


# ------------------------------------------------------------------------------------------------ parts, and the clock


def test_a_bad_value_given_in_python_is_refused_like_one_from_a_file():
    with pytest.raises(SpecError, match=r"image_size: got 2; .*greater than or equal to 4"):
        Data.parse({"source": "digits", "image_size": 2})
    with pytest.raises(SpecError, match=r"name='vit' has no tag; allowed: 'architecture.tag'"):
        Timm.parse({"name": "vit", "pretrained": True})


def test_a_bad_profile_is_refused_in_seconds_by_a_fresh_process_that_never_imports_torch():
    code = "import sys, vitlib\ntry: vitlib.load_study('deit', 'nope')\nfinally: print([name for name in ('torch', 'timm') if name in sys.modules])"
    load = max(1.0, os.getloadavg()[0] / os.cpu_count())
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert time.monotonic() - begun < SECONDS * load
    assert done.returncode == 1
    assert done.stdout == "[]\n"
    assert done.stderr.splitlines()[-1] == "vitlib.spec.SpecError: profile: got 'nope'; allowed: desk, paper, quick, smoke, tiny"
