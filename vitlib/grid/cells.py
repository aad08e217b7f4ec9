"""The cells of a grid as an entry gives it: each point of a table, the run that fills it, and what that is called."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType, ModuleType
from typing import Any

from pydantic import ValidationError

from vitlib.messages import brief, explain
from vitlib.spec import Part, RunSpec, SpecError

LARGEST = 200_000  # cells of a grid: more take minutes to describe, and nobody computes them


@dataclass(frozen=True)
class Cell:
    """One point of a table's grid and the run that fills it."""

    table: str
    point: dict[str, Any]
    spec: RunSpec

    @cached_property
    def id(self) -> str:
        """Of the run: once, because frames ask for it often."""
        return self.spec.id


def cells(entry: dict[str, Any], module: ModuleType, settings: Part) -> tuple[Cell, ...]:
    """Every point of the entry's grid with its run.

    Raises:
        SpecError: for a grid that is too large, or settings that a run of it refuses.
    """
    blocks = [(table, block["run"], _axes(block, settings)) for table, found in entry["grid"].items() for block in found]
    sizes = Counter()
    for table, _, axes in blocks:
        sizes[table] += math.prod(map(len, axes.values()))
    if sizes.total() > LARGEST:
        ((largest, most),) = sizes.most_common(1)
        raise SpecError(
            f"grid: the settings ask for {sizes.total():,} runs, {most:,} of them for the table {largest!r}; "
            f"allowed: at most {LARGEST:,}; give fewer seeds, sets or other values that the grid runs over"
        )
    made: dict[tuple[str, str], RunSpec] = {}  # tables share runs

    def filled(table: str, run: str, point: dict[str, Any]) -> RunSpec:
        key = (run, repr(point))
        if key not in made:
            made[key] = _filled(table, point, getattr(module, f"run_{run}"), settings)
        return made[key]

    return tuple(Cell(table, point, filled(table, run, point)) for table, run, axes in blocks for point in _points(axes))


def in_words(cells: Iterable[Cell], words: dict[str, Any]) -> dict[str, str]:
    """Title of each run by id, such as 'DeiT-S, token, seed 1', and of those that they start from; no two are alike.

    Args:
        words: the entry's: for an axis a table of words by value (empty: left out), or a format; `table` and `kind` (of an ancestor's
            class) are said so too. Axes are said in the order of this table, those that it lacks after them, seeds last. Of several cells
            of one run the shortest title counts.
    """
    cells, shortest = list(cells), {}
    for cell in cells:
        title = _title(cell, words)
        shortest[cell.id] = min(shortest.get(cell.id, title), title, key=len)
    return titled([(shortest[cell.id], cell.spec) for cell in cells], words.get("kind", {}))


def titled(named: Iterable[tuple[str, RunSpec]], kinds: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Titles by id of named runs and, by their kind and for which of those, of the runs that they start from; the first name counts."""
    named, found, taken = list(named), {}, Counter()
    for title, run in named:
        _take(title, run.id, found, taken)
    for title, run in named:
        for member in run.family():
            if member.id not in found:
                kind = type(member).__name__
                _take(f"{title}: {kinds.get(kind, re.sub('(?<!^)(?=[A-Z])', ' ', kind).lower())}", member.id, found, taken)
    return found


def _take(title: str, run_id: str, found: dict[str, str], taken: Counter) -> None:
    if run_id not in found:
        taken[title] += 1
        found[run_id] = title if taken[title] == 1 else f"{title} ({taken[title]})"


def _title(cell: Cell, words: dict[str, Any]) -> str:
    order = {axis: place for place, axis in enumerate(words)}
    axes = sorted(cell.point, key=lambda axis: (order.get(axis, len(order)), axis == "seed"))
    said = [_word("table", cell.table, words).replace("_", " "), *(_word(axis, cell.point[axis], words) for axis in axes)]
    return ", ".join(word for word in said if word)


def _word(axis: str, value: Any, words: dict[str, Any]) -> str:
    said = words.get(axis, {})
    if isinstance(said, str):
        return said.format(value).replace("%", " %")
    return said.get(str(value), value if isinstance(value, str) else f"{axis} {value}")


def _axes(block: dict[str, Any], settings: Part) -> dict[str, list[Any]]:
    """A block's axes; one given as a string is the settings field of that name."""
    given = {axis: values for axis, values in block.items() if axis != "run"}
    return {axis: list(getattr(settings, values)) if isinstance(values, str) else values for axis, values in given.items()}


def _points(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _filled(table: str, point: dict[str, Any], run: Any, settings: Part) -> RunSpec:
    try:
        return run(settings, **point)
    except ValidationError as error:
        raise SpecError(f"{explain(RunSpec, error)} {_where(table, point)}") from None
    except ArithmeticError as error:
        raise SpecError(
            f"a setting is too large or too small to compute with: {error} {_where(table, point)}; allowed: closer to 1"
        ) from None


def _where(table: str, point: dict[str, Any]) -> str:
    return f"(table {table!r}, {', '.join(f'{axis}={brief(value)}' for axis, value in point.items())})"
