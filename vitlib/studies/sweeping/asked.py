"""What studies ask of a store: every profile of every document, and the changed studies whose tables and figures were kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.grid.entries import read_entry, studies
from vitlib.runs.manifest import StoreError
from vitlib.runs.reading.described import Described
from vitlib.spec import SpecError, families
from vitlib.studies.loading import describe_study, folder_of

CHANGES = "changes.json"


@dataclass
class Asked:
    """Runs that studies ask for and those that they start from.

    Attributes:
        ids: of the runs.
        unclear: why a study could not be described, by its name: what it asks for is not known.
    """

    ids: set[str] = field(default_factory=set)
    unclear: dict[str, str] = field(default_factory=dict)


def asked(places: dict[str, str]) -> Asked:
    """By all studies, as they are described on this machine.

    Args:
        places: results_dir, figures_dir and data_dir as `load_study` takes them.
    """
    found, known = Asked(), Described(folder_of("results_dir", places["results_dir"]))
    for paper, profile, overrides in _described(places["figures_dir"]):
        try:
            study = describe_study(paper, profile, overrides=overrides, known=known, **places)
        except (SpecError, StoreError) as error:
            found.unclear[f"{paper}, {profile}{', changed' * bool(overrides)}"] = str(error)
        else:
            found.ids |= families(study.specs.values()).keys()
    return found


def _described(figures_dir: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Document, profile and overrides of each study."""
    folders = dict.fromkeys([folder_of("figures_dir", figures_dir), paths.root() / "figures"])
    for paper in studies():
        for profile in read_entry(paper)["profile"]:
            yield paper, profile, {}
        for listed in (path for folder in folders for path in sorted(folder.glob(f"{paper}/*/{CHANGES}"))):
            yield from _changed(paper, listed)


def _changed(paper: str, listed: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A study by the list of changes beside its tables; one that is broken asks for nothing that can be told."""
    try:
        content = json.loads(listed.read_text(encoding="utf-8"))
        yield paper, content["profile"], _nested(content["changes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield paper, str(listed), {"cannot be read": True}


def _nested(changes: dict[str, Any]) -> dict[str, Any]:
    """`{"recipe.epochs": 8}` as the overrides `{"recipe": {"epochs": 8}}`."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        *groups, last = name.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return found
