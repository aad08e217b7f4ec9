"""Executor 'inline': run after run in this process."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from vitlib import distributed
from vitlib.runs.executors.protocol import Ended, Job
from vitlib.runs.preflight import require_device
from vitlib.runs.workers.one import compute_one
from vitlib.spec import RunSpec

log = logging.getLogger("vitlib")


@contextmanager
def opened(job: Job) -> Iterator[Inline]:
    """See `protocol.opened`."""
    require_device(job.place.device)
    yield Inline(job)


class Inline:
    """A pool with room for one run, which is computed when its end is waited for."""

    tries = 1

    def __init__(self, job: Job):
        self._job = job
        self._taken: RunSpec | None = None

    def has_room(self) -> bool:
        return self._taken is None

    def submit(self, spec: RunSpec) -> None:
        self._taken = spec

    def wait(self, timeout: float) -> list[Ended]:
        spec, self._taken = self._taken, None
        return [self._ended(spec)]

    def cancel(self, run_id: str) -> None:
        self._taken = None

    def _ended(self, spec: RunSpec) -> Ended:
        job = self._job
        try:
            outcome = compute_one(spec, job.store, job.place, lambda *how_far: job.tick(spec.id, *how_far), again=spec.id in job.forced)
        except Exception as error:
            if distributed.launched() > 1:
                raise  # the other processes are in the middle of the run: torchrun ends them with this one
            log.debug("%s", traceback.format_exc())
            return Ended(spec.id, "failed", reason=f"{type(error).__name__}: {error}")
        return Ended(spec.id, outcome.what, outcome.seconds)
