"""What happens on a node: its look at itself, and a run in a store of its own, with ancestors that are fetched when it asks for them.

Nothing here reads or writes the driver's store: a node may be a machine that has no disk in common with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitlib.dumped import rebuild
from vitlib.runs.clock.progress import seldom
from vitlib.runs.executors.on_ray.versions import require_same, versions
from vitlib.runs.plan import Place
from vitlib.runs.preflight import preflight
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.runs.workers.one import compute_one
from vitlib.runs.workers.slots import smallest_card
from vitlib.spec import RunSpec, SpecError

DATA = "VITLIB_NODE_DATA"  # folder of a node's data sets, where it is another than the driver's
Files = dict[str, bytes]


@dataclass(frozen=True)
class Order:
    """A run to compute.

    Args:
        spec: as `vitlib.spec.dump` gives it.
        place: the driver's; of it a node takes how to compute, and not where to store.
        until: the deadline on the clock `time.time`, which machines share, more or less.
        key: of the driver's store.
        versions: of the driver.
    """

    spec: dict[str, Any]
    place: Place
    until: float
    key: str
    versions: dict[str, str]


@dataclass
class Report:
    """What became of it.

    Args:
        files: of the stored run.
        scratch: of an interrupted one, with its checkpoint.
        failures: reason and traceback by run, to be recorded.
    """

    outcome: str
    seconds: float = 0.0
    reason: str = ""
    files: Files = field(default_factory=dict)
    scratch: Files = field(default_factory=dict)
    failures: dict[str, tuple[str, str]] = field(default_factory=dict)


def look(specs: list[dict[str, Any]], data_dir: Path, driver: dict[str, str]) -> tuple[dict[str, str], str, int]:
    """Versions of this node, why it cannot compute these runs, and bytes of its smallest GPU."""
    found = versions()
    if found != driver:
        return found, "", 0
    _sweep()
    try:
        preflight(map(rebuild, specs), _data_dir(data_dir))
    except SpecError as error:
        return found, str(error), 0
    return found, "", smallest_card()


def compute(order: Order, board: Any, scratch: Files, ancestors: dict[str, Any]) -> Report:
    """Compute a run, going on from a checkpoint where there is one; never raises what the run raised.

    Args:
        board: the actor that hears how far it is.
        scratch: files of its interrupted beginning.
        ancestors: by id, references to the files of stored runs.
    """
    require_same(order.versions, versions(), os.uname().nodename)
    spec = rebuild(order.spec)
    board.say.remote(spec.id, None)
    with _private_store(order.key, spec.id, ancestors) as store:
        _put(store.scratch(spec.id), scratch)
        deadline = time.monotonic() + order.until - time.time()
        place = replace(order.place, results_dir=store.root, data_dir=_data_dir(order.place.data_dir), deadline=deadline)
        try:
            outcome = compute_one(spec, store, place, seldom(lambda *how_far: board.say.remote(spec.id, how_far)))
        except Exception as error:
            return Report("failed", reason=f"{type(error).__name__}: {error}", failures=_failures(store))
        if outcome.what == "stored":
            return Report("stored", outcome.seconds, files=store.files(spec.id))
        return Report(outcome.what, scratch=taken(store.scratch(spec.id)))


@contextmanager
def _private_store(key: str, run_id: str, ancestors: dict[str, Any]) -> Iterator[Store]:
    """For one run. A killed task leaves its checkpoint there, which the next one on this node goes on from."""
    root = _home() / f"{key}-{run_id}"
    for path in root.iterdir() if root.exists() else ():
        if path.name != ".scratch":
            shutil.rmtree(path)
    yield _WithAncestors(root, ancestors)
    shutil.rmtree(root, ignore_errors=True)


class _WithAncestors(Store):
    """A store that fetches runs when they are read for the first time."""

    def __init__(self, root: Path, references: dict[str, Any]):
        super().__init__(root)
        self._references = references

    def open(self, run_id: str, asked: RunSpec | None = None) -> Stored:
        self._fetch(run_id)
        return super().open(run_id, asked)

    def read(self, run_id: str, asked: RunSpec | None = None) -> Stored:
        self._fetch(run_id)
        return super().read(run_id, asked)

    def _fetch(self, run_id: str) -> None:
        if run_id in self._references and run_id not in self:
            import ray

            self.install(run_id, ray.get(self._references[run_id]))


def _home() -> Path:
    """Of this user on this node, closed to others."""
    folder = Path(tempfile.gettempdir(), f"vitlib-{os.getuid()}-nodes")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to someone else")
    return folder


def _sweep(days: float = 7) -> None:
    """Remove what killed tasks left and nobody came back to."""
    for folder in _home().iterdir():
        if time.time() - folder.stat().st_mtime > days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def _data_dir(given: Path) -> Path:
    return Path(os.environ.get(DATA) or given)


def _put(folder: Path, files: Files) -> None:
    """Unless a task that was killed on this node came further."""
    if not (folder / "checkpoint.pt").exists():
        put(folder, files)


def put(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def taken(folder: Path) -> Files:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def _failures(store: Store) -> dict[str, tuple[str, str]]:
    folder = store.root / ".failed"
    logs = {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("*.log")}
    return {path.stem: (path.read_text(encoding="utf-8", errors="replace"), logs.get(path.stem, "")) for path in folder.glob("*.txt")}
