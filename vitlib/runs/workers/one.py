"""One run in this process: claimed, computed, stored."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from vitlib import distributed
from vitlib.computing import Context, NoWeightsError, OutOfTimeError, result_of
from vitlib.runs.claims.held import LostClaimError, require_held, while_held
from vitlib.runs.clock.budget import REACHED, note
from vitlib.runs.clock.notice import heeded_by
from vitlib.runs.manifest import DamagedError, StoreError
from vitlib.runs.plan import Place
from vitlib.runs.provenance import facts, now
from vitlib.runs.reading.lines import read_line, write_line
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.runs.workers.alone import NoRoomError, on_the_host
from vitlib.spec import RunSpec, SpecError

Tick = Callable[[int, int, int], None]


class OrphanedError(RuntimeError):
    """A run that another one starts from was damaged or removed since that one was planned."""


class Outcome(NamedTuple):
    """What became of a run: stored after `seconds`; found, for another process stored it; held, for one is at it; interrupted; orphaned."""

    what: Literal["stored", "found", "held", "interrupted", "orphaned"]
    seconds: float = 0.0


def compute_one(spec: RunSpec, store: Store, place: Place, tick: Tick, again: bool = False) -> Outcome:
    """Claim one run, compute it and store it; at the place's deadline, or when notice is given, it is interrupted, its checkpoint written.

    A claim that was lost meanwhile, as a lease is whose holder was suspended, counts as held: what was computed is not stored.

    Raises:
        Exception: whatever the run raised, a NoMemoryError where memory ran out; its reason is recorded in the store.
    """
    with store.claim(spec.id) as mine:
        if not mine:
            return Outcome("held")
        if spec.id in store and not again:
            return Outcome("found")
        device, scratch = device_of(place.device), store.scratch(spec.id)
        about = facts(type(spec), device)  # before: what is edited meanwhile did not compute it
        about["code"] = _code_of(scratch, about["code"])
        parent, tick = partial(_parent, store), while_held(mine, tick)
        context = Context(device, place.data_dir, scratch, parent, tick, place.checkpoint_every, place.deadline, place.capture)
        around = on_the_host(alone=spec.timed, deadline=place.deadline)
        try:
            with interruption_kept():
                with around, one_thread(device), heeded_by(context), distributed.divided(spec):
                    began = time.monotonic()
                    result = result_of(spec, context)
                    seconds = time.monotonic() - began
                require_held(mine)
                store.put(spec, result, about | {"finished": now()})
        except NoRoomError:
            return Outcome("held")
        except OrphanedError:
            if distributed.launched() > 1:
                raise  # the other processes are in the middle of the run
            return Outcome("orphaned")
        except (LostClaimError, OutOfTimeError) as ended:
            return _interrupted(ended, spec, store)
        except NoWeightsError as error:
            store.record_failure(error.run_id, str(error))  # of the parent, which `retry` computes again
            raise
        except (SpecError, StoreError, OSError):
            raise  # of this machine rather than of the run: it may be tried again as it is
        except Exception as error:
            named = _named(error, device)
            store.record_failure(spec.id, f"{type(named).__name__}: {named}", traceback.format_exc())
            if named is not error:
                raise named from error
            raise
        store.clear_scratch(spec.id)
        store.forget_failure(spec.id)
        return Outcome("stored", seconds)


def _parent(store: Store, run: RunSpec) -> Stored:
    """What a run starts from; whoever drives computes it again where it is damaged or gone, now or when it is read."""

    def orphaned(run_id: str, error: Exception) -> NoReturn:
        raise OrphanedError(f"what it starts from is not there any more: {error}") from error

    try:
        found = store.open(run.id, run)
    except (KeyError, DamagedError) as error:
        orphaned(run.id, error)
    found.otherwise = orphaned
    return found


def _named(error: Exception, device: str) -> Exception:
    """The error, or where memory ran out one that says so: libraries have many words for it."""
    if not isinstance(error, (RuntimeError, MemoryError)):
        return error
    from vitlib.training.step import memory  # loads torch, which whoever raised these has

    return memory.named(error, device)


@contextmanager
def interruption_kept() -> Iterator[None]:
    """An error met in taking down what someone interrupted, as `zipfile` raises of a half-written member, is that interruption still."""
    try:
        yield
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in _behind(error)):
            raise KeyboardInterrupt from error
        raise


def _behind(error: BaseException) -> Iterator[BaseException]:
    while error := error.__cause__ or error.__context__:
        yield error


def _interrupted(by: LostClaimError | OutOfTimeError, spec: RunSpec, store: Store) -> Outcome:
    """Raised on where several processes share the run, for the others are in the middle of it."""
    late = isinstance(by, OutOfTimeError)
    if late:
        note(store, spec.id, REACHED, by.share)
    if distributed.launched() > 1 and spec.divisible:
        raise by
    return Outcome("interrupted" if late else "held")


def _code_of(scratch: Path, code: str) -> str:
    """Fingerprint of the code that a run began with: an interrupted one keeps that of its first session, as far as that can be read."""
    note = scratch / "code"
    if not (note.exists() and (scratch / "checkpoint.pt").exists()):
        write_line(note, code)
    return read_line(note) or "unknown"


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """On a CPU a run computes on one thread: its numbers do not depend on the machine's cores, which other runs use.

    torch takes seconds to load: where the environment tells it the same, it is left to the runs that need it.
    """
    told = "torch" not in sys.modules and os.environ.get("OMP_NUM_THREADS") == "1"
    if device.startswith("cuda") or told:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(wanted: str) -> str:
    alone = distributed.launched() == 1
    if alone and wanted != "auto":
        return wanted
    import torch

    if not alone:
        return distributed.device(wanted, torch.cuda.device_count())
    return "cuda" if torch.cuda.is_available() else "cpu"
