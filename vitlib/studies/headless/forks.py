"""Kernels that fork from one process which has the libraries loaded: a batch of notebooks imports torch once, not once a notebook.

That process, `forking`, is started first of all, without a library: it loads what notebooks need while the driver looks at what is stored.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SOURCE = "vitlib.studies.headless.forking"
INLINE = "module://matplotlib_inline.backend_inline"  # what kernels tell matplotlib before they import it
AVAILABLE = hasattr(os, "pidfd_open")  # Linux; elsewhere a process that has loaded torch cannot be forked safely


class Forks:
    """The process that kernels fork from. It ends with its driver, and its kernels end with it."""

    def __init__(self):
        self._one_at_a_time = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"MPLBACKEND": INLINE} | os.environ,
            bufsize=0,
            process_group=0,  # Ctrl-C interrupts the driver alone
        )

    def fork(self, arguments: list[str], cwd: str, env: dict[str, str]) -> Forked:
        """A new kernel.

        Args:
            arguments: of its command line.

        Raises:
            OSError: if there is no process to fork from any more.
        """
        with self._one_at_a_time:
            self.process.stdin.write(json.dumps({"arguments": arguments, "cwd": cwd, "env": env}).encode() + b"\n")
            answer = self.process.stdout.readline()
        if not answer:
            raise OSError("the process that kernels fork from is gone")
        return Forked(int(answer))


@contextmanager
def started() -> Iterator[Forks | None]:
    """For one batch, at whose end no kernel is left; None where kernels have to be started afresh."""
    if not AVAILABLE:
        yield None
        return
    forks = Forks()
    with forks.process:
        try:
            yield forks
        finally:
            forks.process.kill()


class Forked:
    """As much of `subprocess.Popen` as a provisioner uses, of a process that is another's child."""

    stdin = stdout = stderr = None
    OVER = 1  # its exit status is its parent's to know

    def __init__(self, pid: int):
        self.pid = pid
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None

    def poll(self) -> int | None:
        return self.OVER if self._is_over(0) else None

    def wait(self) -> int:
        self._is_over(None)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        return self.OVER

    def send_signal(self, signum: int) -> None:
        if not self._is_over(0):
            signal.pidfd_send_signal(self._handle, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _is_over(self, seconds: float | None) -> bool:
        return self._handle is None or bool(select.select([self._handle], [], [], seconds)[0])
