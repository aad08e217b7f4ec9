"""Compute the missing runs of a study, parents first, in this process or in local workers.

`execute` walks up from what is asked, stops at what is stored, and runs the rest. Resuming is running again.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from vitlib import distributed
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, check, compare, fingerprint, left_out
from vitlib.messages import brief, nearest
from vitlib.runs.manifest import DamagedError
from vitlib.runs.provenance import facts, now
from vitlib.runs.store import Store, Stored
from vitlib.runs.workers.local import run_in_workers
from vitlib.runs.workers.progress import Progress
from vitlib.spec import Context, RunSpec, SpecError
from vitlib.teachers.teacher import Teacher

Executor = Literal["inline", "local"]
Mode = Literal["cached", "retry", "force", "read-only"]
Tick = Callable[[int, int, int], None]
RECORDED = ".data"  # below the results: what large sets of files were when results on them began
log = logging.getLogger("vitlib")


class RunsFailedError(RuntimeError):
    """Some runs could not be computed; everything else was, and is stored."""


@dataclass(frozen=True)
class Place:
    """Where runs are computed: store folder, data folder, device, seconds between checkpoints."""

    results_dir: Path
    data_dir: Path
    device: str = "auto"
    checkpoint_every: float = 120.0

    def __post_init__(self):
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise SpecError(f"device: got {self.device!r}; allowed: auto, cpu, cuda, cuda:N")

    def reading(self) -> Context:
        """A context on the CPU for what is done with stored runs."""
        store = Store(self.results_dir, writable=False)
        return Context("cpu", self.data_dir, None, lambda parent: store.read(parent.id))


@dataclass
class Plan:
    """What is asked, what is stored of it, and what remains, parents first."""

    stored: dict[str, Stored]
    pending: dict[str, RunSpec]
    failed: dict[str, str] = field(default_factory=dict)

    def failed_parent(self, spec: RunSpec) -> str | None:
        """Why `spec` cannot be computed, if one of its parents failed."""
        failed = [parent.id for parent in spec.parents() if parent.id in self.failed]
        return f"its parent {failed[0]} failed" if failed else None


def execute(specs: Iterable[RunSpec], place: Place, *, executor: Executor = "inline", mode: Mode = "cached") -> dict[str, Stored]:
    """Stored results by run id, computing what is missing.

    Args:
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
        with distributed.team(_device(place.device)):
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
    device, store = _device(place.device), Store(place.results_dir, writable=False)

    def compute(spec: RunSpec) -> None:
        with one_thread(device):
            spec.compute(Context(device, place.data_dir, store.scratch(spec.id), lambda parent: store.read(parent.id)))

    with distributed.team(device):
        distributed.follow(compute)


def make_plan(specs: Iterable[RunSpec], store: Store, mode: Mode = "cached") -> Plan:
    """Read what is stored (a damaged run is set aside and counts as missing) and order the rest parents first."""
    plan = Plan({}, {})
    asked = {spec.id for spec in specs}

    def visit(spec: RunSpec) -> None:
        if spec.id in plan.stored or spec.id in plan.pending or spec.id in plan.failed:
            return
        if not (mode == "force" and spec.id in asked) and (stored := _read(store, spec.id, mode)):
            plan.stored[spec.id] = stored
            return
        if mode == "cached" and (reason := store.failure(spec.id)):
            plan.failed[spec.id] = f"failed before (mode='retry' tries again): {reason}"
            return
        for parent in spec.parents():
            visit(parent)
        plan.pending[spec.id] = spec

    for spec in specs:
        visit(spec)
    return plan


def preflight(specs: Iterable[RunSpec], data_dir: Path, recorded: Path | None = None) -> None:
    """Refuse data and teachers' weights that are missing or damaged before any run starts; of a `second_test`, only the test split.

    One warning tells which files of image folders are not read. `recorded` is the folder of what large sets were before.
    """
    fingerprint.cache_clear()
    fields = [(name, getattr(spec, name)) for spec in specs for name in type(spec).model_fields]
    named = dict.fromkeys((name, value) for name, value in fields if isinstance(value, Data))
    for name, data in named:
        watched = {watched_split(data, data_dir)} - {"test"}
        check(data, data_dir, splits=("test",) if name == "second_test" else ("train", *watched, "test"))
    sources = dict.fromkeys(data.source for _, data in named)
    if recorded:
        compare(sources, data_dir, recorded)
    if lines := left_out(sources, data_dir):
        log.warning("%s", "\n".join(lines))
    for teacher in dict.fromkeys(value for _, value in fields if isinstance(value, Teacher)):
        teacher.check(data_dir)


