"""One rule for normalisation: images are normalised as the teacher was trained, unless the data say otherwise; stamps tell."""

import numpy as np
import pytest
import timm
import torch
from torch.testing import assert_close

from tests.inputs.foreign.support import photos
from vitlib import load_study
from vitlib.inputs.data import channel_constants, renormalised
from vitlib.inputs.models import Timm
from vitlib.inputs.sources import IMAGENET_MEAN, IMAGENET_STD, Data
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Teacher, Untrained


def test_images_are_normalised_as_the_teachers_were_unless_the_data_say_otherwise():
    origin = Untrained(model=Timm(name="test_vit"), image_size=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    data = Data(source="digits", image_size=32)
    assert Teacher(origin=origin).normalised(data).normalisation == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    own = data.changed(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert Teacher(origin=origin).normalised(own) == own
    assert data.normalisation == (IMAGENET_MEAN, IMAGENET_STD), "ImageNet's where no teacher is"
    with pytest.raises(SpecError, match="mean has 3 channels and std 0"):
        data.changed(mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(("paper", "name"), [("wecolora", "teacher"), ("afr_pruning", "supervised"), ("dual_ssl_kd", "cl")])
def test_every_document_normalises_as_its_teacher_does(paper, name, tmp_path):
    origin = {"model": "test_vit", "image_size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    sets = {"afr_pruning": {"generic": {"digits": {"image_size": 16}}, "fine": {"few": {"image_size": 16}}}}
    sizes = {"data": {"image_size": 16}, "downstream": {}, "student": {"patch_size": 16}, "distance_data": {"image_size": 16}}
    teachers = {
        "wecolora": {"teacher": {"origin": origin}, "recipe": {"epochs": 20}},
        "afr_pruning": {"teachers": {each: {"origin": origin} for each in ("supervised", "dino")}},
        "dual_ssl_kd": {"cl": {"origin": origin}, "mim": {"origin": origin}, "downstream": {"few": {"image_size": 16}}},
    }
    keep = {"dual_ssl_kd": ("data", "student", "distance_data")}.get(paper, ())
    overrides = teachers[paper] | sets.get(paper, {}) | {key: sizes[key] for key in keep}
    study = load_study(paper, "smoke", overrides=overrides, results_dir=str(tmp_path))
    seen = [run.data for run in study.specs.values() if hasattr(run, "recipe")]
    assert seen and {data.normalisation for data in seen} == {((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))}


def test_a_normalisation_of_the_datas_own_is_on_the_stamp(tmp_path):
    def stamp(**overrides):
        study = load_study("wecolora", "smoke", overrides=overrides, results_dir=str(tmp_path), figures_dir=str(tmp_path / "figures"))
        return study.stamp

    own = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    assert "normalised by the data's own mean" in stamp(data=own)
    assert "normalised" not in stamp() and "normalised" not in stamp(seeds=[3])


def test_a_released_teacher_normalised_by_the_datas_own_mean_is_on_the_stamp_of_deit(tmp_path):
    own = {"mean": [0.2, 0.2, 0.2], "std": [0.2, 0.2, 0.2]}
    places = {"results_dir": str(tmp_path), "data_dir": str(tmp_path)}
    assert "normalised by the data's own mean" in load_study("deit", "paper", overrides={"data": own}, **places).stamp
    assert "normalised" not in load_study("deit", "paper", **places).stamp


def test_the_second_test_set_is_normalised_as_the_first(tmp_path):
    own = {"mean": [0.2, 0.2, 0.2], "std": [0.2, 0.2, 0.2]}
    places = {"results_dir": str(tmp_path), "data_dir": str(tmp_path)}
    study = load_study("deit", "paper", overrides={"data": own}, **places)
    seconds = [run.second_test for run in study.specs.values() if getattr(run, "second_test", None)]
    assert seconds and {data.normalisation[0] for data in seconds} == {(0.2, 0.2, 0.2)}
    with pytest.raises(SpecError, match=r"second_test: mean and std .* those of data are"):
        load_study("deit", "paper", overrides={"data": own, "second_test": own | {"mean": [0.3] * 3}}, **places)


def test_a_released_teacher_with_a_classifier_that_is_trained_sees_its_own_normalisation(tmp_path):
    name = "vit_base_patch16_224.augreg_in1k"
    overrides = {"classifier": "trained", "teachers": {"convnet": {"name": name, "pretrained": True}}, "teacher": "convnet"}
    study = load_study("deit", "paper", overrides=overrides, results_dir=str(tmp_path), data_dir=str(tmp_path))
    teachers = [run.teacher for run in study.specs.values() if getattr(run, "teacher", None)]
    trained = [run for run in teachers if run.model == Timm(name=name, pretrained=True)]
    assert trained and {run.data.normalisation for run in trained} == {((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}


def test_teachers_of_different_normalisation_need_the_datas_own_for_every_set(tmp_path):
    def origin(mean):
        return {"origin": {"model": "test_vit", "image_size": 32, "mean": [mean] * 3, "std": [0.5] * 3}}

    own = {"mean": [0.3] * 3, "std": [0.3] * 3}
    sizes = {"student": {"patch_size": 16}, "distance_data": {"image_size": 16}}
    teachers = {"cl": origin(0.4), "mim": origin(0.5), **sizes}
    for data, few, said in (({}, {}, "data, which"), (own, {}, r"downstream\.\w+, which"), ({}, own, "data, which")):
        overrides = teachers | {"data": {"image_size": 16, **data}, "downstream": {"few": {"image_size": 16, **few}}}
        with pytest.raises(SpecError, match=f"a mean and std of {said}"):
            load_study("dual_ssl_kd", "smoke", overrides=overrides, results_dir=str(tmp_path))


def test_other_images_leave_the_normalisation_of_those_that_they_replace(tmp_path):
    photos(tmp_path)
    small = {name: {"batch_size": 4} for name in ("recipe", "teacher_recipe", "finetune")}
    study = load_photos_of(tmp_path, second_test=None, num_classes=2, **small)
    assert study.settings.data.normalisation == (IMAGENET_MEAN, IMAGENET_STD), "not the digits' one channel"
    with pytest.raises(SpecError, match=r"second_test: mean and std .* allowed: the same, or second_test = null"):
        load_photos_of(tmp_path, num_classes=2, **small)


def load_photos_of(tmp_path, **more):
    overrides = {"data": {"source": "folder/photos", "per_class": None}} | more
    return load_study("deit", "smoke", overrides=overrides, results_dir=str(tmp_path / "results"), data_dir=str(tmp_path))


def test_a_teacher_among_images_normalised_otherwise_sees_what_it_was_trained_on():
    seen = Data(source="digits", image_size=8)
    own = seen.changed(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    model = timm.create_model("test_resnet", num_classes=3).eval()
    pictures = torch.from_numpy(np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32))

    def normalised(data):
        mean, std = channel_constants(data, torch.device("cpu"))
        return (pictures - mean) / std

    with torch.no_grad():
        assert_close(renormalised(model, seen, own)(normalised(seen)), model(normalised(own)), rtol=1e-4, atol=1e-5)
    assert renormalised(model, own, own) is model
