"""Recipes that an entry tags with a reference code hold that code's values.

reference_recipes.csv is typed from the codes: `off` is the value that switches a field off, `unused` one that the code has no use for. An
entry tags a setting by the first word of its comment, or all settings of a section by its header's. A recipe tagged as a whole must equal
the code in every field, those left at their defaults too, but for the fields whose line names another origin.
"""

import csv
import re
import tomllib
from pathlib import Path

import pytest

from vitlib.grid.entries import FOLDER, merged, read_entry, studies
from vitlib.recipe import Recipe

CODES = {"deit": {"code": "deit"}, "wecolora": {"code": "wecolora"}}  # what a document's tags stand for; elsewhere they name the code
TAGS = ("code", "deit", "mae", "dino", "byot", "rkd", "cited")
NEUTRAL = {  # how it is computed and watched
    "precision", "compile", "channels_last", "accumulate", "eval_every", "ema_decay", "sync_batchnorm",
}  # fmt: skip
RECIPES = {  # document and section, its profile left out: the recipe of the code
    ("deit", "recipe"): "training",
    ("deit", "finetune"): "fine-tuning",
    ("dual_ssl_kd", "recipe"): "training",
    ("dual_ssl_kd", "finetune"): "fine-tuning",
    ("dual_ssl_kd", "partial1"): "partial",
    ("dual_ssl_kd", "linear"): "linear",
    ("teachers", "dino"): "method",
    ("teachers", "dino.recipe"): "pretraining",
    ("teachers", "mae"): "method",
    ("teachers", "mae.recipe"): "pretraining",
    ("wecolora", ""): "study",
    ("wecolora", "teacher.origin"): "study",
    ("wecolora", "recipe"): "distillation",
    ("wecolora", "probe"): "probe",
    ("multi_distillation", "recipe"): "training",
    ("multi_distillation", "reading"): "reading",
    ("multi_distillation", "methods.rkd"): "method",
    ("multi_distillation", "methods.byot"): "method",
    ("afr_pruning", "pruning"): "pruning",
}
PREFIX = {("wecolora", "teacher.origin"): "teacher.origin."}


def reference():
    """(code, recipe, field): value as text, place."""
    with Path(__file__).with_name("reference_recipes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    keys = [(row["code"], row["recipe"], field) for row in rows for field in row["fields"].split()]
    assert len(set(keys)) == len(keys), "a field of a recipe is listed twice"
    assert all(row["place"] and None not in row for row in rows)
    return {(row["code"], row["recipe"], field): row["value"] for row in rows for field in row["fields"].split()}


REFERENCE = reference()


def leaves(value, path=""):
    """Dotted names and values of nested tables."""
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, inner in value.items() for name, leaf in leaves(inner, f"{path}.{key}".lstrip(".")).items()}


def lines(document):
    """Of an entry's settings: layer ('base' or a profile's name), section below it, line's setting, tag of the line, tag of its section."""
    layer, section, header, found = "", "", "", []
    content = (FOLDER / document / "entry.toml").read_text(encoding="utf-8")
    for line in re.sub(r"\[\n.*?\n\]", lambda array: array[0].replace("\n", " "), content, flags=re.DOTALL).splitlines():
        text, _, comment = line.partition("#")
        tag = (re.match(r"\s*(\w+)", comment) or [""])[0].strip()
        if text.startswith("["):
            names = text.strip().strip("[]").split(".")
            layer, section = (names[0], names[1:]) if names[0] == "base" else (names[1] if len(names) > 1 else "", names[2:])
            layer = layer if names[0] in ("base", "profile") else ""
            section, header = ".".join(section), tag
        elif layer and "=" in text:
            setting = tomllib.loads(text)
            found.append((layer, section, setting, tag, header))
    return found


def same(measured, stated):
    """Whether a setting is the code's, which is given as text."""
    if isinstance(measured, list | tuple):
        return [float(each) for each in measured] == [float(each) for each in stated.split()]
    return measured == type(measured)(stated) if isinstance(measured, str) else float(measured) == float(stated)


def code_of(document, tag):
    return CODES.get(document, {}).get(tag, tag)


