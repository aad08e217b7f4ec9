"""What is not as it should be in a store, each thing by kind and name; nothing is changed by looking."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitlib.dumped import identity, rebuild
from vitlib.runs.manifest import DamagedError, json_table
from vitlib.runs.provenance import code_fingerprint
from vitlib.runs.store import Store
from vitlib.spec import RunSpec, SpecError

Kind = Literal["damaged", "mislabelled", "half-written", "left behind", "failed", "stale", "set aside", "of another version", "foreign"]
RUN = re.compile(r"[a-z0-9_]+-[0-9a-f]{16}")  # the name of a run's folder
NUMBERS_AT_RISK = ("damaged", "mislabelled")
ABOUT: dict[Kind, str] = {
    "damaged": "bytes that are not those that were written; never shown as a number",
    "mislabelled": "a whole run whose description is that of another",
    "half-written": "what a process wrote when it ended; the next driver finishes or removes it",
    "left behind": "checkpoints of runs that are stored",
    "failed": "why a run could not be computed; mode='retry' tries again",
    "stale": "computed by an earlier state of the code",
    "set aside": "damaged before, and kept to be looked at",
    "of another version": "described by a class that this version of vitlib does not have",
    "foreign": "nothing that vitlib has written",
}


@dataclass(frozen=True)
class Finding:
    """`name` is a run's id, or a path below the store's folder."""

    kind: Kind
    name: str
    said: str = ""


def findings(store: Store, tick: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Finding]:
    """All of a store, run after run: every byte of it is read.

    Args:
        tick: is told how many of how many runs were read.
    """
    ids = store.ids()
    for done, run_id in enumerate(ids):
        tick(done, len(ids))
        yield from of_run(store, run_id)
    yield from _beside(store)


def of_run(store: Store, run_id: str) -> Iterator[Finding]:
    """What is wrong with one run; nothing where it is gone."""
    try:
        files = store.files(run_id)
    except DamagedError as error:
        yield Finding("damaged", run_id, str(error).removeprefix(f"{run_id}: "))
        return
    except KeyError:  # removed while this looks
        return
    dumped = json_table(files["spec.json"]) or {}
    try:
        described = identity(dumped)
    except SpecError as error:
        yield Finding("of another version", run_id, str(error).splitlines()[0])
        return
    if described != run_id:
        yield Finding("mislabelled", run_id, f"its fields are those of {described}")
    elif _is_stale(rebuild(dumped), files["provenance.json"]):
        yield Finding("stale", run_id)


def _is_stale(spec: RunSpec, provenance: bytes) -> bool:
    return (json_table(provenance) or {}).get("code") != code_fingerprint(type(spec))


def _beside(store: Store) -> Iterator[Finding]:
    """What lies there beside stored runs; other folders belong to other parts of vitlib, or to the file system."""
    for path in sorted(store.root.iterdir()) if store.root.is_dir() else ():
        if path.name in BESIDE:
            yield from BESIDE[path.name](store, path)
        elif path.is_file() and not path.name.startswith("."):
            yield Finding("foreign", path.name)
        elif RUN.fullmatch(path.name) and path.name not in store:
            yield Finding("damaged", path.name, "it has no manifest")


def _partials(store: Store, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        yield Finding("half-written", f"{folder.name}/{path.name}", "or being written now")


def _checkpoints(store: Store, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        if path.name in store and not store.failure(path.name):
            yield Finding("left behind", f"{folder.name}/{path.name}")


def _failures(store: Store, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob("*.txt")):
        yield Finding("failed", path.stem, (path.read_text(encoding="utf-8").splitlines() or [""])[0])


def _set_aside(store: Store, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        yield Finding("set aside", f"{folder.name}/{path.name}")


BESIDE = {".partial": _partials, ".scratch": _checkpoints, ".failed": _failures, ".damaged": _set_aside}
