"""Disks that are full, whose quota is used up, that may not be written to, or tell no letters from capitals, in real mounts and pretended.

Pretended, an audit hook of Python refuses what would write below a folder: it sees whatever opens, makes, links, renames or removes, in C
too. Real ones need the right to mount, in a namespace of a process of its own.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CREATING = {"open", "os.mkdir", "os.link", "os.symlink"}
CHANGING = {*CREATING, "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Pretended:
    """What the audit hook of this process goes by; None while the disk is as it is."""

    act: Callable[[str, list[Path]], None] | None = None
    hooked = False


def _hook(event: str, arguments: tuple) -> None:
    if Pretended.act is None or event not in CHANGING:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
        return
    named = arguments[:2] if event in ("os.rename", "os.link") else arguments[1:2] if event == "os.symlink" else arguments[:1]
    paths = [Path(os.fsdecode(path)) for path in named if isinstance(path, str | bytes | os.PathLike)]
    act, Pretended.act = Pretended.act, None
    try:
        act(event, paths)
    finally:
        Pretended.act = act


@contextmanager
def pretended(act: Callable[[str, list[Path]], None]) -> Iterator[None]:
    """`act` is told each event and its paths before it happens; what it raises is what the system would say."""
    if not Pretended.hooked:
        sys.addaudithook(_hook)
        Pretended.hooked = True
    Pretended.act = act
    try:
        yield
    finally:
        Pretended.act = None


class Full:
    """A disk on which the n-th thing that takes room, and all after it, fail; `met` says how many were asked for."""

    def __init__(self, root: Path, after: int, code: int, monkeypatch):
        self.root, self.after, self.code, self.met = root, after, code, 0
        fsync = os.fsync

        def synced(handle):
            self.refuse(Path(os.readlink(f"/proc/self/fd/{handle}")), named=False)  # what a quota says in the end
            fsync(handle)

        monkeypatch.setattr(os, "fsync", synced)

    def __call__(self, event: str, paths: list[Path]) -> None:
        if event in CREATING:
            self.refuse(paths[-1] if paths else Path())

    def refuse(self, path: Path, named: bool = True) -> None:
        if path.is_relative_to(self.root):
            self.met += 1
            if self.met > self.after:
                raise OSError(self.code, os.strerror(self.code), *([str(path)] if named else []))


def read_only(root: Path) -> Callable[[str, list[Path]], None]:
    """Nothing below a folder may be changed."""

    def refuse(event: str, paths: list[Path]) -> None:
        if any(path.is_relative_to(root) for path in paths):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(paths[0]))

    return refuse


def without_capitals(met: list[tuple[str, str]]) -> Callable[[str, list[Path]], None]:
    """Notes a name that is made where one lies that differs from it by capitals alone: on such a disk they are one file."""

    def look(event: str, paths: list[Path]) -> None:
        if event in CREATING or event == "os.rename":
            path = paths[-1]
            folder = path.parent
            beside = os.listdir(folder) if folder.is_dir() else []
            met.extend((str(folder / name), str(path)) for name in beside if name != path.name and name.casefold() == path.name.casefold())

    return look


# ------------------------------------------------------------------------------------------------ real ones

NEW_NAMESPACE, RECURSIVE, PRIVATE, READ_ONLY, REMOUNT, BIND = 0x20000, 0x4000, 0x40000, 1, 32, 4096
LIBC = ctypes.CDLL(None, use_errno=True)


def apart() -> bool:
    """Leave the mounts of other processes: from now on this process has its own. False where that is not allowed."""
    try:
        return LIBC.unshare(NEW_NAMESPACE) == 0 and _mount(b"none", b"/", None, RECURSIVE | PRIVATE, None)
    except AttributeError:
        return False


def mount_memory(folder: Path, **options: str | int) -> bool:
    """An empty disk of memory, at most `size` bytes or `nr_inodes` files, or the same again of another size with `remount`."""
    folder.mkdir(parents=True, exist_ok=True)
    again = REMOUNT if options.pop("remount", False) else 0
    said = ",".join(f"{name}={value}" for name, value in options.items())
    return _mount(b"tmpfs", os.fsencode(folder), b"tmpfs", again, said.encode())


def mount_read_only(folder: Path) -> bool:
    place = os.fsencode(folder)
    return _mount(place, place, None, BIND, None) and _mount(place, place, None, BIND | REMOUNT | READ_ONLY, None)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> bool:
    return LIBC.mount(source, target, kind, flags, data) == 0
