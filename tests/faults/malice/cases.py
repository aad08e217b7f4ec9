"""A hostile file as a named case: how it is made, who reads it, and what is said of it. Start from `case` and `CASES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HARMLESS = "harmless"  # what is hostile in it is left aside, and the rest is read


@dataclass(frozen=True)
class Case:
    """`make(folder, canary)` writes the file and returns its path; `read(path)` is what vitlib does with it."""

    name: str
    make: Callable[[Path, Path], Path]
    read: Callable[[Path], object]
    said: str
    long: bool = False


CASES: dict[str, Case] = {}


def case(name: str, read: Callable, said: str, long: bool = False) -> Callable:
    """Enter a function as how a case is made; `said` is a pattern in the refusal, or `HARMLESS`."""

    def entered(make: Callable) -> Callable:
        assert name not in CASES, name
        CASES[name] = Case(name, make, read, said, long)
        return make

    return entered


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class Call:
    """Pickled as a call."""

    def __init__(self, function: Callable, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def code(canary: Path) -> str:
    """Python that would leave a trace."""
    return f"open({str(canary)!r}, 'w').close()"
