"""Runs that measure time have their host to themselves: two locks that all drivers of a user honour.

Every run holds `room` while it computes, together with others or alone. Who waits to be alone holds `turn`, through which all must
pass: newcomers stay outside until it is done. Both are freed when their holder dies.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitlib.runs.clock import notice

PAUSE = 0.05  # seconds from one look at a lock to the next


class NoRoomError(RuntimeError):
    """Other runs had the host until the deadline."""


@contextmanager
def on_the_host(*, alone: bool, deadline: float = math.inf) -> Iterator[None]:
    """Compute beside other runs, or, after those under way, alone.

    Raises:
        NoRoomError: where there is no room until the deadline (`time.monotonic`), or until notice is given.
    """
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _opened("turn") as turn, _opened("room") as room:
        _lock(turn, kind, deadline)
        _lock(room, kind, deadline)
        if not alone:
            fcntl.flock(turn, fcntl.LOCK_UN)
        yield


def _lock(handle: int, kind: int, deadline: float) -> None:
    if deadline == math.inf and not notice.expected():
        fcntl.flock(handle, kind)
        return
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= min(deadline, notice.moment()):
                raise NoRoomError("other runs have the host") from None
            time.sleep(PAUSE)


@contextmanager
def _opened(name: str) -> Iterator[int]:
    path = Path(tempfile.gettempdir(), f"vitlib-{os.getuid()}-{name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # children that a run left may still have it open
        os.close(handle)
