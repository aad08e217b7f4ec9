"""Specs: what an identity depends on and what it does not, reading back, and the golden identities."""

import json
import sys
from typing import ClassVar

import pytest
from pydantic import ValidationError

from tests.golden.renew import classes, pinned, runs
from tests.support import Number, Total
from vitlib import load_study
from vitlib.dumped import agrees, dump, identity, rebuild
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.spec import SpecError

DIGITS = {"source": "digits", "image_size": 8}
VIT = {"embed_dim": 8, "depth": 1, "num_heads": 2, "patch_size": 2}
STUDENT = {"data": DIGITS, "model": VIT, "recipe": {"epochs": 1, "batch_size": 2, "lr": 0.1}, "seed": 0}


def changed(**fields):
    return Student.parse(STUDENT | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"kd_weight": 0.25},
        {"data": DIGITS | {"per_class": 3}},
        {"data": DIGITS | {"fingerprint": "00"}},
        {"model": VIT | {"distilled": True}},
        {"model": {"width": 4, "blocks": [1, 1, 1, 1]}},
        {"recipe": STUDENT["recipe"] | {"precision": "bf16"}},
        {"recipe": STUDENT["recipe"] | {"augment": {"flip": 0.5}}},
        {"start": STUDENT},
    ],
)
def test_a_field_that_differs_from_its_default_changes_the_identity(fields):
    assert changed(**fields).id != changed().id


@pytest.mark.parametrize(
    "fields",
    [
        {"kd_weight": 0.5, "objective": "none", "teacher": None},
        {"data": DIGITS | {"fraction": 1.0, "per_class": None, "fingerprint": ""}},
        {"model": VIT | {"mlp_ratio": 4, "distilled": False}},
        {"recipe": STUDENT["recipe"] | {"augment": {}, "momentum": 0.9}},
        {"recipe": STUDENT["recipe"] | {"augment": {"crop": 0, "randaugment": ""}}},
    ],
)
def test_giving_a_default_is_the_same_as_leaving_it_out(fields):
    assert changed(**fields).id == changed().id


def test_the_order_of_fields_does_not_matter():
    assert Student.parse(dict(reversed(STUDENT.items()))).id == changed().id


def test_a_change_in_a_grandparent_changes_the_identity():
    def grandchild(value):
        return Total(left=Total(left=Number(value=value), right=Number(value=2)), right=Number(value=3))

    assert grandchild(1).id != grandchild(0).id
    assert grandchild(1).id == grandchild(1).id


def test_left_and_right_parents_are_not_exchangeable():
    one, two = Number(value=1), Number(value=2)
    assert Total(left=one, right=two).id != Total(left=two, right=one).id


def test_version_and_class_name_are_part_of_the_identity_of_a_run_and_of_its_children():
    class Newer(Number):
        version: ClassVar[int] = 2

    newer, renamed = (
        type("Number", (Newer,), {"__module__": __name__}),
        type("Digit", (Number,), {"__module__": __name__}),
    )
    ids = {cls(value=1).id for cls in (Number, newer, renamed)}
    assert len(ids) == 3
    assert Total(left=newer(value=1), right=Number(value=0)).id != Total(left=Number(value=1), right=Number(value=0)).id


def test_parts_of_another_class_with_equal_fields_give_another_identity():
    class Wide(Vit):
        pass

    student = changed()
    assert student.changed(model=Wide.parse(VIT)).id != student.id


def test_an_identity_is_a_readable_name_and_sixteen_hex_digits():
    name, _, digest = changed().id.partition("-")
    assert name == "student"
    assert len(digest) == 16
    assert set(digest) <= set("0123456789abcdef")


