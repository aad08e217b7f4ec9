"""The driver: which run is handed out next, what becomes of those that come back, die or come too late.

It knows a pool by its protocol alone, so that all executors have the same tries, the same budget, and the same failures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from vitlib.runs.clock.budget import GRACE, IN_VAIN, Turns, note
from vitlib.runs.clock.progress import Progress
from vitlib.runs.executors.protocol import Ended, Job, Lost, Pool
from vitlib.runs.plan import make_plan

PAUSE = 0.2  # seconds from one look at a run that another process holds to the next
ORPHANED = 3  # times that what a run starts from is computed again for it


def drive(job: Job, pool: Pool, turns: Turns, progress: Progress) -> None:
    """Compute `plan.pending`; reasons of failures go into `plan.failed`, what time did not suffice for into `plan.left`."""
    _Driver(job, pool, turns, progress).run()


class _Driver:
    def __init__(self, job: Job, pool: Pool, turns: Turns, progress: Progress):
        self.plan, self.store, self.pool, self.turns, self.progress = job.plan, job.store, pool, turns, progress
        self.before_timed = job.before_timed
        self.waiting = dict(self.plan.pending)
        self.under_way: dict[str, float] = {}  # since when
        self.checkpoints: dict[str, tuple[int, ...]] = {}  # of those: the file that they went on from
        self.held: dict[str, float] = {}  # until when nobody asks again
        self.done: set[str] = set()
        self.tries: Counter[str] = Counter()
        self.orphaned: Counter[str] = Counter()

    def run(self) -> None:
        try:
            while self.waiting or self.under_way:
                self._hand_out()
                self._give_up()
                if self.under_way:
                    for said in self.pool.wait(PAUSE):
                        self._hear(said)
                elif self.held and self.turns.budget.left > 0:
                    time.sleep(PAUSE)
                else:
                    break
        finally:
            self.plan.left = {run_id: spec for run_id, spec in self.plan.pending.items() if run_id not in self.done}

    def _hand_out(self) -> None:
        while self.pool.has_room() and (run_id := self._next()):
            if self.waiting[run_id].timed:
                self.before_timed()
            self.held.pop(run_id, None)
            self.under_way[run_id] = time.monotonic()
            self.checkpoints[run_id] = self._checkpoint(run_id)
            self.tries[run_id] += 1
            self.pool.submit(self.waiting.pop(run_id))

    def _next(self) -> str | None:
        """A run whose parents are stored, if there is time for one."""
        for child in self.plan.fail_children(self.waiting):
            self._settle(child, self.plan.failed[child])
        return self.turns.next(self._ready(), self.waiting)

    def _ready(self) -> Iterator[str]:
        """In the plan's order; those that another process held, last and not at once."""
        for run_id in self.plan.pending:
            if run_id in self.waiting and run_id not in self.held and self._has_parents(run_id):
                yield run_id
        now = time.monotonic()
        yield from (run_id for run_id, until in self.held.items() if until <= now)

    def _has_parents(self, run_id: str) -> bool:
        return all(parent not in self.plan.pending or parent in self.done for parent in self.plan.parents[run_id])

    def _give_up(self) -> None:
        """Take back the runs that did not end in the grace after the deadline; what kept no checkpoint meanwhile was in vain."""
        late = -self.turns.budget.left
        for run_id, began in list(self.under_way.items()):
            taken = time.monotonic() - began
            if min(late, taken) > GRACE:
                self.pool.cancel(run_id)
                if self._checkpoint(run_id) in ((), self.checkpoints[run_id]):
                    note(self.store, run_id, IN_VAIN, taken)
                self._take_back(run_id)

    def _checkpoint(self, run_id: str) -> tuple[int, ...]:
        """Which file it is: the clocks of this machine and of its disk may differ."""
        try:
            stat = (self.store.scratch(run_id) / "checkpoint.pt").stat()
        except OSError:
            return ()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _hear(self, said: Ended | Lost) -> None:
        match said:
            case Ended(run_id, "held" | "interrupted"):
                self.tries[run_id] -= 1
                self._take_back(run_id)
                self.held[run_id] = time.monotonic() + PAUSE
            case Ended(run_id, "orphaned") if self.orphaned[run_id] >= ORPHANED:
                self._settle(run_id, f"what it starts from was damaged or removed {ORPHANED + 1} times before it could be read")
            case Ended(run_id, "orphaned"):
                self._adopt(run_id)
            case Ended(run_id, outcome, seconds, reason):
                if outcome == "stored":
                    self.turns.took(run_id, seconds)
                self._settle(run_id, reason)
            case Lost(run_id, why) if self.tries[run_id] >= self.pool.tries:
                reason = f"its worker died {self.tries[run_id]} times ({why})"
                self.store.record_failure(run_id, reason)
                self._settle(run_id, reason)
            case Lost(run_id):
                self._take_back(run_id)

    def _take_back(self, run_id: str) -> None:
        del self.under_way[run_id]
        self.waiting[run_id] = self.plan.pending[run_id]

    def _adopt(self, orphan: str) -> None:
        """What is missing of a run's ancestors by now is computed before it is tried again."""
        self.orphaned[orphan] += 1
        self.tries[orphan] -= 1
        self._take_back(orphan)
        found = make_plan([self.plan.pending[orphan]], self.store)
        lost = {run_id: spec for run_id, spec in found.pending.items() if run_id not in self.waiting and run_id not in self.under_way}
        self.plan.failed |= found.failed
        self.plan.pending |= lost
        self.plan.parents |= {run_id: [parent.id for parent in spec.parents()] for run_id, spec in lost.items()}
        self.turns.look_at(lost)
        self.waiting |= lost
        self.done -= lost.keys()
        self.progress.more(len(lost))

    def _settle(self, run_id: str, reason: str) -> None:
        self.waiting.pop(run_id, None)
        self.under_way.pop(run_id, None)
        self.done.add(run_id)
        if reason:
            self.plan.failed[run_id] = reason
        self.progress.finished(run_id)
