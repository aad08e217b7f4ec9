"""What an executor is: a pool that takes runs, says what became of them, and lets go of them. The driver does everything else.

Executors are found by name in `MODULES`. A module has a function `opened(job)`, a context within which its pool is; it refuses what cannot
be computed there (a SpecError) before anything is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from vitlib.runs.plan import Executor, Place, Plan
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

MODULES: dict[Executor, str] = {
    "inline": "vitlib.runs.executors.inline",
    "local": "vitlib.runs.workers.local",
    "ray": "vitlib.runs.executors.on_ray.pool",
}

Memory = Callable[[RunSpec], float]


@dataclass(frozen=True)
class Job:
    """What a pool computes, and where.

    Args:
        forced: ids of runs that are stored and are computed anew.
        tick: called as `tick(run_id, epoch, epochs, images)` while a run goes on.
        memory: bytes that a run holds on its device, by an estimate; 0 where none is known.
        before_timed: called before each run that measures time is handed out.
    """

    plan: Plan
    store: Store
    place: Place
    forced: Set[str]
    tick: Callable[[str, int, int, int], None]
    memory: Memory
    before_timed: Callable[[], None] = lambda: None


class Ended(NamedTuple):
    """What became of a run: stored after `seconds`; found, for another process stored it; held, for one is at it; interrupted at the
    deadline; orphaned, for a run that it starts from was damaged or removed meanwhile; failed for a reason.
    """

    run_id: str
    outcome: Literal["stored", "found", "held", "interrupted", "orphaned", "failed"]
    seconds: float = 0.0
    reason: str = ""


class Lost(NamedTuple):
    """What computed a run died."""

    run_id: str
    why: str


class Pool(Protocol):
    """Computes runs whose parents are stored.

    Attributes:
        tries: how often a run is handed out again and again whose worker dies.
    """

    tries: int

    def has_room(self) -> bool:
        """Whether it takes a run now; it does while it has none and none was cancelled."""

    def submit(self, spec: RunSpec) -> None:
        """Take a run."""

    def wait(self, timeout: float) -> Iterable[Ended | Lost]:
        """What became of runs since the last call; returns after `timeout` seconds if there is nothing to say."""

    def cancel(self, run_id: str) -> None:
        """Let go of a run that is too late; no more is said of it."""


def opened(executor: Executor, job: Job) -> AbstractContextManager[Pool]:
    """The pool of an executor; leaving the context ends whatever is under way in it."""
    return importlib.import_module(MODULES[executor]).opened(job)
