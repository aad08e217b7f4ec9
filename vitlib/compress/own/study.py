"""Your model in a notebook: every step of compression as one table of models, its runs, and what they gave. Start from `OwnModel`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from vitlib.compress.back.result import Compressed
from vitlib.compress.call import computed, in_words
from vitlib.compress.own.specs import OwnDistances
from vitlib.grid.changes import in_a_line
from vitlib.grid.results import provenance
from vitlib.inputs.foreign.architecture import architecture
from vitlib.inputs.sources import Data
from vitlib.papers.comparison.left.forms import form_of
from vitlib.papers.comparison.left.measured import measurements
from vitlib.report.distances import uniform_attention_distance
from vitlib.runs.plan import Executor, Mode
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec
from vitlib.studies import travel
from vitlib.studies.pages.page import Page

NAME = "your_model"
LOOKED_AT = 100  # test photos that attention distances are of, at most


@dataclass(frozen=True, repr=False)
class OwnModel(Page):
    """A page whose runs are those of the front door.

    Attributes:
        steps: calls of one method, described and not computed.
        is_example: nothing of it is the reader's own.
    """

    method: str = "afr"
    tolerance: float = 5.0
    steps: dict[str, Compressed] = field(default_factory=dict)
    is_example: bool = False

    @cached_property
    def rows(self) -> dict[str, RunSpec]:
        """The run of each model of the tables: what all steps are compared with, then step by step."""
        return {name: run for step in self.steps.values() for name, run in step.runs.items()}

    @property
    def reference(self) -> str:
        """The row that the others are compared with: the model before, or the student without a teacher."""
        return list(next(iter(self.steps.values())).runs)[-2]

    @property
    def candidates(self) -> list[str]:
        """The rows that may be taken away."""
        return [list(step.runs)[-1] for step in self.steps.values()]

    @property
    def notes(self) -> list[str]:
        """How the photos are split and the models are trained, in sentences."""
        return list(dict.fromkeys(self.told(note) for step in self.steps.values() for note in step.notes))

    @property
    def data(self) -> Data:
        return self.rows[self.candidates[0]].data

    @cached_property
    def distances(self) -> dict[str, OwnDistances]:
        """By row, of the models whose attention can be looked at."""
        forms = {name: form_of(run) for name, run in self.rows.items()}
        seen = [
            name for name, form in forms.items() if architecture(form.model, form.data.image_size, form.data.channels).maps
        ]  # fmt: skip
        return {name: OwnDistances.made(model=self.rows[name], images=LOOKED_AT) for name in seen}

    @property
    def everywhere(self) -> float | None:
        """Attention distance of a model that looks at all patches alike, in pixels, where all models have the same square of patches."""
        forms = [form_of(self.rows[name]) for name in self.distances]
        sizes = {(form.data.image_size, architecture(form.model, form.data.image_size, form.data.channels).patches) for form in forms}
        if len(sizes) != 1:
            return None
        ((image_size, patches),) = sizes
        side = math.isqrt(patches)
        return uniform_attention_distance(image_size, image_size // side) if side**2 == patches and image_size % side == 0 else None

    @cached_property
    def specs(self) -> dict[str, RunSpec]:
        runs = self.rows.values()
        measured = (spec for run in runs for spec in measurements(run).values())
        return {spec.id: spec for spec in (*runs, *measured, *self.distances.values())}

    def execute(self, executor: Executor = "inline", mode: Mode = "cached", **_: Any) -> OwnResults:
        """Compute what is missing; 'read-only' computes nothing and takes from `travel.NAME` what the store lacks.

        Raises:
            SpecError: for weights or photos that a run cannot be computed with, before anything is.
            RunsFailedError: at the end, naming each failed run and its reason.
        """
        looked_at = {spec.id: f"{name}, attention distances" for name, spec in self.distances.items()}
        stored = computed(list(self.specs.values()), self.place, executor, mode, in_words(self.rows) | looked_at)
        return OwnResults(self, travel.completed(self, stored) if mode == "read-only" else stored)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.profile!r}, {self.method!r}): {len(self.specs)} runs"

    def _repr_html_(self) -> str:
        store = Store(self.place.results_dir, writable=False)
        counts = Counter("stored" if run_id in store else "missing" for run_id in self.specs)
        rows = {
            "method": f"{self.method}: {', '.join(self.candidates)}",
            "model": self.about.partition(" · ")[0].partition(", ")[2],
            "photos": f"{self.data.image_size} px; {self.notes[0].partition(': ')[0]}",
            "runs": f"{len(self.specs)} ({', '.join(f'{count} {state}' for state, count in counts.items())})",
        }
        if self.changes:
            rows |= {"changed": in_a_line(self.changes), "tables and figures": str(self.folder)}
        return pd.Series(rows).to_frame().to_html(header=False)


@dataclass(frozen=True, repr=False)
class OwnResults:
    """What is stored of an own model's runs; what is missing is NaN."""

    study: OwnModel
    stored: dict[str, Stored]

    @cached_property
    def models(self) -> pd.DataFrame:
        """A row a model; see `Compressed.summary`."""
        return Compressed(self.study.rows, self.stored, self.study.place, ()).summary()

    def beside(self, row: str) -> Compressed:
        """One model beside the reference."""
        names = dict.fromkeys([self.study.reference, row])
        runs = {name: self.study.rows[name] for name in names}
        return Compressed(runs, self.stored, self.study.place, tuple(self.study.notes))

    def smallest(self) -> str | None:
        """The row with the smallest packed file among those that lose no more than `tolerance` points of top-1; None without one."""
        table = self.models.set_index("model")
        least = table.loc[self.study.reference, "top-1 %"] - self.study.tolerance
        fit = table.loc[self.study.candidates][lambda rows: rows["top-1 %"] >= least]
        return None if fit.empty else str(fit["packed MB"].idxmin())

    def nearest(self) -> str | None:
        """The row with the highest top-1."""
        top1 = self.models.set_index("model").loc[self.study.candidates, "top-1 %"].dropna()
        return None if top1.empty else str(top1.idxmax())

    def provenance(self) -> pd.DataFrame:
        """Versions, devices and commits that the results came from, with the number of runs each."""
        return provenance(self.stored)
