"""Attention distances of some models, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitlib.papers.teachers.measure import AttentionDistances
from vitlib.report import figures, tables
from vitlib.report.distances import draw_distances
from vitlib.report.statistics import half_width
from vitlib.runs.reading.stored import Stored
from vitlib.spec import SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Distances:
    """Attention distances in pixels; `note` says which photos they are of."""

    runs: dict[str, AttentionDistances]
    stored: dict[str, Stored]
    note: str

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """By model: (images, blocks, heads)."""
        return {name: self.stored[run.id].arrays["distance"] for name, run in self.runs.items()}

    def summary(self) -> pd.DataFrame:
        """A row a model and block: mean over heads and images, half of its 95 % interval over images, and the nearest and farthest head."""
        rows = [
            {
                "model": name,
                "block": block + 1,
                "distance px": float(of_block.mean()),
                "±": half_width(pd.Series(of_block.mean(axis=1))),
                "nearest head": float(of_block.mean(axis=0).min()),
                "farthest head": float(of_block.mean(axis=0).max()),
                "photos": len(of_block),
            }
            for name, distance in self.arrays.items()
            for block, of_block in enumerate(distance.transpose(1, 0, 2))
        ]
        return pd.DataFrame(rows)

    def figure(self) -> Figure:
        """A line a model over its blocks, dots for single heads."""
        return _drawn(self.arrays)

    def save(self, path: Path | str) -> Path:
        """Write the figure (.png, .pdf) or the summary (.csv).

        Raises:
            SpecError: for another suffix.
        """
        path = Path(path).expanduser()
        if path.suffix not in (".png", ".pdf", ".csv"):
            raise SpecError(f"save: got {path.name!r}; allowed: a name that ends in .png, .pdf or .csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            self.summary().to_csv(path, index=False)
        else:
            with figures.style():
                self.figure().savefig(path)
        return path

    def __repr__(self) -> str:
        return f"{tables.formatted(self.summary()).to_string(index=False)}\n{self.note}"


@figures.style()
def _drawn(arrays: dict[str, np.ndarray]) -> Figure:
    figure, ((axes,),) = figures.canvas()
    for place, (name, distance) in enumerate(arrays.items()):
        draw_distances(axes, distance, figures.PALETTE[place % len(figures.PALETTE)], name, f"{name} heads")
    axes.set(xlabel="block", ylabel="attention distance (px)")
    figures.legend(axes, leave_out=" heads", above=True)
    return figure
