"""Profile `tiny`: its structure is the documents', an hour of one GPU by plan, and every kind of its runs, cut down, runs on this CPU."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.cut_down import folders, one_of_each_class, overrides
from tests.support import context
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.grid.entries import documents, studies
from vitlib.inputs.sources import Data
from vitlib.spec import RunSpec
from vitlib.studies.costs.budget import Comparison, comparisons
from vitlib.studies.costs.schedule import wall
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.training.work import images
from vitlib.training.work.registry import Sets

NOWHERE = {"results_dir": "/nowhere", "figures_dir": "/nowhere", "data_dir": "/nowhere"}
PIECE, HOUR = 12, 60  # minutes: of a loan, and of all
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


@cache
def tiny(document):
    """Without images or results in reach."""
    return load_study(document, "tiny", device="cpu", **NOWHERE)


@pytest.mark.parametrize("document", studies())
def test_every_kind_of_run_cut_down_is_computed_on_this_cpu(document, made):
    study = load_study(document, "tiny", overrides=overrides(document, made), device="cpu", **NOWHERE | {"data_dir": str(made)})
    assert {cell.table for cell in study.cells} == {cell.table for cell in tiny(document).cells}
    assert {type(spec) for spec in study.specs.values()} == {type(spec) for spec in tiny(document).specs.values()}
    done = {}
    for spec in one_of_each_class(study):
        done[spec.id] = result_of(spec, context(made, parent=lambda parent: done[parent.id]))
        assert done[spec.id].metrics or done[spec.id].arrays, spec


def minutes(specs: Iterable[RunSpec], sets: Sets) -> float:
    """By plan on an H100."""
    return wall([*specs], SHIPPED["h100"], sets) / 60


def own_comparisons(document: str) -> list[Comparison]:
    """Those of a document; the teachers that another study computes are left out."""
    family = {member.id for spec in tiny(document).specs.values() for member in spec.family()}
    return comparisons(tiny(document), family - (set(tiny("teachers").specs) if document != "teachers" else set()))


def test_all_documents_and_teachers_take_an_hour_of_one_gpu_by_plan_and_every_comparison_fits_into_a_loan(sized):
    every = {document: own_comparisons(document) for document in [*documents(), "teachers"]}
    assert max(minutes(one.missing, sized) for found in every.values() for one in found) <= PIECE
    whole = {document: minutes((spec for one in found for spec in one.missing), sized) for document, found in every.items()}
    assert HOUR - 5 <= sum(whole.values()) <= HOUR, whole


@pytest.mark.parametrize("document", studies())
def test_its_images_are_folders_of_32_px_and_its_transformers_have_twelve_blocks(document):
    settings = tiny(document).settings
    sets = [settings.data, *(data for name in ("generic", "fine", "downstream") for data in getattr(settings, name, {}).values())]
    assert {(data.image_size, data.source.partition("/")[0]) for data in sets} == {(32, "folder")}
    models = [model for name in ("students", "transformers") for model in getattr(settings, name, {}).values()]
    models += [settings.student] if document in ("dual_ssl_kd", "comparison") else []
    assert {(model.depth, model.patch_size) for model in models} <= {(12, 4)}


def test_sets_beside_the_documents_own_may_be_absent():
    optional = {document: set(tiny(document).optional) for document in studies()}
    assert optional["wecolora"] == {"folder/cifar100"}
    assert {source.removeprefix("folder/") for source in optional["afr_pruning"]} == {*SUBSETS, "cifar10", "cifar100"}
    assert len(optional["dual_ssl_kd"]) == 8
    assert not optional["deit"] | optional["multi_distillation"] | optional["teachers"] | optional["comparison"]


@pytest.mark.parametrize(("document", "seeds"), [(name, 1 if name == "teachers" else 3) for name in studies()])
def test_each_document_has_seeds_that_can_decide(document, seeds):
    assert len(tiny(document).settings.seeds) == seeds


def test_the_fine_sets_stand_for_the_documents_ten():
    settings, published = tiny("afr_pruning").settings, tiny("afr_pruning").published("table1a")
    assert {settings.stands_for[name] for name in settings.fine} == {*published["dataset"]}
    assert all(isinstance(data, Data) for data in settings.fine.values())
