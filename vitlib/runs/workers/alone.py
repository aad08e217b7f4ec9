"""Runs that measure time have their host to themselves: two locks that all drivers of a user honour.

Every run holds `room` while it computes, together with others or alone. Who waits to be alone holds `turn`, through which all must
pass: newcomers stay outside until it is done. Both are freed when their holder dies.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def on_the_host(*, alone: bool) -> Iterator[None]:
    """Compute beside other runs, or, after those under way, alone."""
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _opened("turn") as turn, _opened("room") as room:
        fcntl.flock(turn, kind)
        fcntl.flock(room, kind)
        if not alone:
            fcntl.flock(turn, fcntl.LOCK_UN)
        yield


@contextmanager
def _opened(name: str) -> Iterator[int]:
    path = Path(tempfile.gettempdir(), f"vitlib-{os.getuid()}-{name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # children that a run left may still have it open
        os.close(handle)
