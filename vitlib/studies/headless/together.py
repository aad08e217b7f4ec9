"""Notebooks side by side: the runs of all of them are computed in one go, and each is executed as soon as its own are there.

While one notebook draws, the cores go on computing for the next. Runs that measure time come last, when no notebook is under way, and
those that show them after all of them; a notebook whose runs are all stored keeps others from measuring beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

from vitlib import paths
from vitlib.runs.clock.progress import Settled
from vitlib.runs.execute import RunsFailedError
from vitlib.runs.manifest import StoreError
from vitlib.runs.workers.alone import on_the_host
from vitlib.spec import RunSpec, SpecError

AT_ONCE = 4  # notebooks at most: each is a process of some hundred MB
Compute = Callable[[list[RunSpec], Settled, Callable[[], None]], None]
log = logging.getLogger("vitlib")


@dataclass(frozen=True)
class Job:
    """A notebook to execute.

    Attributes:
        execute: does it, and says what became of it.
        runs: that are computed before, by id.
        stored: whether a run is.
    """

    execute: Callable[[], Any]
    runs: dict[str, RunSpec] = field(default_factory=dict)
    stored: Callable[[str], bool] = lambda run_id: False


def execute_together(jobs: Sequence[Job], compute: Compute) -> list[Any]:
    """What became of each job.

    Args:
        compute: computes runs, names each to its second argument once it is stored or has failed, and calls the third before each that
            measures time.
    """
    with ThreadPool(min(AT_ONCE, paths.cores())) as pool:  # its threads do not outlive the program
        table = _Table(jobs, pool)
        table.serve()
        missing = {run_id: spec for job in jobs for run_id, spec in job.runs.items() if not job.stored(run_id)}
        _computed(compute, list(missing.values()), table)
        return table.results()


def _computed(compute: Compute, specs: list[RunSpec], table: _Table) -> None:
    """As far as possible: a notebook says which of its own runs failed, or computes them itself."""
    try:
        if specs:
            compute(specs, table.settle, table.wait)
    except (RunsFailedError, SpecError, StoreError):
        log.debug("not everything was computed before the notebooks", exc_info=True)


class _Table:
    """The jobs, what each still waits for, and what became of those that were begun."""

    def __init__(self, jobs: Sequence[Job], pool: ThreadPool):
        self.jobs, self.pool = jobs, pool
        self.waits = [{run_id for run_id in job.runs if not job.stored(run_id)} for job in jobs]
        self.begun: dict[int, AsyncResult] = {}

    def settle(self, run_id: str) -> None:
        """Jobs with a run that measures time, or that failed, come when all is computed: nothing is measured beside them."""
        for job, waits in zip(self.jobs, self.waits, strict=True):
            if run_id in waits and not job.runs[run_id].timed and job.stored(run_id):
                waits.discard(run_id)
        self.serve()

    def serve(self) -> None:
        """Begin what waits for nothing."""
        for place in range(len(self.jobs)):
            if not self.waits[place]:
                self._begin(place)

    def wait(self) -> None:
        for result in self.begun.values():
            result.wait()

    def results(self) -> list[Any]:
        """Of all jobs; those that are left are begun now."""
        for place in range(len(self.jobs)):
            self._begin(place)
        return [self.begun[place].get() for place in range(len(self.jobs))]

    def _begin(self, place: int) -> None:
        if place not in self.begun:
            self.begun[place] = self.pool.apply_async(_execute, (self.jobs[place],))


def _execute(job: Job) -> Any:
    with _beside_no_measurement(job):
        return job.execute()


def _beside_no_measurement(job: Job) -> AbstractContextManager[None]:
    """A notebook that may yet compute runs must not keep itself from measuring them."""
    return on_the_host(alone=False) if job.runs and all(map(job.stored, job.runs)) else nullcontext()
