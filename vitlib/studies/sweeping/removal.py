"""Taking runs and leftovers out of a store while drivers may be at work on it: each is claimed, moved aside whole, and removed then."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitlib.runs.claims.asking import Asking
from vitlib.runs.store import Store

REMOVED = ".removed"


@dataclass(frozen=True)
class Leftover:
    """What lies beside the stored runs, of a run by its id."""

    run_id: str
    path: Path
    kind: str


def remove_runs(store: Store, run_ids: Iterable[str]) -> list[str]:
    """Those that were removed: no process holds them, and no driver at work asks for them at that moment."""
    asking, removed = Asking(store), []
    for run_id in run_ids:
        with store.claim(run_id) as mine:
            if mine and run_id not in asking.now() and _moved(store, store.root / run_id):
                removed.append(run_id)
        empty(store)
    return removed


def remove_leftovers(store: Store, leftovers: Iterable[Leftover]) -> list[Leftover]:
    """Those that were removed; what belongs to a run that is computed now stays."""
    removed = []
    for leftover in leftovers:
        with store.claim(leftover.run_id) as mine:
            if mine and (_moved(store, leftover.path) or not leftover.path.exists()):
                removed.append(leftover)
        empty(store)
    return removed


def empty(store: Store) -> None:
    """Remove what was moved aside, by an earlier sweep that was killed too."""
    shutil.rmtree(store.root / REMOVED, ignore_errors=True)


def leftovers(store: Store, asked: set[str], older_than: float) -> Iterator[Leftover]:
    """Of runs that no study asks for: checkpoints and failures; of any run: half-written results and damaged ones; all older than that.

    A checkpoint of a run that is asked for stays, however old: the run goes on from it.
    """
    now = time.time()
    for folder, kind in ((".scratch", "checkpoint"), (".failed", "failure"), (".partial", "half-written"), (".damaged", "damaged")):
        for path in sorted(store.root.glob(f"{folder}/*")):
            run_id = _run_of(path, kind)
            spared = kind in ("checkpoint", "failure") and run_id in asked
            if not spared and now - _written(path) >= older_than:
                yield Leftover(run_id, path, kind)


def _run_of(path: Path, kind: str) -> str:
    """Names are RUN, RUN.txt, RUN~PROCESS and RUN-TIME-RANDOM."""
    if kind == "damaged":
        return path.name.rsplit("-", 2)[0]
    return path.name.partition("~")[0].partition(".")[0]


def _written(path: Path) -> float:
    """When anything of it was last written: a checkpoint is written anew inside its folder."""
    try:
        return max(place.stat().st_mtime for place in (path, *path.glob("*")))
    except FileNotFoundError:
        return time.time()


def _moved(store: Store, path: Path) -> bool:
    aside = store.root / REMOVED
    aside.mkdir(exist_ok=True)
    try:
        path.rename(aside / f"{path.name}~{uuid.uuid4().hex[:8]}")
    except FileNotFoundError:
        return False
    return True
