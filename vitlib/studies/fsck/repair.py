"""Mending a store: what is damaged is set aside, and taken from archives of results where one has it; what processes left is tidied up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vitlib.runs import archive
from vitlib.runs.manifest import StoreError
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import Store
from vitlib.studies.fsck.findings import NUMBERS_AT_RISK, Finding, of_run


def repair(store: Store, found: Iterable[Finding], archives: Iterable[Path]) -> Iterator[str]:
    """Mend what was found; a line for each thing that was done. What another process holds is left to it."""
    found = list(found)
    at_risk = [finding.name for finding in found if finding.kind in NUMBERS_AT_RISK]
    kept = _kept(set(at_risk), archives)
    for run_id in at_risk:
        yield f"{run_id}: {_mended(store, run_id, kept.get(run_id))}"
    for finding in found:
        if finding.kind == "half-written":
            yield f"{finding.name}: {_finished(store, Path(finding.name).name.partition('~')[0])}"
    store.sweep()
    if any(finding.kind == "left behind" for finding in found):
        yield "checkpoints of stored runs removed"


def _mended(store: Store, run_id: str, files: dict[str, bytes] | None) -> str:
    with store.claim(run_id) as mine:
        if not mine:
            return "another process is at it; left as it is"
        if not any(finding.kind in NUMBERS_AT_RISK for finding in of_run(store, run_id)):
            return "mended or removed by another process meanwhile"
        if files is None:
            return f"set aside as {store.set_aside(run_id).relative_to(store.root)}; the next driver computes it again"
        aside = store.mend(run_id, files)
        without = ", without weights" if WEIGHTS not in files and (aside / WEIGHTS).exists() else ""
        return f"taken from an archive{without}; what was damaged is kept as {aside.relative_to(store.root)}"


def _finished(store: Store, run_id: str) -> str:
    """Whoever claims a run finishes or removes what a killed writer of it left."""
    with store.claim(run_id) as mine:
        if not mine:
            return "another process is at it; left as it is"
    return "finished: it was whole" if run_id in store else "removed: it was not whole"


def _kept(run_ids: set[str], archives: Iterable[Path]) -> dict[str, dict[str, bytes]]:
    """The files of these runs, from the first archive that has them; an archive that cannot be read is passed over."""
    found: dict[str, dict[str, bytes]] = {}
    for path in archives:
        try:
            if wanted := run_ids - found.keys() & archive.names(path):
                found |= {run_id: files for run_id, files in archive.read(path).items() if run_id in wanted}
        except StoreError:
            continue
    return found
