"""What is asked of a store, what of it is there, and what remains to be computed, parents first."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from vitlib.computing import Context
from vitlib.runs.manifest import DamagedError
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, SpecError

Executor = Literal["inline", "local", "ray"]
Mode = Literal["cached", "retry", "force", "read-only"]
log = logging.getLogger("vitlib")


@dataclass(frozen=True)
class Place:
    """Where runs are computed.

    Store folder, data folder, device, seconds between checkpoints, runs at once on each GPU (executors 'local' and 'ray'), until when
    (`time.monotonic`), and whether a GPU replays the steps of a training from a record.
    """

    results_dir: Path
    data_dir: Path
    device: str = "auto"
    checkpoint_every: float = 120.0
    slots_per_gpu: int = 1
    deadline: float = float("inf")
    capture: bool = True

    def __post_init__(self):
        if self.slots_per_gpu < 1:
            raise SpecError(f"slots_per_gpu: got {self.slots_per_gpu}; allowed: a number from 1 on")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise SpecError(f"device: got {self.device!r}; allowed: auto, cpu, cuda, cuda:N")

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """From `to_json`: what a driver tells its workers."""
        fields = json.loads(text)
        return cls(**fields | {name: Path(fields[name]) for name in ("results_dir", "data_dir")})

    def reading(self) -> Context:
        """A context on the CPU for what is done with stored runs."""
        store = Store(self.results_dir, writable=False)
        return Context("cpu", self.data_dir, None, lambda parent: store.open(parent.id, parent))


@dataclass
class Plan:
    """What is asked, what is stored of it, and what remains, parents first.

    `anew` are pending runs that were stored when the plan was made; what others store since is theirs. `left` is what a budget did not
    suffice for, or what was not done when someone stopped it; `titles` are runs in words, by id.
    """

    stored: dict[str, Stored]
    pending: dict[str, RunSpec]
    failed: dict[str, str] = field(default_factory=dict)
    anew: set[str] = field(default_factory=set)
    left: dict[str, RunSpec] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> list[str]:
        """Stored and pending runs by id: whoever computes the plan needs them until its end."""
        return [*self.stored, *self.pending]

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """Of each pending run: found once, because executors ask often."""
        return {run_id: [parent.id for parent in spec.parents()] for run_id, spec in self.pending.items()}

    def fail_children(self, waiting: dict[str, RunSpec]) -> list[str]:
        """Take out of `waiting` the runs that cannot be computed because a parent failed; those of failed ones too."""
        taken = []
        for run_id in [run_id for run_id in self.pending if run_id in waiting] if self.failed else ():
            if failed := [parent for parent in self.parents[run_id] if parent in self.failed]:
                self.failed[run_id] = f"its parent {failed[0]} failed"
                taken.append(run_id)
                del waiting[run_id]
        return taken

    def timed_last(self) -> dict[str, RunSpec]:
        """What remains, runs that measure time at the end, since nothing may run beside them."""
        return dict(sorted(self.pending.items(), key=lambda item: item[1].timed))


def make_plan(specs: Iterable[RunSpec], store: Store, mode: Mode = "cached") -> Plan:
    """Find what is stored and order the rest parents first; a damaged run is set aside and counts as missing.

    Of a stored run the files are looked for; their bytes are compared when somebody reads them, and here where a run that is to be computed
    starts from it. 'retry' compares those of every run, and computes a stored one again of which a failure is recorded: under 'force', or
    for want of its weights.
    """
    plan, whole = Plan({}, {}), set()
    asked = {spec.id for spec in specs}

    def visit(spec: RunSpec, needed: bool = False) -> None:
        if spec.id in plan.pending or spec.id in plan.failed or spec.id in (whole if needed else plan.stored):
            return
        anew = (mode == "force" and spec.id in asked) or (mode == "retry" and store.failure(spec.id))
        if not anew and (stored := _found(store, spec, mode, needed or mode == "retry")):
            plan.stored.setdefault(spec.id, stored)
            whole.update([spec.id] * needed)
            return
        plan.stored.pop(spec.id, None)
        if mode == "cached" and (reason := store.failure(spec.id)):
            plan.failed[spec.id] = f"failed before (mode='retry' tries again): {reason}"
            return
        for parent in spec.parents():
            visit(parent, needed=mode != "read-only")
        plan.pending[spec.id] = spec
        if anew and spec.id in store:
            plan.anew.add(spec.id)

    for spec in specs:
        visit(spec)
    return plan


def _found(store: Store, spec: RunSpec, mode: Mode, whole: bool) -> Stored | None:
    try:
        return store.read(spec.id, spec) if whole else store.open(spec.id, spec)
    except KeyError:
        return None
    except DamagedError as error:
        if mode == "read-only":
            log.warning("damaged, shown as missing: %s", error)
        elif aside := store.set_aside_damaged(spec.id, spec):
            log.warning("damaged, will be computed again: %s (kept in %s)", error, aside)
        return None
