"""An operation in processes of their own: once to its end, once killed at each of its points, once more after every power cut."""

import gc
import os
import pickle
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tests.faults.kills.acts.of_studies import UPDATES
from tests.faults.kills.acts.places import Seen, runs
from tests.faults.kills.disks import State, laid_out, states
from tests.faults.kills.operations import OPERATIONS
from tests.faults.kills.points import recorded
from vitlib.runs import provenance
from vitlib.runs.store import Store

FEW = 8  # power cuts of an operation in `make test`
BESIDE = (".partial", ".scratch", ".claims", ".removed", ".asked")


Apart = Callable[[str, Path, int | None], int]  # an act in a process of its own, killed at a point: the exit status


@contextmanager
def apart(forking: Any) -> Iterator[Apart]:
    """Processes that fork from one which has all that acts need: milliseconds each."""
    here, there = forking.Pipe()
    server = forking.Process(target=_serve, args=(there,), daemon=True)
    server.start()

    def run(*asked):
        here.send(asked)
        return here.recv()

    try:
        yield run
    finally:
        here.send(None)
        server.join()


def _serve(connection: Any) -> None:
    provenance.commit = lambda: "0"  # git takes longer than all the rest
    gc.freeze()
    for asked in iter(connection.recv, None):
        if not (pid := os.fork()):
            _act_and_leave(*asked)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _act_and_leave(*asked: Any) -> NoReturn:
    try:
        _act(*asked)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _act(name: str, folder: Path, kill_at: int | None) -> None:
    """What it computed, and its points and changes, lie below `data` at the end."""
    with recorded(folder, kill_at) as recorder:
        outcome = OPERATIONS[name].act(folder)
    (folder / "data" / "recorded.pkl").write_bytes(pickle.dumps((outcome, recorder.points, recorder.changes)))


def lines(folder: Path, log: str) -> list[str]:
    path = folder / "data" / log
    return path.read_text().splitlines() if path.exists() else []


def left(folder: Path) -> list[str]:
    """What processes leave while they write, by its names without what is random."""
    results = folder / "results"
    beside = [path for name in BESIDE for path in (results / name).rglob("*")]
    unfinished = [
        path for place in ("results", "figures") for end in (".unfinished-*", "*.partial") for path in (folder / place).rglob(end)
    ]
    return sorted(str(path.relative_to(folder)) for path in (*beside, *unfinished))


