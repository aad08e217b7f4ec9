"""A study: one document's grid of runs, at one profile, and everything a notebook asks of it.

`load_study` reads the document's entry (papers/<paper>/entry.toml), fills its Settings from base, profile and overrides,
and expands the grid. `Study.execute` gives `Results`, whose frames are all that tables and figures need.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitlib import paths
from vitlib.inputs.pictures import AbsentError
from vitlib.inputs.sources import Data, fingerprint
from vitlib.messages import brief, nearest
from vitlib.papers.changes import changes_of, folder_name, in_a_line, read_overrides
from vitlib.papers.entries import merged, published, read_entry, studies
from vitlib.papers.grid import Cell, cells, with_teachers
from vitlib.papers.images import Images, images_of, in_words, normalised_otherwise
from vitlib.report import figures, frames, tables
from vitlib.report.evidence import claims
from vitlib.runs.execute import Executor, Mode, Place, execute, require
from vitlib.runs.manifest import DamagedError, StoreError
from vitlib.runs.provenance import code_fingerprint
from vitlib.runs.store import Store, Stored
from vitlib.runs.transfer import travel
from vitlib.spec import Part, RunSpec, SpecError
from vitlib.teachers.teacher import Checkpoint


@dataclass(frozen=True, repr=False)
class Study:
    """A document's runs at one profile; its display says what is stored and what is missing."""

    paper: str
    profile: str
    entry: dict[str, Any]
    settings: Part
    cells: tuple[Cell, ...]
    place: Place
    figures_dir: Path
    changes: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def specs(self) -> dict[str, RunSpec]:
        """Distinct runs by id; several tables may share one."""
        return {cell.id: cell.spec for cell in self.cells}

    def execute(self, executor: Executor = "inline", mode: Mode = "cached") -> Results:
        """Compute what is missing; see `vitlib.runs.execute.execute` for modes and errors. 'read-only' takes it from `travel.NAME`."""
        stored = execute(self.specs.values(), self.place, executor=executor, mode=mode)
        return Results(self, travel.completed(self, stored) if mode == "read-only" else stored)

    def status(self) -> pd.DataFrame:
        """One row a run: table, grid point, id, and whether it is stored, missing, stale, failed or damaged."""
        store = Store(self.place.results_dir, writable=False)
        state = {run_id: _state(store, spec) for run_id, spec in self.specs.items()}
        return pd.DataFrame([{"table": c.table, **c.point, "run": c.id, "state": state[c.id]} for c in self.cells])

    def ancestors(self) -> pd.DataFrame:
        """One row a run that those of the grid start from: id and state, as in `status`."""
        store = Store(self.place.results_dir, writable=False)
        family = {member.id: member for spec in self.specs.values() for member in spec.family()}
        rows = [{"run": run_id, "state": _state(store, spec)} for run_id, spec in family.items() if run_id not in self.specs]
        return pd.DataFrame(rows, columns=["run", "state"])

    def grid(self) -> pd.DataFrame:
        """What varies, table by table: runs, and the values of each axis."""
        return pd.DataFrame([self._grid_row(table) for table in dict.fromkeys(cell.table for cell in self.cells)])

    @property
    def folder(self) -> Path:
        """Where artefacts go: `<profile>`, or, so that nothing is written over its figures, a folder beside it named by the changes."""
        return self.figures_dir / self.paper / folder_name(self.profile, self.changes)

    @property
    def stamp(self) -> str:
        """The line that every table carries, so that a quick or a changed number is never quoted as a result.

        A figure's names the images of that figure alone.
        """
        return self._stamp(images_of(self.specs.values()))

    def caption(self, name: str) -> str:
        """What an artefact shows: the first paragraph of its function's docstring."""
        paper = importlib.import_module(f"vitlib.papers.{self.paper}")
        function = claims.readable if name.startswith("claims") else getattr(paper, name, None)
        return " ".join((getattr(function, "__doc__", None) or "").partition("\n\n")[0].split())

    def save_table(self, table: pd.DataFrame, name: str) -> pd.io.formats.style.Styler:
        """Write CSV and Markdown; returns the table as a notebook shows it."""
        captions = self.caption(name), f"{self.stamp}. Published: {self.entry['conditions']}."
        self._list_changes()
        tables.save(table, self.folder / name, *captions)
        return tables.shown(table, " ".join(captions).strip(), name)

    def save_figure(self, figure: Figure, name: str) -> figures.Picture:
        """Write PNG, PDF and the CSV of what is drawn; returns the saved picture, which a notebook displays."""
        self._list_changes()
        as_published = self.profile == "paper" and not self.changes
        stamp = "" if as_published else self._stamp(figures.shown_in(figure))
        png = figures.save(figure, self.folder / name, stamp)
        return figures.Picture(png, self.caption(name))

    def _stamp(self, images: set[Images]) -> str:
        changed = f" · changed: {in_a_line(self.changes)}" if self.changes else ""
        shown = f" · {in_words(images)}" if images else ""
        shown += " · normalised by the data's own mean" if self._normalised_otherwise else ""
        seeds = f"{(count := len(self.settings.seeds))} seed{'s' * (count > 1)} unless said otherwise"
        return f"{self.entry['title']} · profile {self.profile}{changed}{shown} · {seeds}"

    @cached_property
    def _normalised_otherwise(self) -> bool:
        return normalised_otherwise(self.specs.values())

    def _list_changes(self) -> None:
        """The full list, beside the artefacts that carry its short form."""
        if self.changes:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"document": self.paper, "profile": self.profile, "changes": self.changes}, indent=1, ensure_ascii=False)
            self.folder.joinpath("changes.json").write_text(text + "\n", encoding="utf-8")

    def _grid_row(self, table: str) -> dict[str, Any]:
        cells = [cell for cell in self.cells if cell.table == table]
        axes = {axis: list(dict.fromkeys(str(cell.point.get(axis, "")) for cell in cells)) for axis in cells[0].point}
        varied = "; ".join(f"{axis}: {', '.join(values)}" for axis, values in axes.items())
        return {"table": table, "runs": len({cell.id for cell in cells}), "varied": varied}

    def __repr__(self) -> str:
        return f"Study({self.paper!r}, {self.profile!r}): {len(self.specs)} runs"

    def _repr_html_(self) -> str:
        counts = self.status().drop_duplicates("run")["state"].value_counts()
        rows = {
            "document": f"{self.entry['title']} ({self.entry['title_original']})",
            "profile": self.profile,
            "data": f"{self.settings.data.source}, {self.settings.data.image_size} px",
            "seeds": ", ".join(map(str, self.settings.seeds)),
            "runs": f"{len(self.specs)} ({', '.join(f'{count} {state}' for state, count in counts.items())})",
        }
        if self.changes:
            rows |= {"changed": in_a_line(self.changes), "tables and figures": str(self.folder)}
        return pd.Series(rows).to_frame().to_html(header=False)


