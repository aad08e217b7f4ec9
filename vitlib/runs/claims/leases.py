"""A claim by a lease: a file that its holder touches again and again; a holder that stops is taken to be dead.

For disks that carry no locks from host to host. A lease is named by a token in its file. Who may end it, to put another in its place,
must first hold the claim `PATH~TOKEN`, which is a lease too: so of several that find it expired one takes it, and none takes what has
been renewed or replaced meanwhile. How old a lease is, the disk says: by the time that it gave to the last touch and the one that it
gives to a new file; the clocks of hosts do not matter.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vitlib.durable import naming
from vitlib.runs.claims.holder import holder
from vitlib.runs.manifest import StoreError, json_table

BEAT = 20.0  # seconds from one touch to the next
EXPIRES = 180.0  # seconds without one after which another may take the lease: more than NFS keeps what it knows of a file


class Lease:
    """Truthy while it is held: not taken by another, nor without a touch for so long that it might have been."""

    def __init__(self, path: Path):
        self.path, self.token = path, uuid.uuid4().hex[:12]
        self._touched, self._lost = time.monotonic(), False

    def __bool__(self) -> bool:
        if time.monotonic() - self._touched >= BEAT:
            self.touch()
        return not self._lost

    def touch(self) -> None:
        """Renew it, if it is still there; while the disk does not answer it stays what it was."""
        began = time.monotonic()
        self._lost = self._lost or began - self._touched >= EXPIRES
        try:
            if not self._lost and _is(self.path, self.token):
                os.utime(self.path)
                self._touched = began
            else:
                self._lost = True
        except OSError:
            pass


@contextmanager
def leased(path: Path) -> Iterator[Lease | bool]:
    """Try to hold the file at `path`: False if another process does, and has touched it of late."""
    lease = _take(path)
    if lease is None:
        yield False
        return
    try:
        with _touching(lease):
            _sweep(path)
            yield lease
    finally:
        _give_back(lease)


class _Held(NamedTuple):
    token: str
    touched: float


def _take(path: Path) -> Lease | None:
    lease = Lease(path)
    aside = path.with_name(f"{path.name}~{lease.token}.new")
    try:
        with naming(aside):
            aside.write_bytes(holder(token=lease.token))
        if _linked(aside, path):
            return lease
        held = _read(path)
        if held is None or not _expired(held, aside.stat().st_mtime):
            return None
        with _ending(path, held.token) as ending:
            if ending and _read(path) == held:
                aside.replace(path)
                return lease
        return None
    finally:
        aside.unlink(missing_ok=True)


def _give_back(lease: Lease) -> None:
    try:
        with _ending(lease.path, lease.token) as ending:
            if ending and _is(lease.path, lease.token):
                lease.path.unlink(missing_ok=True)
    except OSError:  # the disk has no room for the right to end it, and nobody else has that while it is held
        if lease and _is(lease.path, lease.token):
            lease.path.unlink(missing_ok=True)


@contextmanager
def _ending(path: Path, token: str) -> Iterator[Lease | None]:
    """The right to end the lease of that token; None while another has it."""
    ender = _take(path.with_name(f"{path.name}~{token}"))
    try:
        yield ender
    finally:
        if ender:
            ender.path.unlink(missing_ok=True)


@contextmanager
def _touching(lease: Lease) -> Iterator[None]:
    """A thread renews the lease, since a run may compute for long without a word."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT) and lease:
            pass

    thread = threading.Thread(target=beat, name=f"lease {lease.path.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sweep(path: Path) -> None:
    """Remove what takers left that were killed in the middle; a lease that is not the newest can be ended by nobody."""
    now = path.stat().st_mtime
    for left in path.parent.glob(f"{path.name}~*"):
        found = _read(left)
        if found and _expired(found, now):
            left.unlink(missing_ok=True)


def _expired(held: _Held, now: float) -> bool:
    """Long ago, or in a future that the disk's clock has not reached: a holder that is alive would have touched it since."""
    return abs(now - held.touched) >= EXPIRES


def _linked(aside: Path, path: Path) -> bool:
    """Give the file its second name, if nothing has that name: one step, on network file systems too."""
    try:
        os.link(aside, path)
        return True
    except FileExistsError:
        return aside.stat().st_nlink == 2  # NFS asked twice, and found its own
    except OSError as error:
        raise StoreError(
            f"{path.parent}: files there bear no second name ({error.strerror}), which leases need; allowed: another disk"
        ) from None


def _read(path: Path) -> _Held | None:
    """Opened, not looked up: what is opened NFS asks its server about."""
    try:
        with path.open("rb") as stream:
            token = (json_table(stream.read()) or {}).get("token")
            return _Held(token if isinstance(token, str) and token.isalnum() else "", os.fstat(stream.fileno()).st_mtime)
    except FileNotFoundError:
        return None


def _is(path: Path, token: str) -> bool:
    found = _read(path)
    return found is not None and found.token == token
