"""A notebook beside the documents': its own parameters are its settings. Start from `Page`, and `profiles_of` for a notebook's file.

Its file says so: the notebook's metadata hold `{"vitlib": {"profiles": ["smoke", "quick"]}}`. A notebook without that shows the study of
its own name, or of the name in `{"vitlib": {"study": "..."}}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pandas as pd
from matplotlib.figure import Figure

from vitlib import paths
from vitlib.grid.changes import folder_name, in_a_line, read_overrides
from vitlib.grid.entries import documents, read_entry
from vitlib.report import figures, tables
from vitlib.report.pictures import Picture
from vitlib.runs.plan import Place
from vitlib.spec import RunSpec, require
from vitlib.studies import artefacts
from vitlib.studies.loading import folder_of

OF_THE_MACHINE = frozenset({"profile", "executor", "mode", "results_dir", "figures_dir", "data_dir"})


@dataclass(frozen=True, repr=False)
class Page:
    """A notebook's own results at one profile.

    Attributes:
        paper: its name, and that of its folder of figures.
        changes: parameters that are not the notebook's own, by name.
        module: its tables and figures, whose docstrings are captions.
        about: what every artefact's stamp says beside title and profile, among it the parameters that are `named`.
    """

    paper: str
    profile: str
    place: Place
    figures_dir: Path
    changes: dict[str, Any]
    module: ModuleType | None = None
    title: str = ""
    about: str = ""
    named: frozenset[str] = frozenset()

    @classmethod
    def of(cls, source: Path, parameters: Mapping[str, Any], defaults: Mapping[str, Any], places: Mapping[str, str]) -> Self:
        """What is known of a notebook before it is opened.

        Raises:
            SpecError: for a profile that it does not have, or overrides that are no table.
            StoreError: for a place that is a file.
        """
        require("profile", parameters["profile"], profiles_of(source))
        results, shown, data = (folder_of(name, places.get(name, "")) for name in ("results_dir", "figures_dir", "data_dir"))
        return cls(source.stem, parameters["profile"], Place(results, data), shown, changed(defaults, parameters))

    @property
    def folder(self) -> Path:
        """Where artefacts go; beside the example's where parameters are changed."""
        return self.figures_dir / self.paper / folder_name(self.profile, self.changes)

    @property
    def specs(self) -> dict[str, RunSpec]:
        """Runs by id, as far as they are known without opening the notebook."""
        return {}

    def computable(self) -> list[RunSpec]:
        """As `specs`."""
        return []

    def execute(self, **options: Any) -> Any:
        """Its runs are computed where it is executed."""

    @property
    def stamp(self) -> str:
        others = {name: value for name, value in self.changes.items() if name not in self.named}
        changed = f" · changed: {in_a_line(others)}" if others else ""
        return f"{self.title} · profile {self.profile}{changed} · {self.about}"

    def save_table(self, table: pd.DataFrame, name: str) -> pd.io.formats.style.Styler:
        """Write CSV and Markdown; returns the table as a notebook shows it."""
        captions = artefacts.caption(self, name), f"{self.stamp}."
        artefacts.list_changes(self)
        tables.save(table, self.folder / name, *captions)
        return tables.shown(table, " ".join(captions).strip(), name)

    def save_figure(self, figure: Figure, name: str) -> Picture:
        """Write PNG, PDF and the CSV of what is drawn; returns the saved picture, which a notebook displays."""
        artefacts.list_changes(self)
        png = figures.save(figure, self.folder / name, self.stamp)
        return Picture.of(figure, png, artefacts.caption(self, name))

    def told(self, text: str) -> str:
        """A text in which the results' folder is named as it was given, so that it reads the same wherever it lies."""
        own = str(self.place.results_dir)
        if own == str(paths.results_dir()):
            text = text.replace(own, "$VITLIB_RESULTS" if own != str(paths.root() / "results") else "results")
        return text


def changed(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are not the notebook's own; the keywords in `overrides` by their names."""
    own = {name: value for name, value in given.items() if name not in OF_THE_MACHINE | {"overrides"} and value != defaults[name]}
    return dict(sorted(own.items())) | dict(sorted(read_overrides(given.get("overrides")).items()))


def profiles_of(source: Path) -> list[str]:
    """Of a notebook that is no study's; none for one that is."""
    return list(_metadata(source).get("profiles", []))


def why_left_out(source: Path, parameters: Mapping[str, Any]) -> str:
    """Of a command that names no notebook: what is no document's is left out without its profile, and a page where it changes settings."""
    if study_of(source) in documents():
        return ""
    own, profile = profiles_of(source), parameters.get("profile")
    profiles = own or list(read_entry(study_of(source))["profile"])
    if profile and profile not in profiles:
        return f"it has no profile {profile!r}, only {', '.join(profiles)}"
    return "overrides are settings of documents; name it to give it its own" if own and "overrides" in parameters else ""


def study_of(source: Path) -> str:
    """Name of the study that a notebook shows."""
    return _metadata(source).get("study", source.stem)


def _metadata(source: Path) -> dict[str, Any]:
    return json.loads(source.read_text(encoding="utf-8"))["metadata"].get("vitlib", {})
