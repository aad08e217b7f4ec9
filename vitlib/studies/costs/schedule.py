"""When runs end if they are computed side by side: parents first, in their order, those that measure time alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from vitlib.spec import RunSpec
from vitlib.studies.costs.amounts import Amounts, amounts_of
from vitlib.studies.costs.speed.rates import Rates
from vitlib.training.work.registry import Sets


def ends(specs: Sequence[RunSpec], rates: Rates, sets: Sets) -> dict[str, float]:
    """Seconds from a command's start to the end of each run, in the order of the ends; parents that are not among `specs` are stored."""
    host, waiting = _Host(rates, rates.start), {spec.id: spec for spec in specs}
    parents = {spec.id: {parent.id for parent in spec.parents()} & waiting.keys() for spec in specs}
    while waiting or host.begun:
        ready = (run_id for run_id in waiting if parents[run_id] <= host.ended.keys())
        if len(host.begun) < rates.slots and (run_id := next(ready, None)):
            spec = waiting.pop(run_id)
            host.begun.append(_Begun(run_id, amounts_of(spec, sets), spec.timed))
        else:
            host.wait()
    return host.ended


def wall(specs: Sequence[RunSpec], rates: Rates, sets: Sets) -> float:
    """Seconds of a command that computes all of them."""
    return max(ends(specs, rates, sets).values(), default=0.0)


@dataclass
class _Begun:
    """A run in a slot; `left` is the share of it that is to be done."""

    run_id: str
    amounts: Amounts
    timed: bool
    left: float = 1.0


@dataclass
class _Host:
    """Slots at a moment; `begun` in the order in which they were taken."""

    rates: Rates
    now: float
    begun: list[_Begun] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)

    def wait(self) -> None:
        """Until the next run ends."""
        active = self._active()
        whole = [self.rates.seconds(run.amounts, len(active)) for run in active]
        passed, first = min((run.left * seconds, place) for place, (run, seconds) in enumerate(zip(active, whole, strict=True)))
        for run, seconds in zip(active, whole, strict=True):
            run.left -= passed / seconds
        self.now += passed
        self.begun.remove(active[first])
        self.ended[active[first].run_id] = self.now

    def _active(self) -> list[_Begun]:
        """One that measures time lets those before it end, and those after it wait."""
        return self.begun[:1] if self.begun[0].timed else [*takewhile(lambda run: not run.timed, self.begun)]
