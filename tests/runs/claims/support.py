"""What processes do with claims in these tests, forked from a server: each sets the leases' times for itself."""

import os
import signal
import time
from pathlib import Path

from tests.support import leave_trace
from vitlib.computing import Context, Result, computes
from vitlib.runs.claims import leases
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.spec import RunSpec


def quick() -> None:
    leases.BEAT, leases.EXPIRES = 0.1, 1.0


def hold(root: Path, run_id: str, held) -> None:
    quick()
    with Store(root).claim(run_id) as mine:
        if mine:
            held.set()
        signal.pause()


def race(root: Path, run_id: str, together, rounds: int) -> None:
    """Claim the run again and again; whoever has it is alone, by a file that must not be there twice."""
    quick()
    store, won = Store(root), 0
    together.wait()
    until = time.monotonic() + 60
    while won < rounds and time.monotonic() < until:
        with store.claim(run_id) as mine:
            if mine:
                inside = os.open(root / "inside", os.O_CREAT | os.O_EXCL)
                time.sleep(0.001)
                os.close(inside)
                os.unlink(root / "inside")
                won += 1
    assert won == rounds


def win_once(root: Path, run_id: str, together, over, winners) -> None:
    """One try at a claim by all at the same moment; who has it keeps it until all have tried."""
    quick()
    together.wait()
    with Store(root).claim(run_id) as mine:
        if mine:
            winners.put(os.getpid())
        over.wait()
        assert not mine or mine.path.exists()


class Suspended(RunSpec):
    """A run in the middle of which its process is stopped, the first time."""


@computes(Suspended)
def compute_suspended(spec: Suspended, context: Context) -> Result:
    leave_trace(spec, context)
    os.kill(os.getpid(), signal.SIGSTOP)
    context.tick(0, 1, 1)
    return Result({"value": 1})


def execute_suspended(place: Place) -> None:
    quick()
    execute([Suspended()], place)
