"""What runs demand of models and data is checked when a study is loaded, before anything is computed or written."""

import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data import ImageNetInfo
from torch.testing import assert_close

import vitlib.papers
from tests.support import files_below, make_images
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.inputs.data import channel_constants, renormalised
from vitlib.inputs.foreign.architecture import Architecture, _looked_at, architecture, known_vit
from vitlib.inputs.foreign.classes import Knows, columns_of, keep_columns
from vitlib.inputs.foreign.demands import SameClasses, Tells, TrainsOn, Uses
from vitlib.inputs.models import ResNet, Timm, Vit, build
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sources import IMAGENET_MEAN, IMAGENET_STD, Data, fingerprint
from vitlib.papers.deit.specs import Released
from vitlib.papers.multi_distillation.specs import Alone
from vitlib.recipe import Recipe
from vitlib.runs.provenance import facts
from vitlib.runs.store import Store
from vitlib.spec import Result, RunSpec, SpecError
from vitlib.teachers.teacher import Teacher, Untrained

VIT_B16 = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)
NOWHERE = Path("/nowhere")
IMAGENET = ImageNetInfo("imagenet-1k").label_names()
RELEASED = "deit_tiny_patch16_224.fb_in1k"


def runs_of_the_documents():
    names = [module.name for module in pkgutil.walk_packages(vitlib.papers.__path__, "vitlib.papers.")]
    modules = [importlib.import_module(name) for name in [*names, "vitlib.teachers.pretrain"]]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type) and issubclass(value, RunSpec)}
    return sorted(found - {RunSpec}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", runs_of_the_documents(), ids=lambda cls: cls.__name__)
def test_a_run_with_a_model_or_a_recipe_of_its_own_says_what_it_demands(cls):
    """Searches and what they propose train by a run among their fields, which says it."""
    by_a_run = cls.__name__ in ("Proposals", "Guided", "Best")
    assert by_a_run or cls.demands is not RunSpec.demands


# ------------------------------------------------------------------------------------------------ architectures


@pytest.mark.parametrize("distilled", [False, True])
def test_what_is_known_of_a_vit_by_its_fields_is_what_is_seen_of_the_same_model_of_timm(distilled):
    name = "deit_tiny_distilled_patch16_224" if distilled else "deit_tiny_patch16_224"
    known = Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16, distilled=distilled)
    assert architecture(known, 32, 3) == architecture(Timm(name=name), 32, 3)


def test_what_is_known_of_a_resnet_by_its_fields_is_what_timm_gives():
    model = ResNet(width=4, blocks=(1, 1, 1, 1))
    module = build(model, image_size=16, channels=1, num_classes=3)
    assert architecture(model, 16, 1) == Architecture(type(module).__name__) and not hasattr(module, "blocks")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("vit_base_patch16_224.augreg_in1k", VIT_B16),
        ("vit_base_patch16_224.mae", VIT_B16),
        ("deit_tiny_distilled_patch16_224", Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16, distilled=True)),
        ("beit_base_patch16_224", None),
        ("vit_base_patch16_siglip_224", None),
        ("deit3_base_patch16_224", None),
        ("vit_base_patch16_rope_224", None),
        ("resnet18", None),
    ],
)
def test_formulas_are_given_for_models_that_have_the_parameters_of_a_plain_vit(name, known):
    assert known_vit(Timm(name=name), 224, 3) == known


def test_looking_at_an_architecture_takes_no_random_number_and_is_done_once():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _looked_at.cache_clear()
    for _ in range(3):
        architecture(Timm(name="test_vit"), 32, 3)
    assert torch.equal(torch.rand(1), expected) and _looked_at.cache_info().misses == 1


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (Timm(name="vit_tiny_patch16_224"), 100, "got 16, which does not tile 100 px"),
        (Timm(name="eva02_tiny_patch14_224"), 100, "got 14, which does not tile 100 px"),
        (Timm(name="vit_tinny_patch16_224"), 32, "did you mean 'vit_tiny_patch16_224'?"),
        (Timm(name="vit_tiny_patch16_224.nope"), 32, "with one of the tags augreg_in21k"),
        (Timm(name="vgg11"), 4, "'vgg11'"),
        (Timm(name="qwen3_vit_306m_enc"), 224, "gives no features of images of 224 px"),
        (Vit(embed_dim=8, depth=1, num_heads=2, patch_size=3), 8, "got 3, which does not tile 8 px"),
    ],
    ids=str,
)
def test_a_model_that_takes_no_such_images_is_refused_in_a_line(model, size, said):
    with pytest.raises(SpecError) as refused:
        Uses("teacher", model, size, 3).check(NOWHERE)
    assert str(refused.value).startswith("teacher: ") and said in str(refused.value) and len(str(refused.value)) < 400


