"""What a study's runs cost, as a table by state and kind of run, and in a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from vitlib.grid.grid import Grid
from vitlib.spec import RunSpec, SpecError, families
from vitlib.studies.costs.amounts import Amounts, amounts_of, memory, storage
from vitlib.studies.costs.schedule import wall
from vitlib.studies.costs.speed.rates import Rates
from vitlib.training.work.registry import Sets

THERE = ("stored", "stale")  # states whose runs are not computed again
NOT_NEEDED = "not needed"  # a run that is not there, and that only runs start from which are
NOT_TO_COMPUTE = (*THERE, "archived", "absent")  # nor those that an archive has, or whose images are not here
UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))
BYTES = ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True)
class Cost:
    """Of several runs together; memory is that of the largest."""

    amounts: Amounts
    memory: float
    storage: float


def cost_of(specs: list[RunSpec], parents: set[str], sets: Sets) -> Cost:
    """`parents`: the runs that others start from."""
    amounts = sum((amounts_of(spec, sets) for spec in specs), Amounts())
    largest = max((memory(spec, sets) for spec in specs), default=0.0)
    return Cost(amounts, largest, sum(storage(spec, spec.id in parents, sets) for spec in specs))


def family(study: Grid) -> dict[str, RunSpec]:
    """The runs of the grid and those that they start from."""
    return families(study.specs.values())


def parents_in(runs: Iterable[RunSpec]) -> set[str]:
    return {parent.id for spec in runs for parent in spec.parents()}


def states(study) -> dict[str, str]:
    """State of each run of the family, as `Study.status` gives it."""
    frame = pd.concat([study.status(), study.ancestors()])
    return dict(zip(frame["run"], frame["state"], strict=True))


def to_compute(study, found: dict[str, str]) -> dict[str, RunSpec]:
    """The runs that an execution would compute, parents first: up from those of the grid, and no further than what is there."""
    needed: dict[str, RunSpec] = {}

    def visit(spec: RunSpec) -> None:
        if found[spec.id] not in NOT_TO_COMPUTE and spec.id not in needed:
            for parent in spec.parents():
                visit(parent)
            needed[spec.id] = spec

    for spec in study.specs.values():
        visit(spec)
    return needed


def table(study, rates: Rates) -> pd.DataFrame:
    """One row a state and kind of run, its time that of computing; what is there costs nothing.

    The last rows are the sums of what is archived and what is missing, each with the time of a command that computes it from its start on.
    """
    sets, runs, found = Sets(study.place.data_dir), family(study), _told(study)
    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run_id, spec in runs.items():
        groups.setdefault((found[run_id], type(spec).__name__), []).append(spec)
    parents, begun = parents_in(runs.values()), replace(rates, start=0.0)
    rows = [_row(state, kind, specs, parents, begun, sets) for (state, kind), specs in sorted(groups.items())]
    for state in dict.fromkeys(state for state, _ in sorted(groups) if _costs(state)):
        every = [spec for run_id, spec in runs.items() if found[run_id] == state]
        rows.append(_row(state, "all", every, parents, rates, sets))
    return pd.DataFrame(rows)


def _told(study) -> dict[str, str]:
    """States, with those of runs that nobody needs."""
    found = states(study)
    needed = to_compute(study, found)
    return {run_id: state if run_id in needed or state in NOT_TO_COMPUTE else NOT_NEEDED for run_id, state in found.items()}


def _costs(state: str) -> bool:
    return state not in (*THERE, NOT_NEEDED)


def _row(state: str, kind: str, specs: list[RunSpec], parents: set[str], rates: Rates, sets: Sets) -> dict[str, str | int]:
    cost = _cost_if_known(state, specs, parents, sets) if _costs(state) else None
    if cost is None:
        return {"state": state, "kind": kind, "runs": len(specs), **dict.fromkeys(("epochs", "FLOPs", "memory", "storage", "time"), "")}
    return {
        "state": state,
        "kind": kind,
        "runs": len(specs),
        "epochs": f"{cost.amounts.epochs:,.0f}",
        "FLOPs": with_unit(cost.amounts.flops, UNITS),
        "memory": with_unit(cost.memory, BYTES),
        "storage": with_unit(cost.storage, BYTES),
        "time": in_words(wall(specs, rates, sets)),
    }


def _cost_if_known(state: str, specs: list[RunSpec], parents: set[str], sets: Sets) -> Cost | None:
    """None for runs on optional sets that are not here and whose sizes nobody knows."""
    try:
        return cost_of(specs, parents, sets)
    except SpecError:
        if state == "absent":
            return None
        raise


def line(study, rates: Rates | None) -> str:
    """The cost of the missing runs for a study's display; without rates, without time."""
    missing = list(to_compute(study, states(study)).values())
    if not missing:
        return "none are missing"
    sets = Sets(study.place.data_dir)
    cost = cost_of(missing, parents_in(missing), sets)
    known = f"{cost.amounts.epochs:,.0f} epochs, {with_unit(cost.amounts.flops, UNITS)}, {with_unit(cost.memory, BYTES)} of memory"
    if rates is None:
        return f"{known}; time: python -m vitlib plan {study.paper} --profile {study.profile}"
    return f"{known}, about {in_words(wall(missing, rates, sets))} on {rates.device}"


def with_unit(value: float, units: tuple[tuple[float, str], ...]) -> str:
    if not value:
        return "–"
    size, name = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{value / size:,.3g} {name}"


def in_words(seconds: float) -> str:
    """To three digits at most: 41 s, 12.4 min, 3.25 h, 12 d."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
