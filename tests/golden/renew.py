"""Writes identities.json: `python tests/golden/renew.py`, after raising `version` where a result's meaning changed."""

import importlib
import json
import pkgutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import vitlib
from vitlib import documents, load_study
from vitlib.spec import Part, RunSpec

GOLDEN = Path(__file__).with_name("identities.json")
EMBEDDED = ("smoke", "quick")  # profiles whose data lie in the package: their identities are the same everywhere


def pinned() -> dict[str, Any]:
    """What the file holds: a document that it lacks is a new one, which is pinned when its author writes the file anew."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def classes(papers: Collection[str]) -> dict[str, Any]:
    """Version, fields and defaults of every spec class by its name, as it stands in identities; settings name no run.

    Args:
        papers: the documents whose own classes are among them.
    """
    others = tuple(f"vitlib.papers.{paper}." for paper in documents() if paper not in papers)
    named = (cls for cls in _spec_classes() if cls.__name__ != "Settings" and not cls.__module__.startswith(others))
    found = sorted(named, key=lambda cls: cls.__name__)
    assert len({cls.__name__ for cls in found}) == len(found), f"two spec classes have one name: {found}"
    return {cls.__name__: _described(cls) for cls in found}


def runs(papers: Collection[str]) -> dict[str, Any]:
    """Identities of the documents' runs; their number where they depend on data that may be absent."""
    profiles = (*EMBEDDED, "tiny", "paper")
    return {paper: {profile: _runs(paper, profile) for profile in profiles} for paper in papers}


def _spec_classes() -> set[type[Part]]:
    for module in pkgutil.walk_packages(vitlib.__path__, "vitlib."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, todo = set(), [Part]
    while todo:
        children = todo.pop().__subclasses__()
        found |= set(children)
        todo += children
    return {cls for cls in found - {RunSpec} if cls.__module__.startswith("vitlib.")}


def _described(cls: type[Part]) -> dict[str, Any]:
    fields = {
        name: "required" if info.is_required() else f"= {info.get_default(call_default_factory=True)!r}"
        for name, info in cls.model_fields.items()
    }
    return {"version": cls.version, "fields": fields} if issubclass(cls, RunSpec) else {"fields": fields}


def _runs(paper: str, profile: str) -> list[str] | int:
    with tempfile.TemporaryDirectory() as nothing:
        study = load_study(paper, profile, results_dir=nothing, data_dir=nothing)
    return sorted(study.specs) if profile in EMBEDDED else len(study.specs)


if __name__ == "__main__":
    found = {"classes": classes(documents()), "runs": runs(documents())}
    GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
