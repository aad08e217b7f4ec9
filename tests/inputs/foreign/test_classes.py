"""Released classifiers: which outputs are the data's classes, found by name, chosen, or refused."""

import pytest
import timm
import torch
from timm.data import ImageNetInfo
from torch.testing import assert_close

from tests.inputs.foreign.support import NOWHERE, photos
from vitlib import load_study
from vitlib.inputs.foreign.classes import Knows, columns_of, keep_columns
from vitlib.inputs.models import Timm
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Released
from vitlib.spec import SpecError

IMAGENET = ImageNetInfo("imagenet-1k").label_names()
RELEASED = "deit_tiny_patch16_224.fb_in1k"


def test_a_classifier_of_other_classes_is_refused_unless_the_study_says_which_are_meant():
    with pytest.raises(SpecError, match=r"got 'all' for deit_tiny.*1000 classes apart, not the data's 2; allowed: 'wnid'"):
        columns_of(RELEASED, "all", ["cat", "dog"])
    assert columns_of(RELEASED, "all", IMAGENET) == list(range(1000))
    assert columns_of(RELEASED, "all", [str(number) for number in range(1000)]) == list(range(1000))  # ImageNet-V2's folders
    with pytest.raises(SpecError, match="another order"):
        columns_of(RELEASED, "all", [*IMAGENET[1:], IMAGENET[0]])


def test_classes_named_by_wordnet_are_found_among_the_outputs_in_any_order():
    chosen = [7, 500, 3]
    assert columns_of(RELEASED, "wnid", [IMAGENET[place] for place in chosen]) == chosen
    with pytest.raises(SpecError, match=r"cat, n00000000 are no classes of deit_tiny"):
        columns_of(RELEASED, "wnid", ["cat", IMAGENET[3], "n00000000"])
    many = columns_of("vit_base_patch16_224.augreg_in21k", "wnid", [IMAGENET[3]])
    assert many != [3] and len(many) == 1
    with pytest.raises(SpecError, match="no classes of ImageNet"):
        columns_of("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", "wnid", ["n01440764"])


@pytest.mark.parametrize("columns", [(3,), (3, 3), (3, 1000)])
def test_columns_that_are_not_one_for_each_class_are_refused(columns):
    with pytest.raises(SpecError, match=r"got \[.*allowed: for each of the data's 2 classes another one of the 1000 outputs"):
        columns_of(RELEASED, columns, ["cat", "dog"])
    assert columns_of(RELEASED, (281, 207), ["cat", "dog"]) == [281, 207]


@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224", "test_resnet", "test_convnext3", "test_efficientnet"])
def test_kept_columns_are_the_models_own_logits(name):
    model = timm.create_model(name, num_classes=6).eval()
    images = torch.randn(2, 3, 224 if "deit" in name else 160, 224 if "deit" in name else 160)
    with torch.no_grad():
        before = model(images)
        assert_close(keep_columns(model, [4, 0, 5])(images), before[:, [4, 0, 5]])
    assert model.num_classes == 3


def test_a_study_with_a_released_teacher_of_other_classes_is_refused_before_anything_is_written(tmp_path):
    photos(tmp_path, classes=["cat", "dog"], images=6)
    small = {name: {"batch_size": 2} for name in ("recipe", "teacher_recipe", "finetune")}
    teachers = {"convnet": {"name": "regnety_160.deit_in1k", "pretrained": True}}
    data = {"source": "folder/photos", "per_class": None, "image_size": 32, "mean": None, "std": None}
    overrides = {"data": data, "second_test": None, "num_classes": 2, "teachers": teachers, **small}

    def load(**more):
        places = {"results_dir": str(tmp_path / "results"), "data_dir": str(tmp_path)}
        return load_study("deit", "smoke", overrides=overrides | more, **places)

    with pytest.raises(SpecError, match=r"classifier: got 'all' for regnety_160.deit_in1k, which tells 1000 classes apart"):
        load()
    assert {run.columns for run in load(classifier=[281, 207]).specs.values() if isinstance(run, Released)} == {(281, 207)}
    trained = load(classifier="trained")
    taught = [run.teacher for run in trained.specs.values() if getattr(run, "teacher", None)]
    assert {run.objective for run in taught if run.model == Timm(name="regnety_160.deit_in1k", pretrained=True)} == {"none"}
    assert not (tmp_path / "results").exists()


def test_real_labels_need_all_of_imagenets_classes():
    data = Data(source="folder/imagenet", image_size=224)
    with pytest.raises(ValueError, match="real_labels=True with columns='wnid'"):
        Released(model=Timm(name=RELEASED, pretrained=True), data=data, real_labels=True, columns="wnid")
    Knows("released", RELEASED, "all", data).check(NOWHERE)


def test_a_choice_of_outputs_without_a_released_model_is_refused(tmp_path):
    with pytest.raises(SpecError, match="classifier='wnid' without a released model; allowed: 'all', or a pretrained teacher"):
        load_study("deit", "smoke", overrides={"classifier": "wnid"}, results_dir=str(tmp_path))