def verify_data(specs: Iterable[RunSpec], place: Place) -> None:
    """Read all bytes of the runs' data; refuse what was replaced since results began, take files written since as they are."""
    runs = {member.id: member for spec in specs for member in spec.family()}.values()
    values = [getattr(run, name) for run in runs for name in type(run).model_fields]
    compare({value.source for value in values if isinstance(value, Data)}, place.data_dir, place.results_dir / RECORDED, verify=True)


def require_device(device: str, executor: Executor) -> None:
    """Refuse a GPU that is not there, or one by number where each worker sees its own alone."""
    if not device.startswith("cuda"):
        return
    if executor == "local" and device != "cuda":
        raise SpecError(f"device: got {device!r} with executor='local', one worker a GPU; allowed: auto, cuda, or executor='inline'")
    import torch

    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise SpecError(f"device: got {device!r}, and torch sees {torch.cuda.device_count()} GPUs here; allowed: auto, cpu")


def compute_one(spec: RunSpec, store: Store, place: Place, tick: Tick, again: bool = False) -> Literal["stored", "held"]:
    """Claim one run, compute it and store it; 'held' if another process is at it, 'stored' also if it already was.

    Raises:
        Exception: whatever the run raised; its reason is recorded in the store.
    """
    with store.claim(spec.id) as mine:
        if not mine:
            return "held"
        if spec.id in store and not again:
            return "stored"
        device, scratch = _device(place.device), store.scratch(spec.id)
        about = facts(type(spec).__module__, device)  # before: what is edited meanwhile did not compute it
        about["code"] = _code_of(scratch, about["code"])
        context = Context(device, place.data_dir, scratch, lambda parent: store.read(parent.id), tick, place.checkpoint_every)
        try:
            with one_thread(device), distributed.divided(spec):
                result = spec.compute(context)
            store.put(spec, result, about | {"finished": now()})
        except (SpecError, OSError):
            raise  # of this machine rather than of the run: it may be tried again as it is
        except Exception as error:
            store.record_failure(spec.id, f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
        store.clear_scratch(spec.id)
        store.forget_failure(spec.id)
        return "stored"


def _code_of(scratch: Path, code: str) -> str:
    """Fingerprint of the code that a run began with: an interrupted one keeps that of its first session."""
    note = scratch / "code"
    if not (note.exists() and (scratch / "checkpoint.pt").exists()):
        scratch.mkdir(parents=True, exist_ok=True)
        note.write_text(code)
    return note.read_text()


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """On a CPU a run computes on one thread: its numbers do not depend on the machine's cores, which other runs use."""
    if device.startswith("cuda"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require(name: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        raise SpecError(f"{name}: got {brief(value)}{nearest(str(value), allowed)}")


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
    waiting = dict(plan.pending)
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


def _read(store: Store, run_id: str, mode: Mode) -> Stored | None:
    try:
        return store.read(run_id)
    except KeyError:
        return None
    except DamagedError as error:
        if mode == "read-only":
            log.warning("damaged, shown as missing: %s", error)
        else:
            log.warning("damaged, will be computed again: %s (kept in %s)", error, store.set_aside(run_id))
        return None


def _device(wanted: str) -> str:
    import torch

    if distributed.launched() > 1:
        return distributed.device(wanted, torch.cuda.device_count())
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _failure_report(plan: Plan) -> str:
    lines = [f"  {run_id}: {reason}" for run_id, reason in plan.failed.items()]
    stored = plan.stored.keys() | plan.pending.keys() - plan.failed.keys()
    return f"{len(lines)} run(s) failed, {len(stored)} are stored:\n" + "\n".join(lines)
