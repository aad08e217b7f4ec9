"""A study within a budget: what its runs are estimated to take here, and what remains when the time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitlib.grid.grid import Grid
from vitlib.runs.execute import TimeIsUpError
from vitlib.runs.plan import Executor, Place
from vitlib.runs.workers.slots import slots, visible_gpus
from vitlib.spec import RunSpec
from vitlib.studies.costs.amounts import amounts_of, memory
from vitlib.studies.costs.budget import complete
from vitlib.studies.costs.speed.machine import known
from vitlib.studies.costs.speed.rates import SHIPPED, Rates
from vitlib.studies.costs.table import in_words
from vitlib.training.work.registry import Sets


def pricing(study: Grid) -> Callable[[RunSpec], float]:
    """Seconds of a run on one worker."""
    rates, sets = _rates(study), Sets(study.place.data_dir)
    return lambda spec: rates.seconds(amounts_of(spec, sets))


def holding(study: Grid) -> Callable[[RunSpec], float]:
    """Bytes that a run holds on its device at most."""
    sets = Sets(study.place.data_dir)
    return lambda spec: memory(spec, sets)


def with_what_remains(error: TimeIsUpError, study: Grid, executor: Executor, place: Place) -> TimeIsUpError:
    """The same with what it means for the study: its whole comparisons, and the time that the rest takes."""
    line, *failures = str(error).split("\n")
    counts, *remarks = line.split("; ")
    at_once = len(slots(place.device, place.slots_per_gpu)) if executor == "local" else 1
    rest = in_words(error.seconds / max(1, min(at_once, len(error.left))))
    said = [
        f"{study.paper}, {study.profile}: {counts}, about {rest}",
        *remarks,
        f"complete: {_told(study, error)}",
        "the same command goes on",
    ]
    return TimeIsUpError("\n".join(["; ".join(said), *failures]), error.left, error.seconds, error.failed)


def _rates(study: Grid) -> Rates:
    """Of this machine where they were measured; else of one that is like it, and what runs take corrects them."""
    if found := known(study.place.device, study.place.results_dir):
        return found
    return SHIPPED["h100" if study.place.device != "cpu" and visible_gpus() else "cpu-2-cores"]


def _told(study: Grid, error: TimeIsUpError) -> str:
    """Its whole comparisons, seeds with the same tables together."""
    by_seed: dict[Any, list[str]] = {}
    for table, seed in complete(study, error.left.keys() | error.failed.keys()):
        by_seed.setdefault(seed, []).append(table)
    by_tables: dict[str, list[str]] = {}
    for seed, tables in by_seed.items():
        by_tables.setdefault(", ".join(tables), []).append(str(seed))
    told = [tables if seeds == ["None"] else f"{tables} at seed {', '.join(seeds)}" for tables, seeds in by_tables.items()]
    return "; ".join(told) or "no comparison"