def looked_up(document, section, field, tag):
    key = (code_of(document, tag), RECIPES.get((document, section), "?"), PREFIX.get((document, section), "") + field)
    assert key in REFERENCE, f"{document}, [{section}] {field}: tagged {tag!r}, but reference_recipes.csv has no row {key}"
    return REFERENCE[key]


def tagged():
    """Every single setting whose own line names a code, or whose section that is no recipe does."""
    for document in studies():
        for layer, section, setting, tag, header in lines(document):
            for field, value in leaves(setting).items():
                whole = header in TAGS and "recipe" not in section and RECIPES.get((document, section)) == "method"
                if tag in TAGS and field.rpartition(".")[2] not in NEUTRAL - {"ema_decay"}:
                    yield pytest.param(document, section, field, value, tag, id=f"{document}-{layer}-{section}-{field}")
                elif whole and (code_of(document, header), "method", field) in REFERENCE:
                    yield pytest.param(document, section, field, value, header, id=f"{document}-{layer}-{section}-{field}")


def wholes():
    """Document, profile, section and tag of each recipe that its header calls a code's."""
    for document in studies():
        profiles = [name for name in read_entry(document)["profile"] if (document == "teachers" and name != "smoke") or name == "paper"]
        for section, tag in {(section, header): None for _, section, _, _, header in lines(document) if header in TAGS}:
            if _recipe(document, profiles[0], section):
                yield from (pytest.param(document, profile, section, tag, id=f"{document}-{profile}-{section}") for profile in profiles)


def _recipe(document, profile, section):
    """The recipe at a section, or None."""
    entry = read_entry(document)
    value = merged(entry["base"], entry["profile"][profile])
    for name in section.split("."):
        value = value.get(name, {})
    return Recipe.parse(value) if {"epochs", "batch_size", "lr"} <= value.keys() else None


def origins(document, profile, section):
    """Field of a recipe to the origin that its line names: the profile's line wins; one without a tag has its section's, or is ours."""
    found = {}
    for layer in ("base", profile):
        for at, below, setting, tag, header in lines(document):
            for name, _ in leaves(setting).items():
                field = f"{below}.{name}".lstrip(".")
                if at == layer and field.startswith(section + "."):
                    found[field.removeprefix(section + ".")] = tag or header or "ours"
    return found


@pytest.mark.parametrize(("document", "section", "field", "value", "tag"), list(tagged()))
def test_a_setting_that_names_a_code_has_its_value(document, section, field, value, tag):
    stated = looked_up(document, section, field, tag)
    assert stated == "off" or same(value, stated), f"{document}, [{section}] {field} = {value}; {tag} has {stated}"
    if stated == "off":
        assert value == Recipe.model_fields[field].default


@pytest.mark.parametrize(("document", "profile", "section", "tag"), list(wholes()))
def test_a_recipe_that_names_a_code_equals_it_in_every_field_but_those_of_another_origin(document, profile, section, tag):
    recipe, origin = _recipe(document, profile, section), origins(document, profile, section)
    defaults = leaves(Recipe(epochs=1, batch_size=2, lr=1.0).model_dump())
    for field, value in leaves(recipe.model_dump()).items():
        of_the_code = code_of(document, origin.get(field, tag)) == code_of(document, tag)
        if field in NEUTRAL or not of_the_code:
            continue
        stated = looked_up(document, section, field, tag)
        expected = defaults[field] if stated == "off" else stated
        assert stated == "unused" or value == expected or same(value, expected), (
            f"{document}, {profile}, [{section}] {field} = {value}; {tag} has {stated}"
        )


def test_every_value_of_the_codes_is_one_that_a_recipe_can_hold():
    """So that a misspelt field of the table fails instead of never being looked up."""
    fields = leaves(Recipe(epochs=1, batch_size=2, lr=1.0).model_dump())
    wanted = {key for key in REFERENCE if key[1] not in ("method", "reading", "study", "pruning")}
    assert {field for *_, field in wanted} <= fields.keys()
    for code, name in {key[:2] for key in wanted}:
        missing = fields.keys() - NEUTRAL - {field for *at, field in wanted if tuple(at) == (code, name)}
        assert missing <= {"epochs", "min_lr", "optimizer"}, f"{code}, {name}: no row for {sorted(missing)}"
