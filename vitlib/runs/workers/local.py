"""Executor 'local': some child processes a GPU, or one a core without, so that no kernel holds memory of a finished run.

Runs go as JSON lines to a worker's standard input; the worker answers on its standard output. One that dies is replaced.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vitlib.dumped import dump
from vitlib.runs.clock import notice
from vitlib.runs.executors.protocol import Ended, Job, Lost
from vitlib.runs.preflight import require_device
from vitlib.runs.workers.mps import side_by_side
from vitlib.runs.workers.slots import Slot, slots
from vitlib.spec import RunSpec, SpecError

LEAVING = 10.0  # seconds that a worker has to leave at the end of its input before it is killed
WORKER = ("-m", "vitlib.runs.workers.worker")


@contextmanager
def opened(job: Job) -> Iterator[Workers]:
    """See `vitlib.runs.executors.protocol.opened`."""
    _require_device(job.place.device)
    with side_by_side(slots(job.place.device, job.place.slots_per_gpu)[: len(job.plan.pending)]) as places:
        workers = Workers(job, places)
        try:
            yield workers
        finally:
            workers.stop()


@dataclass
class _Worker:
    process: subprocess.Popen
    run_id: str | None = None
    told: bool = False


class Workers:
    """A pool with a process for each slot."""

    tries = 2

    def __init__(self, job: Job, places: list[Slot]):
        self.job, self.places = job, places
        self.selector = selectors.DefaultSelector()
        self.workers = [self._start(slot) for slot in places]
        self.leaving: list[_Worker] = []

    def has_room(self) -> bool:
        return self._idle() is not None

    def submit(self, spec: RunSpec) -> None:
        self._hand_out(self._idle(), spec)

    def wait(self, timeout: float) -> Iterator[Ended | Lost]:
        if notice.given():
            self._pass_on()
        for key, _ in self.selector.select(timeout):
            yield from self._listen(key.data)

    def cancel(self, run_id: str) -> None:
        """Its worker leaves in the middle of it; nothing takes its place, since nothing begins after the deadline."""
        worker = next(worker for worker in self.workers if worker.run_id == run_id)
        self.selector.unregister(worker.process.stdout)
        self.workers.remove(worker)
        self.leaving.append(worker)
        worker.process.stdin.close()

    def stop(self) -> None:
        for worker in (*self.workers, *self.leaving):
            worker.process.stdin.close()  # the worker leaves at the end of its input, in the middle of a run too
        for worker in (*self.workers, *self.leaving):
            _end(worker.process)
        self.selector.close()

    def _idle(self) -> _Worker | None:
        return next((worker for worker in self.workers if worker.run_id is None), None)

    def _pass_on(self) -> None:
        """Tell each worker once that it is to end."""
        for worker in self.workers:
            if not worker.told:
                worker.told = True
                self._say(worker, notice.WORD)

    def _hand_out(self, worker: _Worker, spec: RunSpec) -> None:
        worker.run_id = spec.id
        order = {"spec": dump(spec), "again": spec.id in self.job.forced}
        self._say(worker, json.dumps(order) + "\n")

    def _say(self, worker: _Worker, line: str) -> None:
        try:
            worker.process.stdin.write(line.encode())
            worker.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died between two runs; its closed output is seen by `_listen`

    def _listen(self, worker: _Worker) -> Iterator[Ended | Lost]:
        line = worker.process.stdout.readline()
        if not line:
            yield from self._replace(worker)
            return
        said = json.loads(line)
        if "tick" in said:
            self.job.tick(worker.run_id, *said["tick"])
            return
        run_id, worker.run_id = worker.run_id, None
        yield Ended(run_id, said["outcome"], said.get("seconds", 0.0), said.get("reason", ""))

    def _replace(self, worker: _Worker) -> Iterator[Lost]:
        """A worker's output ended: it was killed."""
        code = worker.process.wait()
        self.selector.unregister(worker.process.stdout)
        worker.process.stdin.close()
        _end(worker.process)
        slot = self.workers.index(worker)
        self.workers[slot] = self._start(self.places[slot])
        if worker.run_id:
            yield Lost(worker.run_id, _in_words(code))

    def _start(self, slot: Slot) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, *WORKER, self.job.place.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | slot,
            process_group=0,  # Ctrl-C and a notebook's stop button interrupt the driver alone, which ends its workers
            bufsize=0,  # lines kept in a buffer here would be invisible to the selector
        )
        worker = _Worker(process)
        self.selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(timeout=LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _in_words(code: int) -> str:
    """Of an exit status, why a worker ended; libraries crash where they are given no memory."""
    if code == -signal.SIGKILL:
        return "killed, for want of memory as a rule"
    return f"{signal.Signals(-code).name}: a library crashed, perhaps for want of memory" if code < 0 else f"exit status {code}"


def _require_device(device: str) -> None:
    """Refuse a GPU by number, where each worker sees its own alone, and one that is not there."""
    if device.startswith("cuda:"):
        raise SpecError(f"device: got {device!r} with executor='local', one worker a GPU; allowed: auto, cuda, or executor='inline'")
    require_device(device)
