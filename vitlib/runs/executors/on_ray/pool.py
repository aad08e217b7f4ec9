"""Executor 'ray': a task a run, on a node with room for it. Only the driver reads and writes the store.

A run goes to its descendants as files, put once into Ray's object store and fetched by the nodes that need it; what a task made comes
back as files, which the driver installs. Ray itself repeats nothing: a run whose worker or node died is handed out again by our driver.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from vitlib.dumped import dump
from vitlib.runs.executors.on_ray.board import Board
from vitlib.runs.executors.on_ray.connection import connected, told
from vitlib.runs.executors.on_ray.nodes import Needs, Nodes
from vitlib.runs.executors.on_ray.task import Order, Report, compute, put, taken
from vitlib.runs.executors.on_ray.versions import versions
from vitlib.runs.executors.protocol import Ended, Job, Lost
from vitlib.runs.manifest import StoreError
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

LEAVING = 10.0  # seconds that tasks have to be gone at the end
KEPT = 64  # parents in Ray's object store
FAREST = 1e9  # seconds, a deadline that is none
log = logging.getLogger("vitlib")


@contextmanager
def opened(job: Job) -> Iterator[Tasks]:
    """See `vitlib.runs.executors.protocol.opened`."""
    with connected() as ray:
        tasks = Tasks(ray, job)
        try:
            yield tasks
        finally:
            tasks.stop()


class Tasks:
    """A pool with as many runs under way as the nodes have room for.

    Raises:
        SpecError: for nodes with other versions or without the runs' data, and for runs that no node can bear.
    """

    tries = 4  # nodes of a cloud come and go

    def __init__(self, ray: Any, job: Job):
        self.ray, self.job = ray, job
        self.nodes = Nodes(ray, job)
        self.board = Board(ray, job)
        self.ancestors = Ancestors(ray, job.store)
        self.task = ray.remote(compute)
        self.flying: dict[Any, str] = {}
        self.asked: dict[str, Needs] = {}
        self.claims: dict[str, ExitStack] = {}
        self.said: list[Ended | Lost] = []
        self.warned: set[str] = set()

    def has_room(self) -> bool:
        """One more may wait for its place than there is room for; who waits for a node alone comes first."""
        if any(needs.node and run_id not in self.board.begun for run_id, needs in self.asked.items()):
            return False
        return not self.asked or self.nodes.have_room(self.asked.values())

    def submit(self, spec: RunSpec) -> None:
        claim = ExitStack()
        if refused := self._refused(spec, claim):
            claim.close()
            self.said.append(refused)
        else:
            self.claims[spec.id] = claim

    def _refused(self, spec: RunSpec, claim: ExitStack) -> Ended | None:
        """Hand the run to a node, unless something speaks against it."""
        mine = claim.enter_context(self.job.store.claim(spec.id))
        if not mine or (spec.id in self.job.store and spec.id not in self.job.forced):
            return Ended(spec.id, "found" if mine else "held")
        needs = self.nodes.needs(spec)
        if needs is None:
            self._warn(spec.id)
            return Ended(spec.id, "held")
        try:
            task = self._begin(spec, needs)
        except (StoreError, KeyError):  # of a parent that was damaged or taken away meanwhile
            return Ended(spec.id, "orphaned")
        except OSError as error:
            return Ended(spec.id, "failed", reason=told(error))
        self.asked[spec.id], self.flying[task] = needs, spec.id
        return None

    def _warn(self, run_id: str) -> None:
        if run_id not in self.warned:
            log.warning("%s waits: the nodes that could compute it are gone", run_id)
            self.warned.add(run_id)

    def wait(self, timeout: float) -> Iterator[Ended | Lost]:
        self.board.look(self.asked)
        said, self.said = self.said, []
        if self.flying:
            self.ray.wait(list(self.flying), timeout=0 if said else timeout)
            ended, _ = self.ray.wait(list(self.flying), num_returns=len(self.flying), timeout=0)
            said += [self._ended(task) for task in ended]
        yield from said

    def cancel(self, run_id: str) -> None:
        task = next(task for task, flying in self.flying.items() if flying == run_id)
        self.ray.cancel(task, force=True)
        self._release(task)

    def stop(self) -> None:
        """End what is under way, and wait for its end, so that no worker computes any more."""
        under_way = list(self.flying)
        for task in under_way:
            self.ray.cancel(task, force=True)
        if under_way:
            self.ray.wait(under_way, num_returns=len(under_way), timeout=LEAVING)
        for task in under_way:
            self._release(task)

    def _begin(self, spec: RunSpec, needs: Needs) -> Any:
        job = self.job
        order = Order(
            spec=dump(spec),
            place=replace(job.place, device=self.nodes.device),
            until=time.time() + min(job.place.deadline - time.monotonic(), FAREST),
            key=hashlib.sha256(f"{platform.node()}{job.store.root}".encode()).hexdigest()[:12],
            versions=versions(),
        )
        how = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory or None, "max_retries": 0}
        if needs.node:
            how["scheduling_strategy"] = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(needs.node, soft=False)
        scratch = taken(job.store.scratch(spec.id))
        return self.task.options(**how).remote(order, self.board.actor, scratch, self.ancestors.of(spec))

    def _ended(self, task: Any) -> Ended | Lost:
        run_id = self.flying[task]
        try:
            return self._received(run_id, self.ray.get(task))
        except self.ray.exceptions.RayTaskError as error:
            return Ended(run_id, "failed", reason=told(error))
        except self.ray.exceptions.RayError as error:
            return Lost(run_id, told(error))
        except (OSError, StoreError) as error:
            return Ended(run_id, "failed", reason=told(error))
        finally:
            self._release(task)

    def _received(self, run_id: str, report: Report) -> Ended:
        store = self.job.store
        for failed, (reason, trace) in report.failures.items():
            store.record_failure(failed, reason, trace)
        if report.scratch:
            put(store.scratch(run_id), report.scratch)
        if report.outcome == "stored":
            store.install(run_id, report.files)
            self.ancestors.forget(run_id)
            store.clear_scratch(run_id)
            store.forget_failure(run_id)
        return Ended(run_id, report.outcome, report.seconds, report.reason)

    def _release(self, task: Any) -> None:
        run_id = self.flying.pop(task)
        del self.asked[run_id]
        self.board.begun.discard(run_id)
        self.claims.pop(run_id).close()


class Ancestors:
    """Files of stored runs in Ray's object store: put there once, and while they are among the latest that were asked for."""

    def __init__(self, ray: Any, store: Store):
        self._ray, self._store = ray, store
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def of(self, spec: RunSpec) -> dict[str, Any]:
        """References by id, to all that are stored: some runs read what their parents started from. A damaged one raises a DamagedError."""
        return {run.id: self._files(run.id) for run in spec.family() if run.id != spec.id and run.id in self._store}

    def forget(self, run_id: str) -> None:
        """Of a run that was computed anew."""
        self._kept.pop(run_id, None)

    def _files(self, run_id: str) -> Any:
        if run_id not in self._kept:
            self._kept[run_id] = self._ray.put(self._store.files(run_id))
        self._kept.move_to_end(run_id)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[run_id]
