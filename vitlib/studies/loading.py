"""A study from its document's entry: settings from base, profile and overrides; files pinned; demands met; the grid expanded."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from vitlib import paths
from vitlib.grid.cells import Cell, cells
from vitlib.grid.changes import changes_of, read_overrides
from vitlib.grid.entries import merged, read_entry, studies
from vitlib.grid.images import are_among, may_be_among
from vitlib.inputs.pictures import AbsentError
from vitlib.inputs.sources import Data, fingerprint
from vitlib.messages import brief
from vitlib.runs.archive import specs
from vitlib.runs.manifest import StoreError
from vitlib.runs.plan import Place
from vitlib.runs.reading.described import NAMES, Described, pairs
from vitlib.spec import Part, SpecError, families, require
from vitlib.studies.pretraining import with_teachers
from vitlib.studies.study import Study
from vitlib.studies.travel import archives
from vitlib.teachers.teacher import Checkpoint


def load_study(
    paper: str,
    profile: str = "quick",
    *,
    overrides: dict[str, Any] | str | None = None,
    results_dir: str = "",
    figures_dir: str = "",
    data_dir: str = "",
    device: str = "auto",
    capture: bool = True,
) -> Study:
    """A document's study at a profile.

    Args:
        overrides: settings to replace, nested as in the entry, for instance {"seeds": [0], "recipe": {"epochs": 8}}, or that as JSON text.
        results_dir, figures_dir, data_dir: see `vitlib.paths`.
        capture: whether a GPU replays the steps of a training from a record of the first ones, where that is possible.

    Raises:
        SpecError: unknown paper, profile or field, or a value that is not allowed; before anything is computed.
        StoreError: for a place that is a file, or an archive of results that cannot be read where images are not here.
    """
    places = {"results_dir": results_dir, "figures_dir": figures_dir, "data_dir": data_dir}
    study = describe_study(paper, profile, overrides=overrides, device=device, capture=capture, **places)
    _meet_demands(study.settings, study.cells, study.place.data_dir)
    return study


def describe_study(
    paper: str,
    profile: str,
    *,
    overrides: dict[str, Any] | str | None = None,
    results_dir: str = "",
    figures_dir: str = "",
    data_dir: str = "",
    device: str = "auto",
    capture: bool = True,
    known: Described | None = None,
) -> Study:
    """The same as `load_study`, without a look at whether models and data are such that the runs can be computed.

    Args:
        known: what stored runs say of data that are not here, for several studies of one store.
    """
    fingerprint.cache_clear()
    require("paper", paper, studies())
    given = read_overrides(overrides)
    entry = read_entry(paper)
    require("profile", profile, list(entry["profile"]))
    module = importlib.import_module(f"vitlib.papers.{paper}")
    place = Place(folder_of("results_dir", results_dir), folder_of("data_dir", data_dir), device, capture=capture)
    own = merged(entry["base"], entry["profile"][profile])
    before, after = (module.Settings.parse(with_teachers(fields)) for fields in (own, merged(own, given)))
    changes, shown = changes_of(given, before, after), folder_of("figures_dir", figures_dir)
    settings = _pinned(after, _Files(place, archives(paper, profile, changes, shown), known or Described(place.results_dir)))
    filled = cells(entry, module, settings)
    return Study(paper, profile, module, entry, settings, filled, place, shown, changes, _shares_data(module, entry, settings))


def _shares_data(module: ModuleType, entry: dict[str, Any], settings: Part) -> bool:
    """Profile `paper` describes the document."""
    own = entry["profile"].get("paper")
    if own is None:
        return False
    fields = with_teachers(merged(entry["base"], own))
    return may_be_among(settings, fields) and are_among(settings, module.Settings.parse(fields))


def _meet_demands(settings: Part, cells: Iterable[Cell], data_dir: Path) -> None:
    """Refuse models and data that some run could not be computed with, before any is."""
    runs = families(cell.spec for cell in cells)
    for demand in dict.fromkeys(demand for part in (settings, *runs.values()) for demand in part.demands()):
        demand.check(data_dir)


def folder_of(name: str, given: str) -> Path:
    """A place of the study, which may not exist yet."""
    try:
        place = getattr(paths, name)(given)
        is_file = place.exists() and not place.is_dir()
    except (ValueError, TypeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{name}: got {brief(given)}; allowed: the path of a folder ({reason})") from None
    if is_file:
        raise StoreError(f"{name}: {place} is a file; allowed: a folder, which is made where it is missing")
    return place


@dataclass(frozen=True)
class _Files:
    """What names the content of files: they themselves, or, on a machine without them, what stored and archived results say of them."""

    place: Place
    archives: list[Path]
    stored: Described

    def pinned(self, value: Data | Checkpoint) -> Data | Checkpoint:
        data_dir = self.place.data_dir
        if isinstance(value, Checkpoint):
            absent = not value.sha256 and not (data_dir / value.file).exists()
            known = self._known("file", value.file) if absent else ""
            return value.changed(sha256=known) if known else value.pinned(data_dir)
        try:
            return value.pinned(data_dir)
        except AbsentError:
            return value.changed(fingerprint=self._known("source", value.source))

    def _known(self, field: str, value: str) -> str:
        archived = (found for spec in self._archived for name, found in pairs(spec, field, NAMES[field]) if name == value)
        return self.stored.known(field, value) or next(archived, "")

    @cached_property
    def _archived(self) -> list[dict[str, Any]]:
        return [spec for archive in self.archives for spec in specs(archive)]


def _pinned(value: Any, files: _Files) -> Any:
    """Data and checkpoints anywhere in the settings, with the fingerprint of their files."""
    if isinstance(value, Data | Checkpoint):
        try:
            return files.pinned(value)
        except OSError as error:
            where = files.place.data_dir
            raise SpecError(f"data_dir: {brief(value)} cannot be read below {where} ({error.strerror})") from None
    if isinstance(value, Part):
        return value.changed(**{name: _pinned(getattr(value, name), files) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: _pinned(item, files) for key, item in value.items()}
    return tuple(_pinned(item, files) for item in value) if isinstance(value, tuple) else value
