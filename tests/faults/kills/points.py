"""The named points of an operation: what it asks of the file system below a folder, before and after each change and inside each write.

Within `recorded` every change that Python asks for goes through here, whichever library asks. A process may be killed at a point; the
changes, with the bytes that they wrote, say what a disk may hold after a power cut (see `disks`).
"""

import builtins
import io
import os
import signal
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

IGNORED = "data"  # below the folder: logs and inputs of the tests
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Change:
    """`path` and `other`, where a rename or a link leads, are relative to the folder."""

    kind: str
    path: str
    other: str = ""
    offset: int = 0
    content: bytes = b""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}" + (f" -> {self.other}" if self.other else "")


@dataclass
class Recorder:
    """Points in their order, and the changes between them.

    Attributes:
        kill_at: number of the point at which this process kills itself; None for none.
    """

    folder: Path
    kill_at: int | None = None
    points: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def point(self, name: str) -> None:
        if len(self.points) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points.append(name)

    def inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path relative to the folder, or None for what is not recorded."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        text = os.fspath(path)
        text = os.fsdecode(text) if isinstance(text, bytes) else text
        start = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        text = os.path.normpath(os.path.join(start, text))
        if text == str(self.folder):
            return "."
        found = text.removeprefix(f"{self.folder}{os.sep}")
        return None if found == text or found.partition(os.sep)[0] == IGNORED else found

    def changed(self, change: Change) -> None:
        self.changes.append(change)
        self.point(f"after {change}")

    def wrapped(self, kind: str, real: Any) -> Any:
        """One function of `os` that takes a path, or a file's number."""

        def act(path, *arguments, dir_fd=None, **keywords):
            if (found := self.inside(path, dir_fd)) is None:
                return real(path, *arguments, **keywords, **_given(dir_fd))
            change = Change(kind, found, offset=arguments[0] if kind == "truncate" else 0)
            self.point(f"before {change}")
            done = real(path, *arguments, **keywords, **_given(dir_fd))
            self.changed(change)
            return done

        return act

    def moving(self, kind: str, real: Any) -> Any:
        def act(source, target, *directory, **keywords):
            found = self.inside(source) if kind != "symlink" else os.fspath(source), self.inside(target)
            if found[1] is None:
                return real(source, target, *directory, **keywords)
            change = Change(kind, *found)
            self.point(f"before {change}")
            done = real(source, target, *directory, **keywords)
            self.changed(change)
            return done

        return act

    def opening(self, real: Any) -> Any:
        """`os.open`: a new file is a change, and so is one cut to nothing."""

        def act(path, flags, mode=0o777, *, dir_fd=None):
            found = self.inside(path, dir_fd)
            if found is None or not flags & WRITING or flags & os.O_TMPFILE == os.O_TMPFILE:
                return real(path, flags, mode, **_given(dir_fd))
            new = not os.path.lexists(path)
            self.point(f"before opening {found}")
            handle = real(path, flags, mode, **_given(dir_fd))
            self.opened(found, new, bool(flags & os.O_TRUNC))
            return handle

        return act

    def opened(self, path: str, new: bool, cut: bool) -> None:
        if new:
            self.changed(Change("create", path))
        elif cut:
            self.changed(Change("truncate", path))

    def writing(self, real: Any) -> Any:
        """`os.write`, in two halves."""

        def act(handle, content):
            found = self.inside(handle)
            if found is None:
                return real(handle, content)
            offset = os.lseek(handle, 0, os.SEEK_CUR)
            return self.halves(found, offset, content, lambda part: real(handle, part))

        return act

    def halves(self, path: str, offset: int, content: Any, write: Any) -> int:
        content, done = bytes(content), 0
        for part in filter(None, (content[: len(content) // 2], content[len(content) // 2 :])):
            self.point(f"before writing {len(part)} bytes of {path} at {offset + done}")
            write(part)
            self.changes.append(Change("write", path, offset=offset + done, content=part))
            done += len(part)
        self.point(f"after writing {path}")
        return done


def _given(dir_fd: int | None) -> dict[str, int]:
    return {} if dir_fd is None else {"dir_fd": dir_fd}


def _opening_files(recorder: Recorder, real: Any) -> Any:
    """`open`, whose raw files tell the recorder what is written."""

    class Raw(io.FileIO):
        def __init__(self, path, mode):
            self.told = recorder.inside(path)
            new = not os.path.lexists(path)
            recorder.point(f"before opening {self.told}")
            super().__init__(path, mode)
            recorder.opened(self.told, new, "w" in mode)

        def write(self, content):
            offset = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
            return recorder.halves(self.told, offset, content, super().write)

        def truncate(self, size=None):
            size = self.tell() if size is None else size
            recorder.point(f"before truncate {self.told}")
            done = super().truncate(size)
            recorder.changed(Change("truncate", self.told, offset=size))
            return done

    def act(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if isinstance(file, int) or opener or not set(mode) & set("wax+") or recorder.inside(file) is None:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

    return act


@contextmanager
def recorded(folder: Path, kill_at: int | None = None) -> Iterator[Recorder]:
    """What happens below a folder within, and its points, the last of which is the end; for a process of its own."""
    recorder = Recorder(folder, kill_at)
    opened = _opening_files(recorder, io.open)
    of_os = {name: recorder.wrapped(name, getattr(os, name)) for name in ("fsync", "unlink", "mkdir", "rmdir", "truncate")}
    of_os |= {"remove": recorder.wrapped("unlink", os.remove), "ftruncate": recorder.wrapped("truncate", os.ftruncate)}
    of_os |= {name: recorder.moving("rename", getattr(os, name)) for name in ("rename", "replace")}
    of_os |= {name: recorder.moving(name, getattr(os, name)) for name in ("link", "symlink")}
    of_os |= {"open": recorder.opening(os.open), "write": recorder.writing(os.write)}
    with ExitStack() as stack:
        for owner, name in ((builtins, "open"), (io, "open"), (tarfile, "bltn_open")):
            stack.enter_context(patch.object(owner, name, opened))
        for name, act in of_os.items():
            stack.enter_context(patch.object(os, name, act))
        yield recorder
        recorder.point("the end")
