"""Where tasks say how far they are, beside the driver, which looks at it now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from vitlib.runs.executors.protocol import Job

EVERY = 0.5  # seconds from one look to the next
PATIENCE = 5.0  # seconds for an answer
log = logging.getLogger("vitlib")


class Sayings:
    """The actor: what was said since the last look."""

    def __init__(self):
        self._said: list[tuple[str, tuple[int, int, int] | None]] = []

    def say(self, run_id: str, how_far: tuple[int, int, int] | None) -> None:
        """Epoch, epochs and images, or None for a run that begins."""
        self._said.append((run_id, how_far))

    def heard(self) -> list[tuple[str, tuple[int, int, int] | None]]:
        said, self._said = self._said, []
        return said


class Board:
    """The driver's view of it.

    Attributes:
        actor: what tasks are given.
        begun: ids of the runs that began.
    """

    def __init__(self, ray: Any, job: Job):
        self._ray, self._job, self._looked = ray, job, 0.0
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.actor = ray.remote(Sayings).options(num_cpus=0, scheduling_strategy=here).remote()
        self.begun: set[str] = set()

    def look(self, under_way: Collection[str]) -> None:
        """Hand the ticks of these runs on. Without an answer there are none: they are not what runs depend on."""
        if time.monotonic() - self._looked < EVERY:
            return
        try:
            said = self._ray.get(self.actor.heard.remote(), timeout=PATIENCE)
        except self._ray.exceptions.RayError as error:
            log.debug("no ticks: %s", error)
            said = []
        for run_id, how_far in said:
            self.begun.add(run_id)
            if how_far and run_id in under_way:
                self._job.tick(run_id, *how_far)
        self._looked = time.monotonic()
