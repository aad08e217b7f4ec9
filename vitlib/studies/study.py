"""A study: one document's grid of runs, at one profile, and everything a notebook asks of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vitlib.grid.changes import in_a_line
from vitlib.grid.grid import Grid
from vitlib.grid.results import Results
from vitlib.report import figures
from vitlib.runs.execute import execute
from vitlib.runs.manifest import DamagedError
from vitlib.runs.plan import Executor, Mode, Place
from vitlib.runs.provenance import code_fingerprint
from vitlib.runs.store import Store
from vitlib.spec import RunSpec
from vitlib.studies import artefacts, travel
from vitlib.studies.costs import slots, table
from vitlib.studies.costs.speed import machine
from vitlib.training.work.registry import Sets


@dataclass(frozen=True, repr=False)
class Study(Grid):
    """A grid that is executed and drawn; its display says what is stored and what is missing."""

    def execute(self, executor: Executor = "inline", mode: Mode = "cached", slots_per_gpu: int | None = None) -> Results:
        """Compute what is missing; see `vitlib.runs.execute.execute` for modes and errors. 'read-only' takes it from `travel.NAME`.

        Args:
            slots_per_gpu: runs that executor 'local' computes at once on each GPU; None finds out how many fit.
        """
        stored = execute(self.specs.values(), self._with_slots(executor, slots_per_gpu), executor=executor, mode=mode)
        return Results(self, travel.completed(self, stored) if mode == "read-only" else stored)

    def save_table(self, table: pd.DataFrame, name: str) -> pd.io.formats.style.Styler:
        """Write CSV and Markdown; returns the table as a notebook shows it."""
        return artefacts.save_table(self, table, name)

    def save_figure(self, figure: Figure, name: str) -> figures.Picture:
        """Write PNG, PDF and the CSV of what is drawn; returns the saved picture, which a notebook displays."""
        return artefacts.save_figure(self, figure, name)

    def status(self) -> pd.DataFrame:
        """One row a run: table, grid point, id, and whether it is stored, archived (see `travel`), missing, stale, failed or damaged."""
        state = self._states(self.specs)
        absent = {run_id for run_id, found in state.items() if found == "missing"}
        state |= dict.fromkeys(travel.archived(self) & absent if absent else (), "archived")
        return pd.DataFrame([{"table": c.table, **c.point, "run": c.id, "state": state[c.id]} for c in self.cells])

    def ancestors(self) -> pd.DataFrame:
        """One row a run that those of the grid start from: id and state, as in `status`."""
        family = {member.id: member for spec in self.specs.values() for member in spec.family() if member.id not in self.specs}
        return pd.DataFrame(self._states(family).items(), columns=["run", "state"])

    def grid(self) -> pd.DataFrame:
        """What varies, table by table: runs, and the values of each axis."""
        return pd.DataFrame([self._grid_row(table) for table in dict.fromkeys(cell.table for cell in self.cells)])

    def _with_slots(self, executor: Executor, per_gpu: int | None) -> Place:
        if per_gpu is None and executor == "local":
            per_gpu = slots.slots_per_gpu(self.specs.values(), Sets(self.place.data_dir))
        return replace(self.place, slots_per_gpu=1 if per_gpu is None else per_gpu)

    def _states(self, specs: dict[str, RunSpec]) -> dict[str, str]:
        store = Store(self.place.results_dir, writable=False)
        return {run_id: _state(store, spec) for run_id, spec in specs.items()}

    def _cost(self) -> str:
        """In a line; by the rates of the device where they are known, and never by measuring them."""
        return table.line(self, machine.known(self.place.device, self.place.results_dir))

    def _grid_row(self, table: str) -> dict[str, Any]:
        cells = self.cells_of(table)
        axes = {axis: list(dict.fromkeys(str(cell.point.get(axis, "")) for cell in cells)) for axis in cells[0].point}
        varied = "; ".join(f"{axis}: {', '.join(values)}" for axis, values in axes.items())
        return {"table": table, "runs": len({cell.id for cell in cells}), "varied": varied}

    def _repr_html_(self) -> str:
        counts = self.status().drop_duplicates("run")["state"].value_counts()
        rows = {
            "document": f"{self.entry['title']} ({self.entry['title_original']})",
            "profile": self.profile,
            "data": f"{self.settings.data.source}, {self.settings.data.image_size} px",
            "seeds": ", ".join(map(str, self.settings.seeds)),
            "runs": f"{len(self.specs)} ({', '.join(f'{count} {state}' for state, count in counts.items())})",
            "cost of the missing runs": self._cost(),
        }
        if self.changes:
            rows |= {"changed": in_a_line(self.changes), "tables and figures": str(self.folder)}
        return pd.Series(rows).to_frame().to_html(header=False)


def _state(store: Store, spec: RunSpec) -> str:
    try:
        stored = store.read(spec.id)
    except KeyError:
        return "failed" if store.failure(spec.id) else "missing"
    except DamagedError:
        return "damaged"
    return "stored" if stored.provenance["code"] == code_fingerprint(type(spec)) else "stale"
