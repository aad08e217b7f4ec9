"""A study: one document's grid of runs, at one profile, and everything a notebook asks of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitlib.grid.changes import in_a_line
from vitlib.grid.grid import Grid
from vitlib.grid.results import Results
from vitlib.inputs.pictures import AbsentError
from vitlib.runs.clock.budget import Budget
from vitlib.runs.execute import TimeIsUpError, execute
from vitlib.runs.manifest import DamagedError
from vitlib.runs.plan import Executor, Mode, Place
from vitlib.runs.preflight import absent, lacking
from vitlib.runs.provenance import code_fingerprint
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, families
from vitlib.studies import artefacts, travel
from vitlib.studies.costs import remaining, slots, table
from vitlib.studies.costs.budget import in_order, seconds_of
from vitlib.studies.costs.speed import machine
from vitlib.training.work.registry import Sets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitlib.report.pictures import Picture

log = logging.getLogger("vitlib")
NOT_VERIFIED = "verified: metrics and provenance; arrays, histories and weights are when they are read, or now with --verify"


@dataclass(frozen=True, repr=False)
class Study(Grid):
    """A grid that is executed and drawn; its display says what is stored and what is missing."""

    def execute(
        self, executor: Executor = "inline", mode: Mode = "cached", slots_per_gpu: int | None = None, budget: str | Budget | None = None
    ) -> Results:
        """Compute what is missing; see `vitlib.runs.execute.execute` for modes and errors. 'read-only' takes it from `travel.NAME`.

        Runs on `optional` sets that are not on this machine are left out, and a line for each set says so.

        Args:
            slots_per_gpu: runs that executors 'local' and 'ray' compute at once on each GPU; None finds out how many fit.
            budget: a time such as '12m'. Whole comparisons are computed first, all arms of a seed before the next seed; at the end of the
                time what is under way is interrupted, and a TimeIsUpError says what remains: the same call goes on.
        """
        if isinstance(budget, str):
            budget = Budget(seconds_of(budget)) if budget else None
        if mode == "read-only":
            stored = execute(self.specs.values(), self.place, executor=executor, mode=mode, budget=budget)
            return Results(self, travel.completed(self, stored))
        specs = self.computable()
        place = self._with_slots(executor, slots_per_gpu, specs)
        how = {"executor": executor, "mode": mode, "titles": self.titles}
        if slots_per_gpu is None:
            how["memory"] = remaining.holding(self)
        try:
            return Results(self, execute(specs, place, **how, budget=budget, seconds=remaining.pricing(self)))
        except TimeIsUpError as error:
            raise remaining.with_what_remains(error, self, executor, place) from None

    def save_table(self, table: pd.DataFrame, name: str) -> pd.io.formats.style.Styler:
        """Write CSV and Markdown; returns the table as a notebook shows it."""
        return artefacts.save_table(self, table, name)

    def save_figure(self, figure: Figure, name: str) -> Picture:
        """Write PNG, PDF and the CSV of what is drawn; returns the saved picture, which a notebook displays."""
        return artefacts.save_figure(self, figure, name)

    def save_column(self, figure: Figure, name: str) -> None:
        """Write the figure as wide as one column of two, as PDF; `python -m vitlib render DOCUMENT --columns` does it for all."""
        artefacts.save_column(self, figure, name)

    def status(self, verify: bool = False) -> pd.DataFrame:
        """One row a run: table, grid point, id, and whether it is stored, archived (see `travel`), missing, absent (as the images of an
        optional set are), stale, failed or damaged.

        Args:
            verify: read all bytes of all runs; without it those of metrics and provenance, and other files are looked for by name.
        """
        state = self._states(self.specs, verify)
        not_here = {run_id for run_id, found in state.items() if found in ("missing", "absent")}
        state |= dict.fromkeys(travel.archived(self) & not_here if not_here else (), "archived")
        return pd.DataFrame([{"table": c.table, **c.point, "run": c.id, "state": state[c.id]} for c in self.cells])

    def ancestors(self, verify: bool = False) -> pd.DataFrame:
        """One row a run that those of the grid start from: id and state, as in `status`."""
        family = {run_id: member for run_id, member in families(self.specs.values()).items() if run_id not in self.specs}
        return pd.DataFrame(self._states(family, verify).items(), columns=["run", "state"])

    def grid(self) -> pd.DataFrame:
        """What varies, table by table: runs, and the values of each axis."""
        return pd.DataFrame([self._grid_row(table) for table in dict.fromkeys(cell.table for cell in self.cells)])

    def computable(self) -> list[RunSpec]:
        """The runs, whole comparisons first, but for those of optional sets that are not here.

        Raises:
            AbsentError: if none is left.
        """
        reasons = absent(self.optional, self.place.data_dir)
        without = lacking(self.specs.values(), reasons, Store(self.place.results_dir, writable=False))
        if without and len(without) == len(self.specs):
            raise AbsentError(" ".join(f"{self.optional[source]}: {reasons[source]}" for source in dict.fromkeys(without.values())))
        for source, count in Counter(without.values()).items():
            log.warning("%s: %s Its %d of %d runs are left out.", self.optional[source], reasons[source], count, len(self.specs))
        return [spec for spec in in_order(self) if spec.id not in without]

    def _with_slots(self, executor: Executor, per_gpu: int | None, specs: Iterable[RunSpec]) -> Place:
        if per_gpu is None and executor == "local":
            per_gpu = slots.slots_per_gpu(specs, Sets(self.place.data_dir))
        return replace(self.place, slots_per_gpu=1 if per_gpu is None else per_gpu)

    def _states(self, specs: dict[str, RunSpec], verify: bool) -> dict[str, str]:
        store = Store(self.place.results_dir, writable=False)
        found = {run_id: _state(store, spec, verify) for run_id, spec in specs.items()}
        missing = [specs[run_id] for run_id, state in found.items() if state == "missing"]
        return found | dict.fromkeys(lacking(missing, absent(self.optional, self.place.data_dir), store), "absent")

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


def _state(store: Store, spec: RunSpec, verify: bool) -> str:
    try:
        stored = store.read(spec.id, spec) if verify else store.open(spec.id, spec)
        stored.metrics  # noqa: B018  raises where the numbers are not those that were written
        code = stored.provenance["code"]
    except KeyError:
        return "failed" if store.failure(spec.id) else "missing"
    except DamagedError:
        return "damaged"
    return "stored" if code == code_fingerprint(type(spec)) else "stale"
