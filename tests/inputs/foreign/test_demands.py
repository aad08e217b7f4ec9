"""What runs demand of their data is checked when a study is loaded, before anything is computed or written."""

import importlib
import json
import pkgutil

import pytest
import timm
import torch

import vitlib.papers
from tests.inputs.foreign.support import NOWHERE, photos
from tests.support import files_below, make_images
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.computing import Result
from vitlib.inputs.foreign.demands import SameClasses, Tells, TrainsOn
from vitlib.inputs.models import ResNet
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sources import Data, fingerprint
from vitlib.papers.multi_distillation.specs import Alone
from vitlib.recipe import Recipe
from vitlib.runs.provenance import facts
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, SpecError
from vitlib.teachers.runs import OnTeacher


def runs_of_the_documents():
    names = [module.name for module in pkgutil.walk_packages(vitlib.papers.__path__, "vitlib.papers.")]
    modules = [importlib.import_module(name) for name in [*names, "vitlib.teachers.pretrain"]]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type) and issubclass(value, RunSpec)}
    return sorted(found - {RunSpec, OnTeacher}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", runs_of_the_documents(), ids=lambda cls: cls.__name__)
def test_a_run_with_a_model_or_a_recipe_of_its_own_says_what_it_demands(cls):
    """Searches, what they propose, and what measures a model that another run leaves have that run among their fields, which says it."""
    by_a_run = cls.__name__ in ("Proposals", "Guided", "Best", "Measured", "Latency", "Written", "Exported")
    assert by_a_run or cls.demands is not RunSpec.demands


# ------------------------------------------------------------------------------------------------ data


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


# ------------------------------------------------------------------------------------------------ sets and models of one's own


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
    Store(here.place.results_dir).put(run, Result({"top1": 50.0}), facts(type(run), "cpu"))
    there = load(str(tmp_path / "elsewhere"))
    assert list(there.specs) == list(here.specs) and list(there.execute(mode="read-only").stored) == [run.id]
