"""The cells of a grid as an entry gives it: each point of a table, and the run that fills it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from vitlib.messages import brief, explain
from vitlib.spec import Part, RunSpec, SpecError

LARGEST = 10_000  # cells of a grid: more take minutes to describe, and nobody computes them


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
    return tuple(
        Cell(table, point, _filled(table, point, getattr(module, f"run_{run}"), settings))
        for table, run, axes in blocks
        for point in _points(axes)
    )


def _axes(block: dict[str, Any], settings: Part) -> dict[str, list[Any]]:
    """A block's axes; one given as a string is the settings field of that name."""
    given = {axis: values for axis, values in block.items() if axis != "run"}
    return {axis: list(getattr(settings, values)) if isinstance(values, str) else values for axis, values in given.items()}


def _points(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _filled(table: str, point: dict[str, Any], run: Any, settings: Part) -> RunSpec:
    where = f"(table {table!r}, {', '.join(f'{axis}={brief(value)}' for axis, value in point.items())})"
    try:
        return run(settings, **point)
    except ValidationError as error:
        raise SpecError(f"{explain(RunSpec, error)} {where}") from None
    except ArithmeticError as error:
        raise SpecError(f"a setting is too large or too small to compute with: {error} {where}; allowed: closer to 1") from None
