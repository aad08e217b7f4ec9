"""What lies in a store, sorted by why it is kept and why it may go."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlib.dumped import rebuild
from vitlib.runs.manifest import MANIFEST, json_table
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

ASKED = "asked for by a profile, or by changes whose figures are kept"
BUSY = "computed now, or asked for by a driver at work"
NEWER = "newer than --older-than"
NEEDED = "a kept run starts from them"
OTHERS = "of settings of your own: overrides, added seeds, compress, your_model"
OUTDATED = "described by code of another version: nothing asks for them any more"
BROKEN = "their description cannot be read"


@dataclass(frozen=True)
class Run:
    """A stored run that no study asks for.

    Attributes:
        written: when, in seconds since 1970.
        own: what it was described with, as stored; empty where that cannot be read.
        spec: the same as today's code describes it, if that is the same run.
    """

    id: str
    written: float
    own: dict[str, Any]
    spec: RunSpec | None


@dataclass(frozen=True)
class Limits:
    """Seconds since something was written, from which on it may go: a stored run, and what is left of runs that were not stored."""

    runs: float
    leftovers: float


def sorted_out(store: Store, asked: set[str], busy: set[str], limits: Limits, goes: Collection[str]) -> dict[str, list[str]]:
    """The ids of all stored runs by one of the reasons above, the newest first.

    Args:
        goes: reasons for which runs go; what a run that is kept starts from is kept for that reason.
    """
    every = store.ids()
    unasked = sorted((_run(store, run_id) for run_id in every if run_id not in asked), key=lambda run: -run.written)
    reasons = {run.id: _reason(run, busy, limits) for run in unasked}
    kept = [run for run in unasked if reasons[run.id] not in goes]
    reasons |= {run_id: NEEDED for run_id in _ancestors(kept, unasked) if reasons[run_id] in goes}
    found: dict[str, list[str]] = {ASKED: [run_id for run_id in every if run_id in asked]}
    for run_id, reason in reasons.items():
        found.setdefault(reason, []).append(run_id)
    return found


def _run(store: Store, run_id: str) -> Run:
    folder = store.root / run_id
    try:
        own = json_table((folder / "spec.json").read_bytes()) or {}
    except OSError:
        own = {}
    own.pop("id", None)
    try:
        written = os.stat(folder / MANIFEST).st_mtime
    except OSError:
        written = time.time()  # it changes at this moment
    return Run(run_id, written, own, _described(own, run_id))


def _described(own: dict[str, Any], run_id: str) -> RunSpec | None:
    try:
        spec = rebuild(own)
    except Exception:  # of a class or fields that today's code does not have, in whatever way it says so
        return None
    return spec if spec.id == run_id else None


def _reason(run: Run, busy: set[str], limits: Limits) -> str:
    if run.id in busy:
        return BUSY
    if time.time() - run.written < limits.runs:
        return NEWER
    if run.spec:
        return OTHERS
    return OUTDATED if run.own else BROKEN


def _ancestors(kept: list[Run], among: list[Run]) -> set[str]:
    """Those of `among` that kept runs start from: by identity where today's code describes them, and by what was written down of them."""
    by_text, ids = {_text(run.own): run.id for run in among}, {run.id for run in among}
    found: set[str] = set()
    for run in kept:
        found |= {member.id for member in run.spec.family()} if run.spec else set()
        found |= {by_text[text] for text in map(_text, _inside(run.own.get("fields"))) if text in by_text}
        found |= {spec.id for own in _inside(run.own.get("fields")) if (spec := _as_today(own))}
    return (found - {run.id for run in kept}) & ids


def _as_today(own: dict[str, Any]) -> RunSpec | None:
    try:
        return rebuild(own)
    except Exception:  # as above
        return None


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    """The runs that a run was described with, at any depth."""
    if isinstance(value, dict):
        if set(value) == {"type", "version", "fields"}:
            yield value
        for inner in value.values():
            yield from _inside(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _inside(inner)


def _text(own: dict[str, Any]) -> str:
    return json.dumps(own, sort_keys=True)


def mib(folder: Path) -> float:
    """What files of a folder hold; a single file too."""
    places = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in places) / 2**20
