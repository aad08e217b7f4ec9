"""One fault after the other made in a copy of the checkout, and the tests that ought to notice it run there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from tests.faults.mutants import child
from tests.faults.mutants.fault import Fault
from tests.support import ROOT

LIMIT = 300.0  # seconds that tests have; who takes longer hangs
PASSED, FAILED, BROKEN_OFF = 0, 1, 2  # exit statuses of pytest; the last where a module cannot be imported
LEFT_OUT = {"results", "data", "build", "site"}
OTHERS = ("tests/faults", "--ignore=tests/faults/mutants")


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a fault: `noticed` is the first test that failed, or what was run for too long."""

    what: Literal["caught", "hung", "lived"]
    noticed: str = ""


class Copy:
    """The checkout in another folder, in which faults are made and mended."""

    def __init__(self, folder: Path, preloaded: Sequence[str] = child.PRELOADED):
        self.root, self.temporary, self._preloaded = folder / "checkout", folder / "temporary", preloaded
        self.temporary.mkdir(parents=True)
        self.root.mkdir()
        for path in ROOT.iterdir():
            if path.is_dir() and not path.name.startswith(".") and path.name not in LEFT_OUT:
                shutil.copytree(path, self.root / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_file() and path.name != ".git":
                shutil.copy2(path, self.root)

    def __enter__(self) -> Self:
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, "-P", child.__file__, *self._preloaded]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=own)
        return self

    def __exit__(self, *_) -> None:
        self._child.communicate()

    def outcome(self, fault: Fault, places: Sequence[str]) -> Outcome:
        """What tests say to a fault."""
        with self._made(fault):
            return self._tested(places)

    def require_sound(self, tests: Sequence[str]) -> None:
        """Refuse tests that fail without a fault, too.

        Raises:
            RuntimeError: naming the first.
        """
        if tests and (without := self._tested(tests)).what != "lived":
            raise RuntimeError(f"{without.noticed}: {without.what} without a fault")

    @contextmanager
    def _made(self, fault: Fault) -> Iterator[None]:
        path = self.root / fault.file
        before = path.read_bytes()
        path.write_text(fault.made_in(self.root), encoding="utf-8")
        _forget_compiled(path)
        try:
            yield
        finally:
            path.write_bytes(before)
            _forget_compiled(path)

    def _tested(self, places: Sequence[str]) -> Outcome:
        said = self.root.parent / "said"
        order = {"limit": LIMIT, "root": str(self.root), "temporary": str(self.temporary), "said": str(said), "places": list(places)}
        print(json.dumps(order), file=self._child.stdin, flush=True)
        status = json.loads(self._child.stdout.readline())
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(exist_ok=True)
        if status is None:
            return Outcome("hung", " ".join(places))
        if status not in (PASSED, FAILED, BROKEN_OFF):
            raise RuntimeError(f"{places}: pytest ended with {status}\n{said.read_text()}")
        return Outcome("caught", _first(said.read_text())) if status else Outcome("lived")


def room(fault: Fault) -> tuple[str, ...]:
    """Where the tests lie of the part of vitlib that the fault is in, and those of what breaks."""
    _, name, *inner = Path(fault.file).parts
    if not inner:
        return "tests/house", *OTHERS
    return f"tests/papers/{inner[0]}" if name == "papers" else f"tests/{name}", *OTHERS


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
