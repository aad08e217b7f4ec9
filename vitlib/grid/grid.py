"""What a study asks for: one document's runs at one profile, and where they and what is made of them lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from vitlib.grid.cells import Cell, in_words
from vitlib.grid.changes import folder_name
from vitlib.grid.entries import merged, published
from vitlib.grid.images import normalised_otherwise
from vitlib.inputs.sources import Data
from vitlib.messages import nearest
from vitlib.runs.plan import Place
from vitlib.spec import Part, RunSpec, SpecError


@dataclass(frozen=True, repr=False)
class Grid:
    """A document's runs at one profile.

    Attributes:
        module: the document's package: its tables, figures and derived frames.
        entry: its entry.toml.
        changes: what overrides change of the profile, by dotted name.
        shares_data: whether all data are the document's own: only then does a difference from its numbers mean something.
    """

    paper: str
    profile: str
    module: ModuleType
    entry: dict[str, Any]
    settings: Part
    cells: tuple[Cell, ...]
    place: Place
    figures_dir: Path
    changes: dict[str, Any] = field(default_factory=dict)
    shares_data: bool = False

    @cached_property
    def specs(self) -> dict[str, RunSpec]:
        """Distinct runs by id; several tables may share one."""
        return {cell.id: cell.spec for cell in self.cells}

    @cached_property
    def titles(self) -> dict[str, str]:
        """The runs, and those that they start from, in words, by id: model, what varies, seed."""
        return in_words(self.cells, self.entry.get("words", {}))

    @cached_property
    def normalised_otherwise(self) -> bool:
        """See `vitlib.grid.images`: found once, because every artefact's stamp says it."""
        return normalised_otherwise(self.specs.values())

    @cached_property
    def optional(self) -> dict[str, str]:
        """The sets that the study can do without, as `downstream.cifar100` by source: those in tables of sets, but for a field's own."""
        fields = {name: getattr(self.settings, name) for name in type(self.settings).model_fields}
        needed = {value.source for value in fields.values() if isinstance(value, Data)}
        named = ((f"{name}.{key}", data) for name, sets in fields.items() if isinstance(sets, dict) for key, data in sets.items())
        return {data.source: where for where, data in named if isinstance(data, Data) and data.source not in needed}

    @property
    def folder(self) -> Path:
        """Where artefacts go: `<profile>`, or, so that nothing is written over its figures, a folder beside it named by the changes."""
        return self.figures_dir / self.paper / folder_name(self.profile, self.changes)

    @property
    def declared_seeds(self) -> list[int]:
        """The seeds of the profile, fixed before the first run, whatever overrides add."""
        return merged(self.entry["base"], self.entry["profile"][self.profile])["seeds"]

    def cells_of(self, table: str) -> list[Cell]:
        """The cells of a table; none where its axes are empty at this profile.

        Raises:
            SpecError: for a table that the entry does not have.
        """
        cells = [cell for cell in self.cells if cell.table == table]
        if not cells and table not in self.entry["grid"]:
            raise SpecError(f"table: got {table!r}{nearest(table, list({cell.table for cell in self.cells}))}")
        return cells

    def published(self, table: str) -> pd.DataFrame:
        """The document's rows for a table, from published.csv."""
        return published(self.paper, table)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.paper!r}, {self.profile!r}): {len(self.specs)} runs"
