"""A claim by `flock`: freed by the kernel when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitlib.durable import naming
from vitlib.runs.claims.holder import holder


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Try to hold the file at `path` for this process: False if another live process holds it."""
    handle = _lock(path)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int | None:
    """An exclusive lock on the file at `path`, or None while another process holds it.

    The holder removes the file before it unlocks; so after locking, the path must still lead to the locked file.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                with naming(path):
                    os.truncate(handle, 0)
                    os.write(handle, holder())
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(handle)  # else this process would hold what it says it could not claim
            raise
        os.close(handle)
