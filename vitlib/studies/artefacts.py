"""What a study leaves beside its results: tables and figures, each with its caption and the stamp that says where it comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from vitlib import durable
from vitlib.grid.changes import in_a_line
from vitlib.grid.grid import Grid
from vitlib.grid.images import Images, images_of, in_words
from vitlib.report import figures, tables
from vitlib.report.evidence import claims
from vitlib.report.pictures import Picture

OVER_SEEDS = re.compile(r"interval.* over (?:n )?(?:seeds|selections)|seeds.* intervals?\b|±")
ONE_SEED = "With the one seed here there are no intervals over seeds."


class Shown(Protocol):
    """What captions and lists of changes are made from: a study, or a page beside the documents."""

    paper: str
    profile: str
    changes: dict[str, Any]

    @property
    def module(self) -> ModuleType: ...

    @property
    def folder(self) -> Path: ...


def stamp(grid: Grid, images: set[Images] | None = None) -> str:
    """Document, profile, changes, images (all by default) and seeds in one line, so that a quick number is never quoted as a result."""
    changed = f" · changed: {in_a_line(grid.changes)}" if grid.changes else ""
    images = images_of(grid.specs.values()) if images is None else images
    shown = f" · {in_words(images)}" if images else ""
    shown += " · normalised by the data's own mean" if grid.normalised_otherwise else ""
    seeds = f"{(count := len(grid.settings.seeds))} seed{'s' * (count > 1)} unless said otherwise"
    return f"{grid.entry['title']} · profile {grid.profile}{changed}{shown} · {seeds}"


def caption(grid: Shown, name: str) -> str:
    """What an artefact shows: the first paragraph of its function's docstring; with one seed, that its intervals are not there."""
    function = claims.readable if name.startswith("claims") else getattr(grid.module, name, None)
    text = " ".join((getattr(function, "__doc__", None) or "").partition("\n\n")[0].split())
    alone = isinstance(grid, Grid) and len(grid.settings.seeds) == 1
    return f"{text} {ONE_SEED}" if alone and OVER_SEEDS.search(text) else text


def save_table(grid: Grid, table: pd.DataFrame, name: str) -> pd.io.formats.style.Styler:
    """Write CSV and Markdown; returns the table as a notebook shows it."""
    captions = caption(grid, name), f"{stamp(grid)}. Published: {grid.entry['conditions']}."
    list_changes(grid)
    tables.save(table, grid.folder / name, *captions)
    return tables.shown(table, " ".join(captions).strip(), name)


def save_figure(grid: Grid, figure: Figure, name: str) -> Picture:
    """Write PNG, PDF and the CSV of what is drawn; returns the saved picture, which a notebook displays."""
    list_changes(grid)
    png = figures.save(figure, grid.folder / name, _figure_stamp(grid, figure))
    return Picture.of(figure, png, caption(grid, name))


def save_column(grid: Grid, figure: Figure, name: str) -> None:
    """Write the figure as wide as one column of two, as PDF."""
    list_changes(grid)
    figures.save_column(figure, grid.folder / name, _figure_stamp(grid, figure))


def _figure_stamp(grid: Grid, figure: Figure) -> str:
    as_published = grid.profile == "paper" and not grid.changes
    return "" if as_published else stamp(grid, figures.shown_in(figure))


def list_changes(grid: Shown) -> None:
    """The full list, beside the artefacts that carry its short form."""
    if grid.changes:
        grid.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"document": grid.paper, "profile": grid.profile, "changes": grid.changes}, indent=1, ensure_ascii=False)
        with durable.whole(grid.folder / "changes.json") as aside:
            aside.write_text(text + "\n", encoding="utf-8")
