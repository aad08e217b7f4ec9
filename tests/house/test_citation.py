"""What a reader cites: this version, and every document."""

import re
import tomllib

import yaml

import vitlib
from tests.support import ROOT
from vitlib import load_study
from vitlib.computing import module_of
from vitlib.grid.entries import documents, read_entry
from vitlib.runs.provenance import _closure

CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_it_names_this_version_and_licence():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (CITED["version"], CITED["license"]) == (vitlib.__version__, pyproject["project"]["license"])
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vitlib.__version__"}


def test_the_changelog_ends_its_newest_section_with_this_version_and_its_day():
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", f"{vitlib.__version__} - {CITED['date-released']}"]


def test_no_run_is_described_or_computed_by_the_module_that_holds_the_version():
    """A new version makes no result stale."""
    specs = [spec for paper in documents() for spec in load_study(paper, "smoke").specs.values()]
    classes = {type(member) for spec in specs for member in spec.family()}
    closures = [_closure(cls.__module__, module_of(cls)) for cls in classes]
    assert len(closures) > 5 and not any({"vitlib", "vitlib.__init__"} & closure for closure in closures)


def test_every_document_and_every_preprint_that_an_entry_names_is_among_the_references():
    told = yaml.dump(CITED["references"], allow_unicode=True, width=10_000)
    for entry in map(read_entry, [*documents(), "teachers"]):
        assert set(re.findall(r"\d{4}\.\d{5}", entry["source"])) <= set(re.findall(r"\d{4}\.\d{5}", told)), entry["title"]
    for entry in map(read_entry, documents()):
        assert entry["title_original"].partition(" (")[0] in told


def test_every_reference_has_a_title_and_authors():
    assert all(reference["title"] and reference["authors"] for reference in CITED["references"])
