"""Compute the missing runs of a study, parents first, in this process, in local workers or on a cluster.

`execute` walks up from what is asked, stops at what is stored, and runs the rest. Resuming is running again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import get_args

from vitlib import distributed
from vitlib.computing import Context, OutOfTimeError, result_of
from vitlib.runs.claims.asking import asking
from vitlib.runs.clock import notice
from vitlib.runs.clock.budget import REACHED, Budget, Seconds, Turns, noted
from vitlib.runs.clock.progress import Progress, Settled
from vitlib.runs.executors import protocol
from vitlib.runs.executors.driver import drive
from vitlib.runs.executors.protocol import Job, Memory
from vitlib.runs.plan import Executor, Mode, Place, Plan, make_plan
from vitlib.runs.preflight import RECORDED, preflight
from vitlib.runs.reading.damage import computed_again, opened, otherwise, shown_as_missing
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.runs.workers.one import device_of, one_thread
from vitlib.spec import RunSpec, SpecError, require


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
    memory: Memory = lambda spec: 0.0,
    titles: Mapping[str, str] = MappingProxyType({}),
    settled: Settled = lambda run_id: None,
    before_timed: Callable[[], None] = lambda: None,
) -> dict[str, Stored]:
    """Stored results by run id, computing what is missing in the order of `specs`, parents first.

    Files of a result are read when somebody asks for them. Where one then turns out to be damaged, the run is set aside and computed again;
    in mode 'read-only' a DamagedError is raised.

    Args:
        executor: 'inline' computes in this process, run after run; 'local' in child processes, several at once (see `Place`); 'ray' on the
            nodes of a Ray cluster, or of one that is started here.
        mode: 'cached' computes what is missing; 'retry' also what failed before; 'force' computes all anew;
            'read-only' computes nothing, and what is missing is missing from the answer.
        budget: time to compute in; see `vitlib.runs.clock.budget`.
        seconds: that a run takes, by an estimate, which a budget needs.
        memory: bytes that a run holds on its device, by an estimate, of which executor 'ray' asks for a share of a node.
        titles: of runs by id, in words, for progress and failures; a run without one is named by its id.
        settled: is told the id of each run that was computed or failed, once it is stored or recorded.
        before_timed: called before each run that measures time, which come last without a budget.

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
    estimate = seconds
    if budget is None:
        budget, estimate, plan.pending = Budget(), lambda spec: 0.0, plan.timed_last()
    turns = Turns(plan, store, budget, estimate)
    place = replace(place, deadline=budget.deadline)
    job = partial(_compute, plan, store, place, executor, turns, memory, settled, before_timed)
    if distributed.launched() > 1:
        try:
            with distributed.team(device_of(place.device)):
                job()
        except OutOfTimeError:
            pass  # notice was given, and `plan.left` says what is left
    elif budget.over:
        plan.left = dict(plan.pending)
        plan.fail_children(plan.left)
    elif plan.pending:
        job()
    if plan.left:
        raise _time_is_up(plan, store, Turns(plan, store, budget, seconds))  # by what was interrupted meanwhile
    if plan.failed:
        raise RunsFailedError(_failure_report(plan))
    fresh = wanted.keys() - plan.stored.keys()
    if distributed.launched() > 1:
        return plan.stored | {run_id: store.open(run_id) for run_id in fresh}
    again = computed_again(store, wanted, lambda spec: execute([spec], place, executor=executor, titles=titles)[spec.id])
    return otherwise(plan.stored | {run_id: opened(store, run_id, again) for run_id in fresh}, again)


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
            result_of(spec, Context(device, place.data_dir, store.scratch(spec.id), lambda parent: store.open(parent.id, parent)))

    with distributed.team(device):
        distributed.follow(compute)


def _compute(
    plan: Plan,
    store: Store,
    place: Place,
    executor: Executor,
    turns: Turns,
    memory: Memory,
    settled: Settled,
    before_timed: Callable[[], None],
) -> None:
    progress = Progress(len(plan.pending), plan.titles, settled)
    job = Job(plan, store, place, plan.again, progress.tick, memory, before_timed)
    plan.left = dict(plan.pending)
    try:
        with asking(store, plan.asked), protocol.opened(executor, job) as pool:
            drive(job, pool, turns, progress)
    except KeyboardInterrupt:
        _keep_left(job)
        raise StoppedError(_stored(plan), len(plan.left)) from None
    finally:
        progress.close()
    _keep_left(job)


def _keep_left(job: Job) -> None:
    """Without what is stored meanwhile, by another process or at the last moment."""
    left = job.plan.left.items()
    job.plan.left = {run_id: spec for run_id, spec in left if run_id in job.forced or run_id not in job.store}


def _time_is_up(plan: Plan, store: Store, turns: Turns) -> TimeIsUpError:
    """What remains, in a line; below it what failed."""
    said = [f"{'told to end' if notice.given() else 'time is up'}: {_stored(plan)} run(s) stored, {len(plan.left)} left"]
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
