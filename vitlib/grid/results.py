"""What a study got: stored results as tidy frames, the claims on them, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from vitlib.grid.cells import Cell
from vitlib.grid.grid import Grid
from vitlib.grid.images import images_of
from vitlib.report import frames
from vitlib.report.evidence import claims
from vitlib.report.noted import note
from vitlib.runs.manifest import DamagedError
from vitlib.runs.preflight import absent
from vitlib.runs.reading.stored import Stored
from vitlib.spec import SpecError


@dataclass(frozen=True, repr=False)
class Results:
    """Stored results of a study as tidy frames; what is missing is NaN."""

    study: Grid
    stored: dict[str, Stored]

    def frame(self, table: str) -> pd.DataFrame:
        """One row a grid point: its keys, the run id, and every metric."""
        cells = self._cells(table)
        if table not in self._frames:
            self._frames[table] = pd.DataFrame([{**cell.point, "run": cell.id, **self._metrics(cell)} for cell in cells])
        return self._frames[table].copy()

    def history(self, table: str) -> pd.DataFrame:
        """One row a grid point and epoch."""
        texts = [(point, text) for point, run in self._at(table) if (text := or_missing(run, "history_text")) is not None]
        return frames.parsed_together(texts) if texts else pd.DataFrame(columns=["epoch"])

    def runs(self, table: str) -> list[tuple[dict[str, Any], Stored]]:
        """Grid point and stored run, for arrays; missing runs are left out, and damaged ones."""
        return [(point, run) for point, run in self._at(table) if None not in (or_missing(run, "metrics"), or_missing(run, "arrays"))]

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
        return self.study.published(table)

    def claims(self, *about: str) -> pd.DataFrame:
        """A verdict on each claim for a reader; `about` names the tables of the grid whose claims are shown, without it every claim is."""
        return claims.readable(self.board(), about)

    def board(self) -> pd.DataFrame:
        """The verdicts, corrected for all claims of the entry: `vitlib.report.evidence.claims.scoreboard`.

        A claim that lacks runs because the images of a set are not here says so in place of what would decide it.
        """
        judged = self.judged()
        board = claims.scoreboard(judged)
        lacking = [self._lacking(one.claim) if pd.isna(one.interval.mean) else None for one in judged]
        return board.assign(**{"to decide": [said or before for said, before in zip(lacking, board["to decide"], strict=True)]})

    def judged(self) -> list[claims.Judged]:
        """Each claim of the entry with its interval; seeds beside those of the profile make it a sequential one."""
        return claims.judged(self.study.entry.get("claim", []), self.claim_frame, self.study.declared_seeds)

    def provenance(self) -> pd.DataFrame:
        """Versions, devices and commits that the results came from, with the number of runs each."""
        return provenance(self.stored)

    def claim_frame(self, name: str) -> pd.DataFrame:
        """A table's frame, or the one that the document derives by `frame_<name>`."""
        derive = getattr(self.study.module, f"frame_{name}", None)
        return derive(self) if derive else self.frame(name)

    def _lacking(self, claim: dict[str, Any]) -> str | None:
        """'the images of cifar100', where a claim lacks values of an optional set that is not here."""
        frame, metric = self.claim_frame(claim["table"]), claim["metric"]
        if "dataset" not in frame:
            return None
        empty = frame[frame[metric].isna()] if metric in frame else frame
        optional = self.study.optional
        names = [optional[source].partition(".")[2] for source in absent(optional, self.study.place.data_dir)]
        lacking = [name for name in names if name in {*empty["dataset"]}]
        return f"the images of {', '.join(lacking)}" if lacking else None

    @cached_property
    def _frames(self) -> dict[str, pd.DataFrame]:
        """By table: tables, figures and claims ask for the same ones again and again."""
        return {}

    def _at(self, table: str) -> list[tuple[dict[str, Any], Stored]]:
        return [(cell.point, self.stored[cell.id]) for cell in self._cells(table) if cell.id in self.stored]

    def _cells(self, table: str) -> list[Cell]:
        cells = self.study.cells_of(table)
        note(images_of(cell.spec for cell in cells))
        return cells

    def _metrics(self, cell: Cell) -> dict[str, Any]:
        """A run's metrics, and beside those that it has them of (N,) values by image: `top1 by image` beside `top1`, in its unit."""
        run = self.stored.get(cell.id)
        if run is None or (metrics := or_missing(run, "metrics")) is None or (arrays := or_missing(run, "arrays")) is None:
            return {}
        return metrics | {name: frames.in_units(arrays[name]) for name in arrays if name.endswith(frames.BY_IMAGE)}


def provenance(stored: Mapping[str, Stored]) -> pd.DataFrame:
    """Versions, devices and commits that stored runs came from, with the number of runs each."""
    kept = [kept for run in stored.values() if (kept := or_missing(run, "provenance")) is not None]
    rows = [{"device": each["device"], "commit": each["commit"], **each["versions"]} for each in kept]
    return pd.DataFrame(rows).value_counts().rename("runs").reset_index()


def or_missing(run: Stored, what: str) -> Any:
    """An attribute of a stored run; None where it is damaged and nothing may be computed: it was said once, and counts as missing."""
    try:
        return getattr(run, what)
    except DamagedError:
        return None
