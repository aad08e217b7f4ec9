"""Files that are whole or not there, whatever ends the process, or the machine, while they are written.

A file is written aside, brought to the disk and renamed: a reader finds the one before or the new one. Without the second step a disk may
keep the name of a file and not yet what is in it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"  # then the number of the process that writes, and the file's name


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside it, of the same suffix, to write to; it takes the path's place where the block ends well, and is gone otherwise.

    Each process has a name of its own: of several that write the same file, the last one's stays, whole.
    """
    _remove_leftovers(path)
    aside = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        with naming(path):
            yield aside
            sync(aside)
            aside.replace(path)
            sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """What processes that were killed left of the same file."""
    for left in path.parent.glob(f"{UNFINISHED}*-{glob.escape(path.name)}"):
        writer = left.name.removeprefix(UNFINISHED).partition("-")[0]
        if writer.isdecimal() and not _lives(int(writer)):
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True


def write(path: Path, content: bytes) -> None:
    """A file that is on the disk when this returns, but for its name: `sync` its folder for that."""
    with naming(path), path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system names the file: of a full disk it names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make(folder: Path) -> None:
    """A folder, and those above it that are missing, each on the disk with its name."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until what a file holds, or which names a folder has, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)
