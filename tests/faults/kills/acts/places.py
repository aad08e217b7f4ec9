"""Where acts begin and what a reader finds there at any moment."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.runs.support import FACTS
from tests.support import Number, context
from vitlib.computing import result_of
from vitlib.dumped import rebuild
from vitlib.runs.manifest import DamagedError
from vitlib.runs.plan import Place
from vitlib.runs.store import Store

ONE, TWO, THREE = (Number(value=value) for value in (1, 2, 3))
Seen = dict[str, Any]


def store_of(folder: Path) -> Store:
    return Store(folder / "results")


def place_of(folder: Path) -> Place:
    return Place(folder / "results", folder / "data", device="cpu")


def stored(*specs: Number) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "data").mkdir(exist_ok=True)
        for spec in specs:
            store_of(folder).put(spec, result_of(spec, context(folder / "data")), FACTS)

    return prepare


def runs(folder: Path) -> Seen:
    """Stored runs by what they hold but for times, and reasons of failures."""
    store = Store(folder / "results", writable=False)
    found = {run_id: _run(store, run_id) for run_id in store.ids()}
    failed = (folder / "results" / ".failed").glob("[!.]*")
    found |= {path.name: path.read_text() for path in failed}
    return found


def _run(store: Store, run_id: str) -> str:
    try:
        spec = store.read(run_id).spec
        files = store.files(run_id)
    except DamagedError:
        return "damaged"
    if rebuild(spec).timed:
        return "stored"
    return hashlib.sha256(
        repr(sorted((name, content) for name, content in files.items() if name != "provenance.json")).encode()
    ).hexdigest()


def files(folder: Path) -> Seen:
    """What lies among the figures: every file that a person would open."""
    found = sorted(path for path in (folder / "figures").rglob("[!.]*") if path.is_file() and path.suffix != ".partial")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