@dataclass(frozen=True, repr=False)
class Results:
    """Stored results of a study as tidy frames; what is missing is NaN."""

    study: Study
    stored: dict[str, Stored]

    def frame(self, table: str) -> pd.DataFrame:
        """One row a grid point: its keys, the run id, and every metric."""
        rows = [{**cell.point, "run": cell.id, **self._metrics(cell)} for cell in self._cells(table)]
        return pd.DataFrame(rows)

    def history(self, table: str) -> pd.DataFrame:
        """One row a grid point and epoch."""
        found = [run.history.assign(**point) for point, run in self.runs(table) if run.history is not None]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["epoch"])

    def runs(self, table: str) -> list[tuple[dict[str, Any], Stored]]:
        """Grid point and stored run, for arrays; missing runs are left out."""
        return [(cell.point, self.stored[cell.id]) for cell in self._cells(table) if cell.id in self.stored]

    def run(self, table: str, **point: Any) -> Stored:
        """The one stored run at a point of a table's grid.

        Raises:
            SpecError: if no stored run, or more than one, is at that point.
        """
        found = {run.id: run for at, run in self.runs(table) if all(at.get(axis) == value for axis, value in point.items())}
        if len(found) != 1:
            points = "; ".join(str(at) for at, run in self.runs(table) if not found or run.id in found)
            raise SpecError(f"point: {point} names {len(found)} stored runs of {table!r}; allowed: one of {points}"[:600])
        return next(iter(found.values()))

    def published(self, table: str) -> pd.DataFrame:
        """The document's rows for a table, from published.csv."""
        return published(self.study.paper, table)

    def claims(self, *about: str) -> pd.DataFrame:
        """A verdict on each claim for a reader; `about` names the tables of the grid whose claims are shown, without it every claim is."""
        return claims.readable(self.board(), about)

    def board(self) -> pd.DataFrame:
        """The verdicts, corrected for all claims of the entry: `vitlib.report.evidence.claims.scoreboard`."""
        return claims.scoreboard(self.judged())

    def judged(self) -> list[claims.Judged]:
        """Each claim of the entry with its interval; seeds beside those of the profile make it a sequential one."""
        own = merged(self.study.entry["base"], self.study.entry["profile"][self.study.profile])
        return claims.judged(self.study.entry.get("claim", []), self.claim_frame, own["seeds"])

    def provenance(self) -> pd.DataFrame:
        """Versions, devices and commits that the results came from, with the number of runs each."""
        kept = [run.provenance for run in self.stored.values()]
        rows = [{"device": each["device"], "commit": each["commit"], **each["versions"]} for each in kept]
        return pd.DataFrame(rows).value_counts().rename("runs").reset_index()

    def claim_frame(self, name: str) -> pd.DataFrame:
        """A table's frame, or the one that the document derives by `frame_<name>`."""
        derive = getattr(importlib.import_module(f"vitlib.papers.{self.study.paper}"), f"frame_{name}", None)
        return derive(self) if derive else self.frame(name)

    def _cells(self, table: str) -> list[Cell]:
        cells = [cell for cell in self.study.cells if cell.table == table]
        known = list({cell.table for cell in self.study.cells})
        if not cells and table not in self.study.entry["grid"]:
            raise SpecError(f"table: got {table!r}{nearest(table, known)}")
        figures.show(images_of(cell.spec for cell in cells))
        return cells

    def _metrics(self, cell: Cell) -> dict[str, Any]:
        """A run's metrics, and beside those that it has them of (N,) values by image: `top1 by image` beside `top1`, in its unit."""
        if (run := self.stored.get(cell.id)) is None:
            return {}
        return run.metrics | {name: frames.in_units(values) for name, values in run.arrays.items() if name.endswith(frames.BY_IMAGE)}


