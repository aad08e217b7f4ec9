"""Profile `tiny`: its structure is the documents', an hour of one GPU by plan, and every kind of its runs, cut down, runs on this CPU."""

from pathlib import Path

import pytest

from tests.cut_down import folders, one_of_each_kind, overrides
from tests.support import context
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.grid.entries import studies
from vitlib.inputs.sources import Data
from vitlib.studies.costs.amounts import Amounts, amounts_of
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.training.work import images
from vitlib.training.work.registry import Sets

NOWHERE = {"results_dir": "/nowhere", "figures_dir": "/nowhere", "data_dir": "/nowhere"}
PIECE, HOUR = 13, 60  # minutes: a loan with what its start takes, and all
SUBSETS = {  # training images, test images, classes of the subsets that its sizes were chosen by
    "tiny-imagenet": (84_008, 8_392, 172),
    "plantvillage": (900, 600, 15),
    "aid": (1_800, 1_200, 30),
    "caltech101": (2_778, 1_695, 99),
    "ham10000": (1_011, 416, 7),
    "flowers102": (2_040, 6_149, 102),
    "chestxray": (484, 238, 3),
    "dtd": (800, 394, 10),
    "stanfordcars": (2_240, 960, 80),
    "scene15": (900, 600, 15),
    "gtsrb": (2_580, 1_720, 43),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return folders(tmp_path_factory.mktemp("images"))


@pytest.fixture
def sized(monkeypatch):
    """Sizes are asked for where no images are."""
    monkeypatch.setattr(images, "PUBLISHED", images.PUBLISHED | SUBSETS)
    for known in (images.classes, images.images):
        known.cache_clear()
    yield Sets(Path("/nowhere"))
    for known in (images.classes, images.images):
        known.cache_clear()


def tiny(document, **more):
    return load_study(document, "tiny", device="cpu", **NOWHERE | more)


@pytest.mark.parametrize("document", studies())
def test_every_kind_of_run_cut_down_is_computed_on_this_cpu(document, made):
    study = tiny(document, data_dir=str(made), overrides=overrides(document, made))
    assert {cell.table for cell in study.cells} == {cell.table for cell in tiny(document).cells}
    assert {type(spec) for spec in study.specs.values()} == {type(spec) for spec in tiny(document).specs.values()}
    done = {}
    for spec in one_of_each_kind(study):
        done[spec.id] = result_of(spec, context(made, parent=lambda parent: done[parent.id]))
        assert done[spec.id].metrics or done[spec.id].arrays, spec


def minutes(document: str, sets: Sets) -> float:
    """By plan on an H100, parents that another document computes left out."""
    family = {member.id: member for spec in tiny(document).specs.values() for member in spec.family()}
    teachers = {member.id for spec in tiny("teachers").specs.values() for member in spec.family()} if document != "teachers" else set()
    amounts = sum((amounts_of(spec, sets) for run_id, spec in family.items() if run_id not in teachers), Amounts())
    return SHIPPED["h100"].wall(amounts) / 60


def test_all_documents_and_teachers_take_an_hour_of_one_gpu_by_plan_none_more_than_a_piece(sized):
    found = {document: minutes(document, sized) for document in studies()}
    assert max(found.values()) <= PIECE, found
    assert HOUR - 10 <= sum(found.values()) <= HOUR, found


@pytest.mark.parametrize("document", studies())
def test_its_images_are_folders_of_32_px_and_its_transformers_have_twelve_blocks(document):
    settings = tiny(document).settings
    sets = [settings.data, *(data for name in ("generic", "fine", "downstream") for data in getattr(settings, name, {}).values())]
    assert {(data.image_size, data.source.partition("/")[0]) for data in sets} == {(32, "folder")}
    models = [
        *getattr(settings, "students", {}).values(),
        *getattr(settings, "transformers", {}).values(),
        getattr(settings, "student", None),
    ]
    assert {(model.depth, model.patch_size) for model in models if model} <= {(12, 4)}


def test_sets_beside_the_documents_own_may_be_absent():
    optional = {document: set(tiny(document).optional) for document in studies()}
    assert optional["wecolora"] == {"folder/cifar100"}
    assert {source.removeprefix("folder/") for source in optional["afr_pruning"]} == {*SUBSETS, "cifar10", "cifar100"}
    assert len(optional["dual_ssl_kd"]) == 8 and not optional["deit"] | optional["multi_distillation"] | optional["teachers"]


@pytest.mark.parametrize(("document", "seeds"), [(name, 1 if name == "teachers" else 3) for name in studies()])
def test_each_document_has_seeds_that_can_decide(document, seeds):
    assert len(tiny(document).settings.seeds) == seeds


def test_the_fine_sets_stand_for_the_documents_ten():
    settings, published = tiny("afr_pruning").settings, tiny("afr_pruning").published("table1a")
    assert {settings.stands_for[name] for name in settings.fine} == {*published["dataset"]}
    assert all(isinstance(data, Data) for data in settings.fine.values())