def test_a_released_model_keeps_the_margin_that_it_was_trained_with():
    assert architecture(Timm(name="vit_so400m_patch14_siglip_384"), 384, 3).patches == (384 // 14) ** 2


def test_a_drop_path_that_an_architecture_does_not_know_is_refused_when_loaded():
    with pytest.raises(SpecError, match=r"model: model.name: 'vgg11' cannot be built .*drop_path_rate"):
        Uses("model", Timm(name="vgg11"), 32, 3, drop_path=0.1).check(NOWHERE)
    Uses("model", Timm(name="vgg11"), 32, 3).check(NOWHERE)


# ------------------------------------------------------------------------------------------------ data


def photos(tmp_path, classes=("cat", "dog"), images=3):
    make_images(tmp_path / "photos", classes=classes, images=images)
    return Data(source="folder/photos", image_size=8)


@pytest.mark.parametrize(
    ("fields", "held_out", "images"),
    [({}, 0.0, 12), ({"per_class": 2}, 0.0, 4), ({"fraction": 0.5}, 0.0, 6), ({}, 0.5, 6), ({"fraction": 0.5}, 0.34, 4)],
)
def test_a_batch_larger_than_the_training_images_is_refused_and_one_as_large_is_not(tmp_path, fields, held_out, images):
    data = photos(tmp_path, images=6).changed(**fields)
    TrainsOn(data, images, held_out).check(tmp_path)
    with pytest.raises(
        DataError, match=rf"batch_size: got {images + 1}, but folder/photos has {images} training images; allowed: at most that"
    ):
        TrainsOn(data, images + 1, held_out).check(tmp_path)
    TrainsOn(data, images + 1, held_out).check(NOWHERE)  # a machine that only shows results


def test_the_held_out_share_is_counted_as_runs_take_it(tmp_path):
    data = Data(source="digits", image_size=8, per_class=7, mean=(0.3,), std=(0.4,))
    run = Alone(
        model=ResNet(width=4, blocks=(1, 1, 1, 1)), data=data, recipe=Recipe(epochs=1, batch_size=50, lr=0.1), seed=0, held_out=0.3,
        measured_on="test",
    )  # fmt: skip
    with pytest.raises(DataError, match="got 51, but digits has 50"):
        for demand in run.changed(recipe=run.recipe.changed(batch_size=51)).demands():
            demand.check(tmp_path)
    for demand in run.demands():
        demand.check(tmp_path)


def test_another_number_of_classes_than_the_datas_is_refused(tmp_path):
    with pytest.raises(DataError, match="num_classes: got 7, but folder/photos has 2 classes; allowed: 2"):
        Tells("num_classes", 7, photos(tmp_path)).check(tmp_path)
    Tells("num_classes", 7, photos(tmp_path / "other")).check(NOWHERE)


@pytest.mark.parametrize(
    ("paper", "overrides", "said"),
    [
        ("deit", {"num_classes": 7}, "num_classes: got 7, but digits has 10 classes"),
        ("deit", {"recipe": {"batch_size": 1000}}, "batch_size: got 1000, but digits has 120 training images"),
        ("afr_pruning", {"recipe": {"batch_size": 100}}, "batch_size: got 100, but digits has 40"),
        ("wecolora", {"recipe": {"epochs": 1}}, "staged_epochs=1 leave none of 1 epochs for the whole student"),
        ("wecolora", {"data": {"mean": [0.5], "std": [0.5]}}, "data.mean: got 1 channels, and the teacher takes 3"),
        ("multi_distillation", {"model": {"embed_dim": 8, "depth": 3, "num_heads": 2, "patch_size": 4}}, "exits after a quarter"),
        ("dual_ssl_kd", {"student": {"num_heads": 1}}, "no two heads, one for each teacher"),
        ("dual_ssl_kd", {"student": {"patch_size": 2}}, "maps of 17 tokens, as the student has"),
    ],
)
def test_a_study_that_some_run_could_not_be_computed_with_is_refused_when_loaded(paper, overrides, said, tmp_path):
    with pytest.raises(SpecError) as refused:
        load_study(paper, "smoke", overrides=overrides, results_dir=str(tmp_path / "results"), data_dir=str(tmp_path))
    assert said in str(refused.value) and not files_below(tmp_path)


# ------------------------------------------------------------------------------------------------ released classifiers


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


# ------------------------------------------------------------------------------------------------ one rule for normalisation


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


def test_a_second_test_set_of_other_classes_is_refused_and_a_numbered_one_is_not(tmp_path):
    data = photos(tmp_path)
    for name, classes in {"same": ("cat", "dog"), "other": ("cat", "cow"), "numbered": ("0", "1"), "more": ("0", "1", "2")}.items():
        make_images(tmp_path / name, classes=classes)
    for name in ("same", "numbered"):
        SameClasses(data, data.changed(source=f"folder/{name}")).check(tmp_path)
    for name, said in {"other": "cow, dog", "more": "0, 1, 2, cat, dog"}.items():
        with pytest.raises(DataError, match=rf"classes of folder/{name} are not those of folder/photos \({said}\)"):
            SameClasses(data, data.changed(source=f"folder/{name}")).check(tmp_path)
    SameClasses(data, data.changed(source="folder/absent")).check(tmp_path)


def test_images_that_are_here_and_cannot_be_read_are_no_images_that_are_absent(tmp_path):
    data = photos(tmp_path)
    (tmp_path / "photos" / "train" / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for refused in (lambda: Tells("num_classes", 7, data).check(tmp_path), lambda: load_photos(tmp_path)):
        fingerprint.cache_clear()
        with pytest.raises(DataError, match=r"lost\.png: leads nowhere"):
            refused()


def load_photos(tmp_path):
    overrides = {"data": {"source": "folder/photos", "per_class": None}, "second_test": None, "num_classes": 2}
    return load_study("deit", "smoke", overrides=overrides, results_dir=str(tmp_path / "results"), data_dir=str(tmp_path))


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


def test_null_takes_the_profiles_own_sets_and_models_away(tmp_path):
    photos(tmp_path)
    mine = {"source": "folder/photos", "image_size": 16}
    overrides = {
        "teachers": {"supervised": None, "dino": None, "mine": {"origin": {"model": "test_vit", "image_size": 16}}},
        "generic": {"digits": None, "photos": mine},
        "fine": {"few": None, "others": mine},
        "stands_for": {"digits": None, "few": None, "photos": "CIFAR-10", "others": "Pets"},
        "recipe": {"batch_size": 4},
        "fine_recipe": {"batch_size": 4},
    }
    places = {"results_dir": str(tmp_path / "results"), "figures_dir": str(tmp_path / "figures"), "data_dir": str(tmp_path)}
    study = load_study("afr_pruning", "smoke", overrides=overrides, **places)
    assert {run.data.source for run in study.specs.values()} == {"folder/photos"} and list(study.settings.teachers) == ["mine"]
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in places.items()]
    assert main(["render", "afr_pruning", "--profile", "smoke", "--overrides", json.dumps(overrides), *arguments]) == 0
    with pytest.raises(SpecError, match="sedes: unknown field; did you mean 'seeds'"):
        load_study("afr_pruning", "smoke", overrides={"sedes": None}, **places)


def test_results_of_a_file_of_ones_own_are_shown_where_the_file_is_not(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "mine.pth")
    sets = {"generic": {"digits": {"image_size": 16}}, "fine": {"few": {"image_size": 16}}}
    teachers = {name: {"origin": {"file": "mine.pth", "model": "test_vit"}} for name in ("supervised", "dino")}

    def load(data_dir):
        return load_study(
            "afr_pruning", "smoke", overrides={"teachers": teachers} | sets, results_dir=str(tmp_path / "r"), data_dir=data_dir
        )

    here = load(str(tmp_path))
    with pytest.raises(SpecError, match=r"mine\.pth: no such file"):
        load(str(tmp_path / "elsewhere"))
    run = next(iter(here.specs.values()))
    Store(here.place.results_dir).put(run, Result({"top1": 50.0}), facts(type(run).__module__, "cpu"))
    there = load(str(tmp_path / "elsewhere"))
    assert list(there.specs) == list(here.specs) and list(there.execute(mode="read-only").stored) == [run.id]


def test_a_choice_of_outputs_without_a_released_model_is_refused(tmp_path):
    with pytest.raises(SpecError, match="classifier='wnid' without a released model; allowed: 'all', or a pretrained teacher"):
        load_study("deit", "smoke", overrides={"classifier": "wnid"}, results_dir=str(tmp_path))


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