class Trial:
    """An operation, the folder it starts from, what is seen before it and after it, and its points."""

    def __init__(self, name: str, folder: Path, apart: Apart):
        self.name, self.operation, self.folder, self.apart = name, OPERATIONS[name], folder, apart
        self.start = folder / "start"
        (self.start / "data").mkdir(parents=True)
        (self.start / "figures").mkdir()
        self.operation.prepare(self.start)
        self.before = self.operation.seen(self.start)
        whole = self.copied()
        assert self.run(whole) == 0, f"{name} does not come to its end"
        recording = pickle.loads((whole / "data" / "recorded.pkl").read_bytes())
        self.outcome, self.points, self.changes = recording[0], recording[1], recording[2]
        self.after, self.left = self.operation.seen(whole), left(whole)

    def cleared(self) -> Path:
        """The one place of all tries: where something lies may be part of what is computed from it."""
        shutil.rmtree(place := self.folder / "place", ignore_errors=True)
        return place

    def copied(self) -> Path:
        return Path(shutil.copytree(self.start, self.cleared(), symlinks=True))

    def run(self, folder: Path, kill_at: int | None = None) -> int:
        return self.apart(self.name, folder, kill_at)

    def kill(self, point: int) -> float:
        """Killed at that point and done again, all as it should be; seconds of the second time."""
        folder, where = self.copied(), f"{self.name}, killed at {self.points[point]}"
        assert self.run(folder, point) == -signal.SIGKILL, where
        self.require_sound(self.operation.seen(folder), where, absent=self.operation.absent != "never")
        if (folder / "results").exists():
            Store(folder / "results").sweep()  # as every driver begins
            self.require_sound(self.operation.seen(folder), f"{where}, swept", absent=self.operation.absent == "until done again")
        stored, computed = self.operation.seen(folder), lines(folder, "computed")
        began = time.monotonic()
        self.require_done_again(folder, where)
        taken = time.monotonic() - began
        if self.operation.counted:
            again = set(lines(folder, "computed")[len(computed) :]) & {key for key, value in stored.items() if value == self.after[key]}
            assert not again, f"{where}: {again} were stored and computed again"
        self.require_nothing_left(folder, where)
        return taken

    def cut(self, number: int, how: str, state: State) -> float:
        """The operation done again on what a power cut left; seconds that it took."""
        where, over = f"{self.name}: {how}", number == len(self.changes)
        laid_out(state, folder := self.cleared())
        for place in ("data", "figures"):
            (folder / place).mkdir(exist_ok=True)
        found = self.operation.seen(folder)
        if over and self.operation.lasting:
            assert found == self.after, f"{where}: not on the disk, though it had returned"
        intact = {key: value for key, value in found.items() if value != "damaged"}
        shutil.rmtree(folder / "results" / ".asked", ignore_errors=True)  # notes whose claims are lost: gc removes them
        self.require_sound(intact, where, absent=self.operation.seen is runs or self.operation.absent != "never")
        began = time.monotonic()
        self.require_done_again(folder, where)
        taken = time.monotonic() - began
        if (folder / "results").exists():
            Store(folder / "results").sweep()  # as the next driver begins
        self.require_nothing_left(folder, where)
        return taken

    def require_done_again(self, folder: Path, where: str) -> None:
        assert self.run(folder) == 0, f"{where}: cannot be done again"
        assert len(lines(folder, "steps")) <= UPDATES + 1, f"{where}: more than the last interval of a training is lost"
        outcome, *_ = pickle.loads((folder / "data" / "recorded.pkl").read_bytes())
        assert outcome == self.outcome, f"{where}: another outcome"
        seen = self.operation.seen(folder)
        assert seen == self.after, f"{where}: done again, it is not the same: {_difference(seen, self.after)}"

    def require_nothing_left(self, folder: Path, where: str) -> None:
        still = set(left(folder)) - set(self.left)
        assert not still, f"{where}: left behind: {still}"

    def require_sound(self, seen: Seen, where: str, absent: bool) -> None:
        """Each thing is as it was before, or as it is after; it may be missing where it was, or is, or for a while."""
        for name in self.before.keys() | self.after.keys() | seen.keys():
            allowed = [found[name] for found in (self.before, self.after) if name in found]
            untouched = self.before.get(name) == self.after.get(name)
            assert name in seen or len(allowed) < 2 or (absent and not untouched), f"{where}: {name} is gone"
            assert name not in seen or seen[name] in allowed, f"{where}: {name} is between old and new"

    def disks(self, at_length: bool) -> list[tuple[int, str, State]]:
        """Disks that power cuts may leave: at length of a cut after each change, otherwise of a few; and when all is over, in any case."""
        draws, over = np.random.default_rng(0), len(self.changes)
        at = {over, *self.drawn(over, at_length, FEW)}
        found = list(states(self.start, self.changes, at, draws))
        if at_length and len(found) <= self.operation.most:
            return found
        chosen = draws.permutation(len(found))[: self.operation.most if at_length else FEW]
        return [found[number] for number in chosen] + [disk for disk in found if disk[0] == over][:1]

    def drawn(self, count: int, at_length: bool, most: int) -> list[int]:
        """Of so many those that are tried: at length all, up to the operation's limit; otherwise its share, up to `most`."""
        wanted = min(count, self.operation.most) if at_length else min(most, max(1, round(self.operation.share * count)))
        return sorted(np.random.default_rng(0).choice(count, wanted, replace=False).tolist())


def _difference(one: Seen, other: Seen) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
