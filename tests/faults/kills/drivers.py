"""Drivers that are killed: forked in milliseconds, on runs of milliseconds; workers of executor 'local' are forked too, and as real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from tests.support import Number, Total
from vitlib.runs import provenance
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.plan import Place
from vitlib.runs.workers import local, worker
from vitlib.spec import RunSpec

NUMBERS = 8


def graph() -> list[RunSpec]:
    """Eight numbers, their sums two by two, and the sums of these, down to one."""
    layer: list[RunSpec] = [Number(value=value) for value in range(NUMBERS)]
    asked = [*layer]
    while len(layer) > 1:
        layer = [Total(left=left, right=right) for left, right in zip(layer[::2], layer[1::2], strict=True)]
        asked += layer
    return asked


def drive(place: Place, executor: str, mode: str = "cached") -> None:
    """For a process of its own: status 0 where all is stored, 1 where runs failed."""
    provenance.commit = lambda: "0"  # git takes longer than a run
    local.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": Forked})
    try:
        execute(graph(), place, executor=executor, mode=mode)
    except RunsFailedError as error:
        print(error, file=sys.stderr)
        os._exit(1)


class Forked:
    """As much of `subprocess.Popen` as executor 'local' uses; its command is a worker's."""

    def __init__(self, command, *, env, **how):
        inside, outside = os.pipe(), os.pipe()
        self.returncode = None
        self.pid = os.fork()
        if not self.pid:
            _become_worker(command[-1], env, inside[0], outside[1])
        for end in (inside[0], outside[1]):
            os.close(end)
        self.stdin, self.stdout = os.fdopen(inside[1], "wb", 0), os.fdopen(outside[0], "rb", 0)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 1e9) -> int:
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.002)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _become_worker(about: str, env: dict[str, str], orders: int, answers: int) -> None:
    try:
        os.setpgid(0, 0)
        os.dup2(orders, 0)
        os.dup2(answers, 1)
        os.closerange(3, 1024)
        os.environ.update(env)
        sys.stdin = os.fdopen(0)
        worker.main(about)
    finally:
        os._exit(1)


def children(pid: int) -> list[int]:
    """Of a process, by the table of processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float) -> bool:
    """Whether these processes end by then."""
    until = time.monotonic() + seconds
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(lives, pids))