def load_study(
    paper: str,
    profile: str = "quick",
    *,
    overrides: dict[str, Any] | str | None = None,
    results_dir: str = "",
    figures_dir: str = "",
    data_dir: str = "",
    device: str = "auto",
) -> Study:
    """A document's study at a profile.

    Args:
        overrides: settings to replace, nested as in the entry, for instance {"seeds": [0], "recipe": {"epochs": 8}}, or that as JSON text.
        results_dir, figures_dir, data_dir: see `vitlib.paths`.

    Raises:
        SpecError: unknown paper, profile or field, or a value that is not allowed; before anything is computed.
        StoreError: for a place that is a file.
    """
    fingerprint.cache_clear()
    require("paper", paper, studies())
    given = read_overrides(overrides)
    entry = read_entry(paper)
    require("profile", profile, list(entry["profile"]))
    module = importlib.import_module(f"vitlib.papers.{paper}")
    place = Place(_folder("results_dir", results_dir), _folder("data_dir", data_dir), device)
    own = merged(entry["base"], entry["profile"][profile])
    before, after = (module.Settings.parse(with_teachers(fields)) for fields in (own, merged(own, given)))
    settings = _pinned(after, place)
    filled, shown = cells(entry, module, settings), _folder("figures_dir", figures_dir)
    _meet_demands(settings, filled, place.data_dir)
    return Study(paper, profile, entry, settings, filled, place, shown, changes_of(given, before, after))


def _meet_demands(settings: Part, cells: Iterable[Cell], data_dir: Path) -> None:
    """Refuse models and data that some run could not be computed with, before any is."""
    runs = {run.id: run for cell in cells for run in cell.spec.family()}
    for demand in dict.fromkeys(demand for part in (settings, *runs.values()) for demand in part.demands()):
        demand.check(data_dir)


def _folder(name: str, given: str) -> Path:
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


def _pinned(value: Any, place: Place) -> Any:
    """Data and checkpoints anywhere in the settings, with the fingerprint of their files."""
    if isinstance(value, Data | Checkpoint):
        try:
            return _pin(value, place)
        except OSError as error:
            raise SpecError(f"data_dir: {brief(value)} cannot be read below {place.data_dir} ({error.strerror})") from None
    if isinstance(value, Part):
        return value.changed(**{name: _pinned(getattr(value, name), place) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {key: _pinned(item, place) for key, item in value.items()}
    return tuple(_pinned(item, place) for item in value) if isinstance(value, tuple) else value


def _pin(value: Data | Checkpoint, place: Place) -> Data | Checkpoint:
    """By the files, or, on a machine without them, by what stored results say of them."""
    store = Store(place.results_dir, writable=False)
    if isinstance(value, Checkpoint):
        absent = not value.sha256 and not (place.data_dir / value.file).exists()
        known = store.known("file", value.file, "sha256") if absent else None
        return value.changed(sha256=known) if known else value.pinned(place.data_dir)
    try:
        return value.pinned(place.data_dir)
    except AbsentError:
        return value.changed(fingerprint=store.known("source", value.source, "fingerprint") or "")


def _state(store: Store, spec: RunSpec) -> str:
    try:
        stored = store.read(spec.id)
    except KeyError:
        return "failed" if store.failure(spec.id) else "missing"
    except DamagedError:
        return "damaged"
    current = code_fingerprint(type(spec).__module__)
    return "stored" if stored.provenance["code"] == current else "stale"
