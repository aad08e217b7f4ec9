"""A time to compute in, and which waiting run begins next in it.

A run begins if it ends, by its estimate, in the time that is left; what the runs before it took corrects the estimates. One that would not
fit into the whole budget either begins once nothing is left that fits: it is interrupted at the deadline and goes on in the next call.
The first run of a call always begins. So whoever calls again and again comes to the end, however short the budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vitlib.runs.clock import notice
from vitlib.runs.plan import Plan
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

GRACE = 30.0  # seconds after the deadline in which what cannot be interrupted may end
USUAL = 5.0  # seconds that are taken to have been as estimated: the first run of a process is no measure
REACHED, IN_VAIN = "reached", "in-vain"  # notes beside a checkpoint: the share of a run that is done; seconds after which nothing was kept

Seconds = Callable[[RunSpec], float]


class Budget:
    """Seconds to compute in, from now on; several studies may share them, one after the other.

    Attributes:
        deadline: on the clock `time.monotonic`, which the processes of a machine share.
        begun: whether a run began in it.
    """

    def __init__(self, seconds: float = float("inf")):
        self.seconds, self.deadline, self.begun = seconds, time.monotonic() + seconds, False
        self._taken = self._estimated = USUAL

    @property
    def left(self) -> float:
        return min(self.deadline, notice.moment()) - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing more may begin."""
        return notice.given() or (self.begun and self.left <= 0)

    @property
    def pace(self) -> float:
        """Seconds that runs have taken so far for each that was estimated."""
        return self._taken / self._estimated

    def took(self, taken: float, estimated: float) -> None:
        self._taken, self._estimated = self._taken + taken, self._estimated + estimated


class Turns:
    """Which of a plan's runs begins next.

    Args:
        seconds: that a run takes from its beginning, by an estimate.
    """

    def __init__(self, plan: Plan, store: Store, budget: Budget, seconds: Seconds):
        self.plan, self.budget, self._store, self._whole = plan, budget, store, seconds
        self._estimate: dict[str, float] = {}
        self._in_vain: dict[str, float] = {}
        self.look_at(plan.pending)

    def look_at(self, specs: Mapping[str, RunSpec]) -> None:
        """Estimate runs, by how far they were computed before."""
        for run_id, spec in specs.items():
            self._estimate[run_id] = self._whole(spec) * (1 - noted(self._store, run_id, REACHED))
            self._in_vain[run_id] = noted(self._store, run_id, IN_VAIN)

    def next(self, ready: Iterable[str], waiting: Mapping[str, Any]) -> str | None:
        """The first of the ready runs, in their order, that may begin now; None where none may, or one that fits waits for its parents."""
        left, too_long = self.budget.left, []
        for run_id in () if notice.given() else ready:
            if self.seconds(run_id) <= left:
                return self._beginning(run_id)
            too_long.append(run_id)
        if self.budget.over or (self.budget.begun and any(self._with_parents(run_id, waiting) <= left for run_id in waiting)):
            return None
        return next((self._beginning(run_id) for run_id in too_long if self._goes_on(run_id, left)), None)

    def seconds(self, run_id: str) -> float:
        """That the rest of a run takes, as things are."""
        return max(self.budget.pace * self._estimate[run_id], 2 * self._in_vain[run_id])

    def took(self, run_id: str, seconds: float) -> None:
        self.budget.took(seconds, self._estimate[run_id])

    def remarks(self, left: Iterable[str]) -> list[str]:
        """What a person should know of the runs that are left."""
        tried = {run_id: seconds for run_id in left if (seconds := self._in_vain[run_id])}
        long = sum(run_id not in tried and self.seconds(run_id) > self.budget.seconds for run_id in left)
        said = [f"{long} of them longer than the budget, done piece by piece"] if long else []
        return said + [f"{run_id} keeps no checkpoint and takes more than {taken:.0f} s: give it more" for run_id, taken in tried.items()]

    def _beginning(self, run_id: str) -> str:
        self.budget.begun = True
        return run_id

    def _with_parents(self, run_id: str, waiting: Mapping[str, Any]) -> float:
        return self.seconds(run_id) + sum(self._with_parents(parent, waiting) for parent in self.plan.parents[run_id] if parent in waiting)

    def _goes_on(self, run_id: str, left: float) -> bool:
        """Whether a run that does not end in the time left is of use: in no call it would, and what it does is kept."""
        tried = self._in_vain[run_id]
        return (not self.budget.begun or self.seconds(run_id) > self.budget.seconds) and not (tried and tried >= left)


def note(store: Store, run_id: str, name: str, value: float) -> None:
    """Beside a run's checkpoint; it goes with it when the run is stored."""
    folder = store.scratch(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(repr(value))


def noted(store: Store, run_id: str, name: str) -> float:
    """What was noted of a run, or 0."""
    try:
        return float((store.scratch(run_id) / name).read_text())
    except (OSError, ValueError):
        return 0.0