def test_device_folders_and_working_directory_are_not_in_identities(tmp_path, monkeypatch):
    here = load_study("deit", "smoke", results_dir=str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITLIB_DATA", str(tmp_path / "b"))
    there = load_study("deit", "smoke", figures_dir=str(tmp_path / "c"), device="cuda:7")
    assert list(here.specs) == list(there.specs)


def test_family_names_ancestors_before_the_run():
    one, two = Number(value=1), Number(value=2)
    total = Total(left=one, right=two)
    assert list(Total(left=total, right=one).family()) == [one, two, total, Total(left=total, right=one)]


def test_every_run_of_the_smoke_study_reads_back_from_json_with_the_same_id(tmp_path):
    specs = load_study("deit", "smoke", results_dir=str(tmp_path)).specs
    for run_id, spec in specs.items():
        again = rebuild(json.loads(json.dumps(dump(spec))))
        assert again == spec
        assert type(again) is type(spec)
        assert again.id == run_id


def test_a_union_of_models_reads_back_as_the_class_that_was_written():
    for model in (Vit.parse(VIT), ResNet(width=4, blocks=(1, 2, 1, 1))):
        again = rebuild(json.loads(json.dumps(dump(changed().changed(model=model)))))
        assert again.model == model


@pytest.mark.parametrize(
    "named", ["os:system", "tests.no_such_module:Run", "vitlib.spec:Part", "vitlib.spec:json", "vitlib.no_such:Run", "vitlib..:x", ""]
)
def test_only_run_classes_inside_vitlib_or_already_loaded_are_rebuilt_and_nothing_else_is_imported(named):
    with pytest.raises(SpecError, match=rf"type: got '{named}'; allowed: run classes inside vitlib"):
        rebuild({"type": named, "version": 1, "fields": {}})
    assert rebuild(dump(Number(value=1))) == Number(value=1)
    assert not {"tests.no_such_module", "vitlib.no_such"} & sys.modules.keys()


def stored_as(spec):
    return json.loads(json.dumps({"id": spec.id, **dump(spec)}))


def test_the_identity_is_that_of_the_fields_whatever_a_dump_says_of_itself():
    dumped = stored_as(Number(value=1))
    assert identity(dumped) == Number(value=1).id and agrees(dumped, Number(value=1))
    dumped["fields"]["value"] = 2
    assert identity(dumped) == Number(value=2).id and not agrees(dumped, Number(value=1))
    total = Total(left=Number(value=1), right=Number(value=2))
    moved = stored_as(total) | {"type": "vitlib.papers.gone:Total"}
    assert identity(moved) == total.id and agrees(moved, total)


def test_a_dump_agrees_with_its_run_over_fields_that_came_and_went_since():
    total = Total(left=Number(value=1), right=Total(left=Number(value=2, scale=3.0), right=Number(value=4)))
    dumped = stored_as(total)
    del dumped["fields"]["left"]["fields"]["scale"]
    dumped["fields"]["right"]["fields"]["gone"] = 5
    assert agrees(dumped, total)
    del dumped["fields"]["right"]["fields"]["left"]["fields"]["scale"]  # which was not the default
    assert not agrees(dumped, total)


@pytest.mark.parametrize(
    "harm",
    [
        {"version": 2}, {"fields": {"value": "x"}}, {"fields": {"value": 1, "scal": 2}}, {"fields": []}, {"type": 3}, {"fields": {}},
        {"fields": {"value": {"type": "os:system", "version": 1, "fields": {}}}},
    ],
)  # fmt: skip
def test_what_is_computed_here_in_no_version_has_no_identity(harm):
    with pytest.raises(SpecError):
        identity(stored_as(Number(value=1)) | harm)
    assert not agrees(stored_as(Number(value=1)) | harm, Number(value=1)) or "scal" in str(harm)


def test_specs_are_frozen_and_a_change_is_validated_again():
    recipe = Recipe(epochs=2, batch_size=4, lr=0.1)
    with pytest.raises(ValueError, match="frozen"):
        recipe.epochs = 3
    assert recipe.changed(epochs=3) == Recipe(epochs=3, batch_size=4, lr=0.1)
    with pytest.raises(SpecError, match=r"epochs: got 0; .*greater than or equal to 1"):
        recipe.changed(epochs=0)


def test_equal_specs_are_one_key_of_a_dictionary():
    assert len({Data.parse(DIGITS), Data.parse(DIGITS | {"fraction": 1})}) == 1
    assert len({Augment(), Augment(crop=1)}) == 2


def test_two_kinds_of_crops_exclude_each_other():
    with pytest.raises(ValidationError, match=r"crop=4 and crop_area=0.5 exclude each other; give one"):
        Augment(crop=4, crop_area=0.5)


RENEW = "then renew: python tests/golden/renew.py"


def test_fields_and_defaults_are_the_golden_ones():
    assert classes(pinned()["runs"]) == pinned()["classes"], (
        "Identities leave defaults out: a changed default or field gives old results a new meaning without a word. "
        f"Raise `version` of every run class that it reaches, so that they are computed again; {RENEW}"
    )


def test_identities_are_the_golden_ones():
    assert runs(pinned()["runs"]) == pinned()["runs"], (
        "Stored results will not be found again. Where a profile or grid was meant to change, "
        f"or `version` was raised because results changed their meaning, {RENEW}"
    )
