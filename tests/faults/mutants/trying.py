"""One fault after the other made in a copy of the checkout, and the tests that ought to notice it run there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.mutants.fault import Fault
from tests.support import ROOT

LIMIT = 600.0  # seconds that tests have; who takes longer hangs
PASSED, FAILED, BROKEN_OFF = 0, 1, 2  # exit statuses of pytest; the last where a module cannot be imported
LEFT_OUT = {"results", "data", "build", "site"}
OTHERS = ("tests/faults", "--ignore=tests/faults/mutants")
OF_A_PLACE = re.compile(r"VITLIB_\w+|PYTEST_\w+")  # settings and marks of this run that must not reach those


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a fault: `noticed` is the first test that failed, or what was run for too long."""

    what: Literal["caught", "hung", "lived"]
    noticed: str = ""


class Copy:
    """The checkout in another folder, in which faults are made and mended."""

    def __init__(self, folder: Path):
        self.root, self.temporary = folder / "checkout", folder / "temporary"
        self._sound: set[str] = set()
        self.temporary.mkdir(parents=True)
        self.root.mkdir()
        for path in ROOT.iterdir():
            if path.is_dir() and not path.name.startswith(".") and path.name not in LEFT_OUT:
                shutil.copytree(path, self.root / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_file() and path.name != ".git":
                shutil.copy2(path, self.root)

    def outcome(self, fault: Fault) -> Outcome:
        """By the tests that are named for the fault; if they see nothing, by all of the room, and those of other faults.

        Raises:
            RuntimeError: where a test that noticed fails without the fault too.
        """
        for places in (fault.tests, (room(fault), *OTHERS)):
            with self._made(fault):
                outcome = self._tested(places)
            if outcome.what != "lived":
                self._require_sound(outcome, places)
                break
        return outcome

    @contextmanager
    def _made(self, fault: Fault):
        path = self.root / fault.file
        before = path.read_bytes()
        path.write_text(fault.made_in(self.root), encoding="utf-8")
        _forget_compiled(path)
        try:
            yield
        finally:
            path.write_bytes(before)
            _forget_compiled(path)

    def _require_sound(self, outcome: Outcome, places: tuple[str, ...]) -> None:
        asked = (outcome.noticed,) if outcome.what == "caught" else places
        if not self._sound.issuperset(asked):
            if (without := self._tested(asked)).what != "lived":
                raise RuntimeError(f"{without.noticed or asked}: {without.what} without a fault")
            self._sound.update(asked)

    def _tested(self, places: tuple[str, ...]) -> Outcome:
        own = {name: value for name, value in os.environ.items() if not OF_A_PLACE.fullmatch(name)}
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *places],
            cwd=self.root,
            env=own | {"PYTHONPATH": str(self.root), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return Outcome("hung", " ".join(places))
        finally:
            _end(process)
            shutil.rmtree(self.temporary)
            self.temporary.mkdir()
        if process.returncode not in (PASSED, FAILED, BROKEN_OFF):
            raise RuntimeError(f"{places}: pytest ended with {process.returncode}\n{said}")
        return Outcome("caught", _first(said)) if process.returncode else Outcome("lived")


def room(fault: Fault) -> str:
    """Where the tests lie of the part of vitlib that the fault is in."""
    _, name, *inner = Path(fault.file).parts
    if not inner:
        return "tests/house"
    return f"tests/papers/{inner[0]}" if name == "papers" else f"tests/{name}"


def _first(said: str) -> str:
    """The first test that failed, by its name, as `-ra` lists it."""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    if not found:
        raise RuntimeError(f"no test is named that failed:\n{said}")
    return found[1]


def _forget_compiled(path: Path) -> None:
    """Python goes by the size and the second of a source's writing."""
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def _end(process: subprocess.Popen) -> None:
    """With what its tests started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
