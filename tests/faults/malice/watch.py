"""What a hostile file must not do: run code, start a program, write outside its folder, or take memory and disk without end."""

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MEMORY = 2**30  # bytes beyond what the process had; an archive may unpack to half of it
DISK = 2**26
SECONDS = 20.0  # of processor time, on a slow core
RUNNING = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pickle.find_class", "webbrowser.open"}
CHANGING = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Watch:
    """The folder of a case, the file that a payload would make, and what was done that must not be."""

    inside: Path
    canary: Path
    wrong: list[str] = field(default_factory=list)

    def saw(self, event: str, arguments: tuple) -> None:
        if event in RUNNING:
            self.wrong.append(f"{event} {arguments[:2]!r}")
        elif event in CHANGING and not self.allows(arguments[0]):
            self.wrong.append(f"{event} of {arguments[0]!r}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING and not self.allows(arguments[0]):
            self.wrong.append(f"{arguments[0]!r} opened to be written")

    def allows(self, path) -> bool:
        if isinstance(path, int):
            return True
        text = os.path.realpath(os.fsdecode(path))
        return text.startswith(f"{self.inside}{os.sep}") or text == str(self.inside) or "__pycache__" in text or text.startswith("/dev/")


_watches: list[Watch] = []


def _hook(event, arguments):
    for watch in _watches:
        watch.saw(event, arguments)


sys.addaudithook(_hook)  # cannot be taken away: it passes all while nothing is watched


@contextmanager
def watched(watch: Watch):
    """Assert that nothing was done that must not be, and that memory, disk and time stayed within bounds."""
    before, began = _memory(reset=True), time.process_time()
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)
    assert watch.wrong == []
    assert not watch.canary.exists(), "code was run"
    assert _memory() - before < MEMORY
    assert sum(path.lstat().st_size for path in watch.inside.rglob("*") if path.is_file() and not path.is_symlink()) < DISK
    assert time.process_time() - began < SECONDS


def _memory(reset: bool = False) -> int:
    """The most bytes that this process held since the last reset; 0 where the system does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
