"""Local workers: some child processes a GPU, or one a core without, so that no kernel holds memory of a finished run.

The driver hands out runs whose parents are stored, as JSON lines on a worker's standard input; the worker answers on its
standard output. A worker that dies gives its run to a fresh one, once.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vitlib.runs.clock import notice
from vitlib.runs.clock.budget import GRACE, IN_VAIN, Turns, note
from vitlib.runs.clock.progress import Progress
from vitlib.runs.plan import Place, Plan
from vitlib.runs.store import Store
from vitlib.runs.workers.mps import side_by_side
from vitlib.runs.workers.slots import Slot, slots
from vitlib.spec import RunSpec, dump

TRIES = 2
LEAVING = 10.0  # seconds that a worker has to leave at the end of its input before it is killed
WORKER = ("-m", "vitlib.runs.workers.worker")


@dataclass
class _Worker:
    process: subprocess.Popen
    run_id: str | None = None
    began: float = 0.0
    told: bool = False


def run_in_workers(plan: Plan, store: Store, place: Place, progress: Progress, forced: set[str], turns: Turns) -> None:
    """Compute `plan.pending`; reasons of failures go into `plan.failed`, what time did not suffice for into `plan.left`."""
    with side_by_side(slots(place.device, place.slots_per_gpu)[: len(plan.pending)]) as places:
        driver = _Driver(plan, store, place, progress, forced, turns, places)
        try:
            driver.run()
        finally:
            driver.stop()


class _Driver:
    def __init__(self, plan: Plan, store: Store, place: Place, progress: Progress, forced: set[str], turns: Turns, places: list[Slot]):
        self.plan, self.store, self.place, self.progress, self.forced, self.turns = plan, store, place, progress, forced, turns
        self.waiting = dict(plan.pending)
        self.done: set[str] = set()
        self.tries: dict[str, int] = {}
        self.selector = selectors.DefaultSelector()
        self.places = places
        self.workers = [self._start(slot) for slot in places]

    def run(self) -> None:
        try:
            while self.waiting or any(worker.run_id for worker in self.workers):
                for worker in self.workers:
                    if worker.run_id is None and (spec := self._next()):
                        self._hand_out(worker, spec)
                if notice.given():
                    self._pass_on()
                if self.turns.budget.left < -GRACE:
                    self._give_up()
                if not any(worker.run_id for worker in self.workers):
                    break
                for key, _ in self.selector.select(timeout=0.2):
                    self._listen(key.data)
        finally:
            self.plan.left = {run_id: spec for run_id, spec in self.plan.pending.items() if run_id not in self.done}

    def stop(self) -> None:
        for worker in self.workers:
            worker.process.stdin.close()  # the worker leaves at the end of its input, in the middle of a run too
            try:
                worker.process.wait(timeout=LEAVING)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.process.stdout.close()
        self.selector.close()

    def _pass_on(self) -> None:
        """Tell each worker once that it is to end."""
        for worker in self.workers:
            if not worker.told:
                worker.told = True
                self._say(worker, notice.WORD)

    def _give_up(self) -> None:
        """Take back the runs that did not end in the grace after the deadline; what kept no checkpoint meanwhile was in vain."""
        for worker in self.workers:
            if run_id := worker.run_id:
                checkpoint = self.store.scratch(run_id) / "checkpoint.pt"
                taken = time.monotonic() - worker.began
                if not (checkpoint.exists() and time.time() - checkpoint.stat().st_mtime < taken):
                    note(self.store, run_id, IN_VAIN, taken)
                self.waiting[run_id], worker.run_id = self.plan.pending[run_id], None

    def _next(self) -> RunSpec | None:
        """A run whose parents are stored, if there is time for one."""
        for child in self.plan.fail_children(self.waiting):
            self._settle(child, self.plan.failed[child])
        run_id = self.turns.next(self._ready(), self.waiting)
        return self.waiting.pop(run_id) if run_id else None

    def _ready(self) -> Iterator[str]:
        """In the plan's order."""
        for run_id in self.plan.pending:
            if run_id in self.waiting and all(p not in self.plan.pending or p in self.done for p in self.plan.parents[run_id]):
                yield run_id

    def _hand_out(self, worker: _Worker, spec: RunSpec) -> None:
        worker.run_id, worker.began = spec.id, time.monotonic()
        self.tries[spec.id] = self.tries.get(spec.id, 0) + 1
        order = {"spec": dump(spec), "again": spec.id in self.forced}
        self._say(worker, json.dumps(order) + "\n")

    def _say(self, worker: _Worker, line: str) -> None:
        try:
            worker.process.stdin.write(line.encode())
            worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died between two runs; its closed output is seen by `_listen`

    def _listen(self, worker: _Worker) -> None:
        line = worker.process.stdout.readline()
        if not line:
            self._replace(worker)
            return
        said = json.loads(line)
        if "tick" in said:
            self.progress.tick(worker.run_id, *said["tick"])
            return
        run_id, worker.run_id = worker.run_id, None
        if said["outcome"] in ("held", "interrupted"):
            self.tries[run_id] -= 1
            self.waiting[run_id] = self.plan.pending[run_id]
            time.sleep(0.2)
            return
        if said["outcome"] == "stored":
            self.turns.took(run_id, said["seconds"])
        self._settle(run_id, said.get("reason"))

    def _settle(self, run_id: str, reason: str | None) -> None:
        self.waiting.pop(run_id, None)
        self.done.add(run_id)
        if reason:
            self.plan.failed[run_id] = reason
        self.progress.finished(run_id)

    def _replace(self, worker: _Worker) -> None:
        """A worker's output ended: it was killed. Its run gets a fresh worker, or is given up."""
        code = worker.process.wait()
        run_id = worker.run_id
        self.selector.unregister(worker.process.stdout)
        worker.process.stdout.close()
        worker.process.stdin.close()
        slot = self.workers.index(worker)
        self.workers[slot] = self._start(self.places[slot])
        if run_id and self.tries[run_id] < TRIES:
            self.waiting[run_id] = self.plan.pending[run_id]
        elif run_id:
            why = "killed, for want of memory as a rule" if code == -9 else f"exit status {code}"
            reason = f"its worker died {TRIES} times ({why})"
            self.store.record_failure(run_id, reason)
            self._settle(run_id, reason)

    def _start(self, slot: Slot) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, *WORKER, self.place.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | slot,
            process_group=0,  # Ctrl-C and a notebook's stop button interrupt the driver alone, which ends its workers
            bufsize=0,  # lines kept in a buffer here would be invisible to the selector
        )
        worker = _Worker(process)
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker
