"""What a reader cites: this version, and every document."""

import re
import tomllib

import yaml

from tests.support import ROOT
from vitlib.grid.entries import documents, read_entry

CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_it_names_this_version_and_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (CITED["version"], CITED["license"]) == (project["version"], project["license"])


def test_every_document_and_every_preprint_that_an_entry_names_is_among_the_references():
    told = yaml.dump(CITED["references"], allow_unicode=True, width=10_000)
    for entry in map(read_entry, [*documents(), "teachers"]):
        assert set(re.findall(r"\d{4}\.\d{5}", entry["source"])) <= set(re.findall(r"\d{4}\.\d{5}", told)), entry["title"]
    for entry in map(read_entry, documents()):
        assert entry["title_original"].partition(" (")[0] in told


def test_every_reference_has_a_title_and_authors():
    assert all(reference["title"] and reference["authors"] for reference in CITED["references"])
