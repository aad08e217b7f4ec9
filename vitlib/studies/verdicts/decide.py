"""Seeds added where verdicts are open, the cheapest claim first, until a budget of time is spent; running it again goes on.

What a claim's next seed takes is found by leaving runs out: a seed of a claim rests on those without which its difference is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from vitlib.grid.cells import Cell
from vitlib.grid.results import Results
from vitlib.report.evidence.claims import Judged
from vitlib.report.evidence.intervals import LEVEL
from vitlib.report.evidence.multiplicity import adjusted, level_for_one
from vitlib.report.evidence.paired import paired_differences
from vitlib.report.evidence.power import seeds_needed
from vitlib.runs.execute import execute
from vitlib.runs.plan import Executor
from vitlib.spec import RunSpec, SpecError
from vitlib.studies.study import Study

MOST_SEEDS = 30  # of a claim: looks at 3 to 30 seeds are simulated to err in at most 5 %
Place = tuple[str, frozenset, int]  # of a run in the grid: table, point without its seed, and which seed it is


@dataclass(frozen=True)
class Step:
    """A claim's next seed.

    Attributes:
        specs: the runs that it takes, stored ones among them.
        seconds: that those take which are not stored, ancestors too, on one core.
        to_decide: seconds until the claim would be decided, were everything as it is so far.
    """

    sentence: str
    specs: tuple[RunSpec, ...]
    seconds: float
    to_decide: float


def with_more_seeds(settings: Any) -> dict[str, list[int]]:
    """Overrides that add seeds up to `MOST_SEEDS` to the settings' own."""
    own = list(settings.seeds)
    return {"seeds": [*own, *range(max(own) + 1, max(own) + 1 + MOST_SEEDS - len(own))]}


def decide(study: Study, declared: Study, budget: float, executor: Executor = "local") -> Iterator[Step]:
    """Compute step after step, each given before it is; ends where no claim is open, seeds decide none, or none fits the budget.

    Args:
        study: with more seeds (`with_more_seeds`) than `declared`.
        budget: seconds.

    Raises:
        SpecError: where a run of the declared seeds is not stored: added seeds go on from them.
    """
    if missing := len(declared.specs) - len(declared.execute(mode="read-only").stored):
        raise SpecError(
            f"decide: {missing} of {len(declared.specs)} runs of {study.paper} at profile {study.profile} are not stored; "
            f"compute them first: python -m vitlib run {study.paper} --profile {study.profile}"
        )
    ends = time.monotonic() + budget
    while affordable := [step for step in open_steps(study.execute(mode="read-only")) if step.seconds <= ends - time.monotonic()]:
        step = min(affordable, key=lambda step: step.to_decide)
        yield step
        execute(step.specs, study.place, executor=executor, titles=study.titles)


def open_steps(results: Results) -> list[Step]:
    """The next seed of each open claim that seeds would decide."""
    lacking = _rows_lacking(results.judged())
    rests, cost = rest_on(results, [claim.claim for claim, _ in lacking]), _prices(results)
    at = {_place(cell, results.study): cell.spec for cell in results.study.cells if "seed" in cell.point}
    steps = []
    for (claim, rows), places in zip(lacking, rests, strict=True):
        if specs := _next(places, at):
            seconds = cost(specs)
            steps.append(Step(claim.claim["sentence"], specs, seconds, seconds * rows))
    return steps


def _rows_lacking(judged: list[Judged]) -> list[tuple[Judged, float]]:
    """The open claims that more seeds would decide by the interval that holds at every look, and how many more."""
    corrected = adjusted(np.array([claim.level for claim in judged], float))
    levels = level_for_one(corrected)
    still_open = [(claim, level) for claim, level, at_most in zip(judged, levels, corrected, strict=True) if not at_most <= LEVEL]
    needed = [seeds_needed(replace(claim.interval, sequential=True), claim.distance, level) for claim, level in still_open]
    rows = [(claim, count - claim.interval.spread.n) for (claim, _), count in zip(still_open, needed, strict=True)]
    return [(claim, count) for claim, count in rows if np.isfinite(count)]


def rest_on(results: Results, claims: list[dict[str, Any]]) -> list[set[Place]]:
    """For each claim where in the grid the runs lie that its latest seed rests on; none for a claim that seeds do not make."""
    seeds, latest = list(results.study.settings.seeds), [_latest(results, claim) for claim in claims]
    found: list[set[Place]] = [set() for _ in claims]
    for run_id, where in _places_of_one_seed(results).items():
        without = replace(results, stored={name: run for name, run in results.stored.items() if name != run_id})
        ((*_, number), *_) = where
        for claim, seed, rests in zip(claims, latest, found, strict=True):
            near = seed in seeds and seeds.index(seed) - 1 <= number <= seeds.index(seed)  # a row takes two seeds at most
            if near and seed not in _differences(without, claim).index:
                rests |= where
    return found


def _places_of_one_seed(results: Results) -> dict[str, set[Place]]:
    """Where each stored run lies in the grid; without those that several seeds share."""
    places: dict[str, set[Place]] = {}
    for cell in results.study.cells:
        if "seed" in cell.point and cell.id in results.stored:
            places.setdefault(cell.id, set()).add(_place(cell, results.study))
    return {run_id: where for run_id, where in places.items() if len({number for _, _, number in where}) == 1}


def _latest(results: Results, claim: dict[str, Any]) -> Any:
    seeds = list(_differences(results, claim).index)
    return seeds[-1] if seeds else None


def _differences(results: Results, claim: dict[str, Any]) -> Any:
    frame = results.claim_frame(claim["table"])
    return paired_differences(frame, claim["metric"], claim["first"], claim["second"], claim["pair_by"])


def _place(cell: Cell, study: Study) -> Place:
    point = dict(cell.point)
    return cell.table, frozenset(point.items() - {("seed", point["seed"])}), list(study.settings.seeds).index(point["seed"])


def _next(places: set[Place], at: dict[Place, RunSpec]) -> tuple[RunSpec, ...]:
    """The same runs at the next seeds, as many on as the places span; empty where the grid has no such seeds."""
    numbers = {number for _, _, number in places}
    if not numbers:
        return ()
    span = max(numbers) - min(numbers) + 1
    moved = [(table, point, number + span) for table, point, number in places]
    return tuple({at[place].id: at[place] for place in moved}.values()) if all(place in at for place in moved) else ()


def _prices(results: Results) -> Callable[[tuple[RunSpec, ...]], float]:
    """Seconds of the runs that are missing, by the median of the stored ones of their class."""
    by_class: dict[str, list[float]] = {}
    for run in results.stored.values():
        by_class.setdefault(run.id.partition("-")[0], []).append(run.provenance["measured"].get("training_seconds", 0.0))
    known = {name: median(seconds) for name, seconds in by_class.items()}
    usual = median(known.values()) if known else 0.0

    def price(specs: tuple[RunSpec, ...]) -> float:
        family = {member.id: member for spec in specs for member in spec.family()}
        return sum(known.get(run_id.partition("-")[0], usual) for run_id in family if run_id not in results.stored)

    return price
