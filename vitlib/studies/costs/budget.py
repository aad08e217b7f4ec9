"""How many whole comparisons fit into a time: all arms of a table at one seed, every table of a seed before the next seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from vitlib.grid.cells import Cell
from vitlib.grid.grid import Grid
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.costs.schedule import ends
from vitlib.studies.costs.speed.rates import Rates
from vitlib.training.work.registry import Sets

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Comparison:
    """The runs of a table at one seed; None for a table without seeds.

    Attributes:
        missing: runs to compute for it, parents first, those of comparisons before it left out.
    """

    table: str
    seed: Any
    missing: tuple[RunSpec, ...]


def seconds_of(text: str) -> float:
    """A budget such as `90s`, `12m` or `1.5h`.

    Raises:
        SpecError: for anything else.
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * UNITS[unit] if number[:1].isdecimal() else 0.0
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SpecError(f"budget: got {text!r}; allowed: a number above 0 with s, m or h, for instance 12m")
    return seconds


def in_order(study: Grid) -> list[RunSpec]:
    """The study's own runs, whole comparisons first."""
    return list({cell.id: cell.spec for cells in _ranked(study).values() for cell in cells}.values())


def comparisons(study: Grid, missing: set[str]) -> list[Comparison]:
    """The comparisons that lack runs, in the order in which they are best computed."""
    return list(_lacking(_ranked(study), set(missing)))


def complete(study: Grid, missing: set[str]) -> list[tuple[str, Any]]:
    """Table and seed of the comparisons none of whose own runs is missing."""
    return [found for found, cells in _ranked(study).items() if missing.isdisjoint(cell.id for cell in cells)]


def _ranked(study: Grid) -> dict[tuple[str, Any], list[Cell]]:
    """The cells of each table at each seed; those without a seed first, tables in their order."""
    order = {seed: place for place, seed in enumerate(study.settings.seeds)}
    found: dict[tuple[str, Any], list[Cell]] = {}
    for cell in study.cells:
        found.setdefault((cell.table, cell.point.get("seed")), []).append(cell)
    return dict(sorted(found.items(), key=lambda item: order.get(item[0][1], -1)))


def _lacking(ranked: dict[tuple[str, Any], list[Cell]], missing: set[str]) -> Iterator[Comparison]:
    for (table, seed), cells in ranked.items():
        family = {member.id: member for cell in cells for member in cell.spec.family()}
        lacking = tuple(spec for run_id, spec in family.items() if run_id in missing)
        missing -= {spec.id for spec in lacking}
        if lacking:
            yield Comparison(table, seed, lacking)


def that_fit(every: list[Comparison], rates: Rates, sets: Sets, seconds: float) -> list[Comparison]:
    """The longest beginning of the order that ends within the budget, counted from the command's start."""
    end = ends([spec for comparison in every for spec in comparison.missing], rates, sets)
    return list(takewhile(lambda comparison: all(end[spec.id] <= seconds for spec in comparison.missing), every))
