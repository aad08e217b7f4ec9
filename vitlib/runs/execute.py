"""Compute the missing runs of a study, parents first, in this process or in local workers.

`execute` walks up from what is asked, stops at what is stored, and runs the rest. Resuming is running again.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import get_args

from vitlib import distributed
from vitlib.computing import Context, result_of
from vitlib.runs.claims.asking import asking
from vitlib.runs.clock.budget import REACHED, Budget, Seconds, Turns, noted
from vitlib.runs.clock.progress import Progress, Settled
from vitlib.runs.plan import Executor, Mode, Place, Plan, make_plan
from vitlib.runs.preflight import RECORDED, preflight, require_device
from vitlib.runs.reading.damage import computed_again, otherwise, shown_as_missing
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.runs.workers.local import run_in_workers
from vitlib.runs.workers.one import compute_one, device_of, one_thread
from vitlib.spec import RunSpec, SpecError, require

log = logging.getLogger("vitlib")


class RunsFailedError(RuntimeError):
    """Some runs could not be computed; everything else was, and is stored."""


class StoppedError(KeyboardInterrupt):
    """Someone stopped it by hand; everything computed is stored, and the same call goes on. A notebook shows it as one line.

    Attributes:
        stored, left: runs that are, and those that remain to be computed.
    """

    def __init__(self, stored: int, left: int):
        self.stored, self.left = stored, left
        super().__init__(f"stopped: {stored} run{'s' * (stored != 1)} stored, {left} left")

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{self}; run this cell again, or all cells, and it goes on from there"]


class TimeIsUpError(RuntimeError):
    """A budget did not suffice; everything computed in it is stored, and the same call goes on.

    Attributes:
        left: the runs that remain, parents first; `seconds` that they take, one after the other, by the estimates as they were corrected.
        failed: the reasons of those that cannot be computed.
    """

    def __init__(self, message: str, left: dict[str, RunSpec], seconds: float, failed: dict[str, str]):
        super().__init__(message)
        self.left, self.seconds, self.failed = left, seconds, failed


def execute(
    specs: Iterable[RunSpec],
    place: Place,
    *,
    executor: Executor = "inline",
    mode: Mode = "cached",
    budget: Budget | None = None,
    seconds: Seconds = lambda spec: 0.0,
    titles: Mapping[str, str] = MappingProxyType({}),
    settled: Settled = lambda run_id: None,
) -> dict[str, Stored]:
    """Stored results by run id, computing what is missing in the order of `specs`, parents first.

    Files of a result are read when somebody asks for them. Where one then turns out to be damaged, the run is set aside and computed again;
    in mode 'read-only' a DamagedError is raised.

    Args:
        executor: 'inline' computes in this process, run after run; 'local' in child processes, several at once (see `Place`).
        mode: 'cached' computes what is missing; 'retry' also what failed before; 'force' computes all anew;
            'read-only' computes nothing, and what is missing is missing from the answer.
        budget: time to compute in; see `vitlib.runs.clock.budget`.
        seconds: that a run takes, by an estimate, which a budget needs.
        titles: of runs by id, in words, for progress and failures; a run without one is named by its id.
        settled: is told the id of each run that was computed or failed, once it is stored or recorded.

    Raises:
        SpecError: for an unknown executor or mode, a mode that has no use for a budget, or data that cannot be read, before anything is
            computed.
        RunsFailedError: at the end, naming each failed run and its reason.
        TimeIsUpError: where the budget did not suffice; it names failed runs too.
        StoppedError: where someone interrupted it.
    """
    require("executor", executor, get_args(Executor))
    require("mode", mode, get_args(Mode))
    specs = list(specs)
    wanted = {spec.id: spec for spec in specs}
    if distributed.launched() > 1 and executor != "inline":
        raise SpecError(f"executor: got {executor!r} in processes that torchrun started; allowed: inline")
    if budget:
        require_use_of_budget(mode)
    if mode != "read-only" and not distributed.leads():
        _follow(place)
        mode = "read-only"
    store = Store(place.results_dir, writable=mode != "read-only")
    plan = make_plan(specs, store, mode)
    plan.titles = titles
    if mode == "read-only":
        return otherwise(plan.stored, shown_as_missing)
    store.sweep()
    preflight(plan.pending.values(), place.data_dir, store.root / RECORDED)
    if budget is None:
        budget, seconds, plan.pending = Budget(), lambda spec: 0.0, plan.timed_last()
    turns = Turns(plan, store, budget, seconds)
    place = replace(place, deadline=budget.deadline)
    if distributed.launched() > 1:
        with distributed.team(device_of(place.device)):
            _compute(plan, store, place, executor, turns, settled)
    elif budget.over:
        plan.left = dict(plan.pending)
        plan.fail_children(plan.left)
    elif plan.pending:
        require_device(place.device, executor)
        _compute(plan, store, place, executor, turns, settled)
    if plan.left:
        raise _time_is_up(plan, store, Turns(plan, store, budget, seconds))  # by what was interrupted meanwhile
    if plan.failed:
        raise RunsFailedError(_failure_report(plan))
    found = plan.stored | {run_id: store.open(run_id) for run_id in wanted.keys() - plan.stored.keys()}
    if distributed.launched() > 1:
        return found
    return otherwise(found, computed_again(store, wanted, lambda spec: execute([spec], place, executor=executor, titles=titles)[spec.id]))


def require_use_of_budget(mode: Mode) -> None:
    """Refuse a budget where it means nothing: calling again goes on in two modes alone, and a divided run ends for all or none."""
    if distributed.launched() > 1:
        raise SpecError("budget: got one in processes that torchrun started; allowed: none")
    if mode == "read-only":
        raise SpecError("budget: got one with mode='read-only', which computes nothing; allowed: mode='cached' or 'retry'")
    if mode == "force":
        raise SpecError("budget: got one with mode='force', which begins anew in every call; allowed: mode='cached' or 'retry'")


def _follow(place: Place) -> None:
    """The part of a process that torchrun started beside the leader: its share of the runs that the leader divides."""
    device, store = device_of(place.device), Store(place.results_dir, writable=False)

    def compute(spec: RunSpec) -> None:
        with one_thread(device):
            result_of(spec, Context(device, place.data_dir, store.scratch(spec.id), lambda parent: store.open(parent.id)))

    with distributed.team(device):
        distributed.follow(compute)


def _compute(plan: Plan, store: Store, place: Place, executor: Executor, turns: Turns, settled: Settled) -> None:
    progress = Progress(len(plan.pending), plan.titles, settled)
    forced = {run_id for run_id in plan.pending if run_id in store}
    try:
        with asking(store, plan.asked):
            if executor == "inline":
                _run_inline(plan, store, place, progress, forced, turns)
            else:
                run_in_workers(plan, store, place, progress, forced, turns)
    except KeyboardInterrupt:
        _keep_left(plan, store, forced)
        raise StoppedError(_stored(plan), len(plan.left)) from None
    finally:
        progress.close()
    _keep_left(plan, store, forced)


def _keep_left(plan: Plan, store: Store, forced: set[str]) -> None:
    """Without what is stored meanwhile, by another process or at the last moment."""
    plan.left = {run_id: spec for run_id, spec in plan.left.items() if run_id in forced or run_id not in store}


def _run_inline(plan: Plan, store: Store, place: Place, progress: Progress, forced: set[str], turns: Turns) -> None:
    """Run after run; one that another process holds is passed over, with its children, and looked at again when nothing else is to do."""
    waiting, held = dict(plan.pending), set()
    plan.left = waiting
    while waiting:
        for child in plan.fail_children(waiting):
            progress.finished(child)
        ready = (run_id for run_id in waiting if run_id not in held and waiting.keys().isdisjoint(plan.parents[run_id]))
        run_id = turns.next(ready, waiting)
        if run_id is None and held and turns.budget.left > 0:
            held.clear()
            time.sleep(0.2)
        elif run_id is None:
            break
        elif (outcome := _outcome(run_id, plan, store, place, progress, run_id in forced, turns)) == "held":
            held.add(run_id)
        elif outcome != "interrupted":
            del waiting[run_id]
            progress.finished(run_id)


def _outcome(run_id: str, plan: Plan, store: Store, place: Place, progress: Progress, again: bool, turns: Turns) -> str:
    """As `compute_one` tells it; 'failed', with the reason in the plan, where it raises."""
    try:
        outcome = compute_one(plan.pending[run_id], store, place, lambda *a: progress.tick(run_id, *a), again=again)
    except Exception as error:
        if distributed.launched() > 1:
            raise  # the other processes are in the middle of the run: torchrun ends them with this one
        log.debug("%s", traceback.format_exc())
        plan.failed[run_id] = f"{type(error).__name__}: {error}"
        return "failed"
    if outcome.what == "stored":
        turns.took(run_id, outcome.seconds)
    return outcome.what


def _time_is_up(plan: Plan, store: Store, turns: Turns) -> TimeIsUpError:
    """What remains, in a line; below it what failed."""
    said = [f"time is up: {_stored(plan)} run(s) stored, {len(plan.left)} left"]
    said += [f"{run_id} is at {share:.0%} and goes on from there" for run_id in plan.left if (share := noted(store, run_id, REACHED))]
    said += turns.remarks(plan.left)
    failed = f"\n{_failure_report(plan)}" if plan.failed else ""
    return TimeIsUpError("; ".join(said) + failed, plan.left, sum(map(turns.seconds, plan.left)), plan.failed)


def _failure_report(plan: Plan) -> str:
    lines = [f"  {run_id}{_in_words(plan, run_id)}: {reason}" for run_id, reason in plan.failed.items()]
    return f"{len(lines)} run(s) failed, {_stored(plan)} are stored:\n" + "\n".join(lines)


def _in_words(plan: Plan, run_id: str) -> str:
    return f" ({plan.titles[run_id]})" if run_id in plan.titles else ""


def _stored(plan: Plan) -> int:
    return len(plan.stored.keys() | plan.pending.keys() - plan.failed.keys() - plan.left.keys())
