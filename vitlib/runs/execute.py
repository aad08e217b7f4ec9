"""Compute the missing runs of a study, parents first, in this process or in local workers.

`execute` walks up from what is asked, stops at what is stored, and runs the rest. Resuming is running again.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable
from typing import get_args

from vitlib import distributed
from vitlib.computing import Context, result_of
from vitlib.runs.plan import Executor, Mode, Place, Plan, make_plan
from vitlib.runs.preflight import RECORDED, preflight, require_device
from vitlib.runs.store import Store, Stored
from vitlib.runs.workers.local import run_in_workers
from vitlib.runs.workers.one import compute_one, device_of, one_thread
from vitlib.runs.workers.progress import Progress
from vitlib.spec import RunSpec, SpecError, require

log = logging.getLogger("vitlib")


class RunsFailedError(RuntimeError):
    """Some runs could not be computed; everything else was, and is stored."""


def execute(specs: Iterable[RunSpec], place: Place, *, executor: Executor = "inline", mode: Mode = "cached") -> dict[str, Stored]:
    """Stored results by run id, computing what is missing.

    Args:
        executor: 'inline' computes in this process, run after run; 'local' in child processes, several at once (see `Place`).
        mode: 'cached' computes what is missing; 'retry' also what failed before; 'force' computes all anew;
            'read-only' computes nothing, and what is missing is missing from the answer.

    Raises:
        SpecError: for an unknown executor or mode, or data that cannot be read, before anything is computed.
        RunsFailedError: at the end, naming each failed run and its reason.
    """
    require("executor", executor, get_args(Executor))
    require("mode", mode, get_args(Mode))
    specs = list(specs)
    if distributed.launched() > 1 and executor != "inline":
        raise SpecError(f"executor: got {executor!r} in processes that torchrun started; allowed: inline")
    if mode != "read-only" and not distributed.leads():
        _follow(place)
        mode = "read-only"
    store = Store(place.results_dir, writable=mode != "read-only")
    plan = make_plan(specs, store, mode)
    if mode == "read-only":
        return plan.stored
    store.sweep()
    preflight(plan.pending.values(), place.data_dir, store.root / RECORDED)
    if distributed.launched() > 1:
        with distributed.team(device_of(place.device)):
            _compute(plan, store, place, executor)
    elif plan.pending:
        require_device(place.device, executor)
        _compute(plan, store, place, executor)
    if plan.failed:
        raise RunsFailedError(_failure_report(plan))
    wanted = {spec.id for spec in specs}
    return plan.stored | {run_id: store.read(run_id) for run_id in wanted - plan.stored.keys()}


def _follow(place: Place) -> None:
    """The part of a process that torchrun started beside the leader: its share of the runs that the leader divides."""
    device, store = device_of(place.device), Store(place.results_dir, writable=False)

    def compute(spec: RunSpec) -> None:
        with one_thread(device):
            result_of(spec, Context(device, place.data_dir, store.scratch(spec.id), lambda parent: store.read(parent.id)))

    with distributed.team(device):
        distributed.follow(compute)


def _compute(plan: Plan, store: Store, place: Place, executor: Executor) -> None:
    progress = Progress(len(plan.pending))
    forced = {run_id for run_id in plan.pending if run_id in store}
    try:
        if executor == "inline":
            _run_inline(plan, store, place, progress, forced)
        else:
            run_in_workers(plan, store, place, progress, forced)
    finally:
        progress.close()


def _run_inline(plan: Plan, store: Store, place: Place, progress: Progress, forced: set[str]) -> None:
    """Run after run; one that another process holds is passed over, with its children, and looked at again later."""
    waiting = plan.in_order()
    while waiting:
        before = len(waiting)
        for run_id, spec in list(waiting.items()):
            if waiting.keys() & {parent.id for parent in spec.parents()}:
                continue
            if _settled(spec, plan, store, place, progress, again=run_id in forced):
                del waiting[run_id]
                progress.finished(run_id)
        if len(waiting) == before:
            time.sleep(0.2)


def _settled(spec: RunSpec, plan: Plan, store: Store, place: Place, progress: Progress, again: bool) -> bool:
    """Whether the run is now stored or has failed; False while another process holds it."""
    if reason := plan.failed_parent(spec):
        plan.failed[spec.id] = reason
        return True
    try:
        return compute_one(spec, store, place, lambda *a: progress.tick(spec.id, *a), again=again) == "stored"
    except Exception as error:
        if distributed.launched() > 1:
            raise  # the other processes are in the middle of the run: torchrun ends them with this one
        log.debug("%s", traceback.format_exc())
        plan.failed[spec.id] = f"{type(error).__name__}: {error}"
        return True


def _failure_report(plan: Plan) -> str:
    lines = [f"  {run_id}: {reason}" for run_id, reason in plan.failed.items()]
    stored = plan.stored.keys() | plan.pending.keys() - plan.failed.keys()
    return f"{len(lines)} run(s) failed, {len(stored)} are stored:\n" + "\n".join(lines)
