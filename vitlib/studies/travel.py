"""Results that travel: `results.tar.xz` beside a study's tables holds its runs without weights, so that a reader draws them again.

`leave` writes it from the store, all runs of the study or none, but for heavy ones, which explorers alone read. `completed` takes from it
what the store lacks, and writes nothing.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cache, partial
from pathlib import Path
from typing import Any

from vitlib import paths
from vitlib.grid.changes import folder_name
from vitlib.grid.grid import Grid
from vitlib.runs.archive import LARGEST, export, names, read
from vitlib.runs.manifest import DamagedError, StoreError, json_table, require_described
from vitlib.runs.reading.damage import otherwise, shown_as_missing
from vitlib.runs.reading.stored import Stored
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

NAME = "results.tar.xz"
HEAVY = 2**20  # bytes of a run's arrays: attention maps, which explorers alone read
TABLES = ("result.json", "provenance.json", "spec.json")
log = logging.getLogger("vitlib")


class Archived(Stored):
    """A run from an archive of results; weights that it kept stayed where it was computed."""

    def __init__(self, folder: Path, files: dict[str, bytes]):
        super().__init__(folder.parent, folder.name, {})
        self._files = files

    @property
    def weights(self) -> None:
        return None

    def _content(self, name: str) -> bytes | None:
        """Checked when the archive was read."""
        return self._files.get(name)


def is_archived(run: Stored) -> bool:
    """Whether a run comes from an archive, in place of a damaged one too."""
    return isinstance(run, Archived) or isinstance(run.instead, Archived)


def leave(study: Grid, with_weights: Set[str] = frozenset()) -> None:
    """Write the runs of the study's own cells beside its tables, but for those with more than `HEAVY` arrays.

    Args:
        with_weights: ids of the runs whose weights travel as well.

    Where one of them is not stored whole, what lies there stays, and one line says so: an archive with holes would pass for all, and
    the one that it would replace may be the only whole one.

    Raises:
        StoreError: for an archive that cannot be written.
    """
    store = Store(study.place.results_dir, writable=False)
    archive = study.folder / NAME
    if missing := [run_id for run_id in study.specs if run_id not in store]:
        log.warning("%s: not written, %d of %d runs are not stored", archive, len(missing), len(study.specs))
        return
    try:
        export(store, [run_id for run_id in study.specs if not _is_heavy(store, run_id)], archive, with_weights)
    except DamagedError as error:
        log.warning("%s: not written, a stored run is damaged: %s", archive, error)


def _is_heavy(store: Store, run_id: str) -> bool:
    arrays = store.root / run_id / "arrays.npz"
    return arrays.exists() and arrays.stat().st_size > HEAVY


def started_from(study: Grid, store: Store) -> set[str]:
    """The stored runs that missing ones of the study start from: only their weights are of use where it goes on."""
    missing = [spec for spec in study.specs.values() if spec.id not in store]
    found: set[str] = set()
    while missing:
        parents = {parent.id: parent for spec in missing for parent in spec.parents()}
        found |= {run_id for run_id in parents if run_id in store}
        missing = [parent for run_id, parent in parents.items() if run_id not in found]
    return found


def completed(study: Grid, stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """What is stored, and the study's own runs beyond it that the archive of its profile has, here or in the checkout.

    Raises:
        StoreError: naming the archive, if any byte of it is not as it was written.
    """
    found, all_of = dict(stored), cache(partial(_taken, study))
    for archive in _archives(study):
        if study.specs.keys() - found.keys():
            found = all_of(archive) | found
    _instead_of_damaged(study, stored, all_of)
    return {run_id: found[run_id] for run_id in (*study.specs, *found) if run_id in found}


def _instead_of_damaged(study: Grid, stored: Mapping[str, Stored], all_of: Callable[[Path], dict[str, Stored]]) -> None:
    """The archives stand in for a stored run that turns out to be damaged when it is read."""

    def archived(run_id: str, error: DamagedError) -> Stored:
        kept = (runs[run_id] for archive in _archives(study) if run_id in (runs := all_of(archive)))
        return next(kept, None) or shown_as_missing(run_id, error)

    otherwise({run_id: run for run_id, run in stored.items() if not isinstance(run, Archived)}, archived)


def archived(study: Grid) -> set[str]:
    """The runs that archives of the study's results have, by name alone; `completed` checks them.

    Raises:
        StoreError: naming an archive that cannot be read.
    """
    return {run_id for archive in _archives(study) for run_id in names(archive)}


def archives(paper: str, profile: str, changes: dict[str, Any], figures_dir: Path) -> list[Path]:
    """Where a study's results lie, if anywhere; those of a changed one, in part, with the profile that was changed."""
    own = figures_dir / paper
    folders = [own / folder_name(profile, changes), own / profile, paths.root() / "figures" / paper / profile]
    return [archive for folder in dict.fromkeys(folders) if (archive := folder / NAME).exists()]


def _archives(study: Grid) -> list[Path]:
    return archives(study.paper, study.profile, study.changes, study.figures_dir)


def _taken(study: Grid, archive: Path) -> dict[str, Stored]:
    """The runs of an archive that the study asks for."""
    runs = read(archive)
    own = {run_id: files for run_id, files in runs.items() if run_id in study.specs}
    if len(own) < len(runs):
        log.warning("%s: %d of its %d runs are none of this study's, and are not shown", archive, len(runs) - len(own), len(runs))
    try:
        _require_small(files["arrays.npz"] for files in own.values() if "arrays.npz" in files)
        return {run_id: _run(archive, study.specs[run_id], files) for run_id, files in own.items()}
    except Exception as error:  # right checksums over what is no run: whoever wrote it was not `leave`
        raise StoreError(f"archive {archive}: holds what is no run ({type(error).__name__}: {error})") from None


def _run(archive: Path, asked: RunSpec, files: dict[str, bytes]) -> Archived:
    if broken := [name for name in TABLES if json_table(files.get(name, b"")) is None]:
        raise ValueError(f"{asked.id}: {', '.join(broken)} cannot be read")
    run = Archived(archive / asked.id, files)
    run.parse()
    require_described(asked.id, run.spec, asked)
    return run


def _require_small(packed: Iterable[bytes]) -> None:
    """Arrays are compressed once more inside the archive."""
    size = sum(member.file_size for content in packed for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
    if size > LARGEST:
        raise ValueError(f"arrays that unpack to more than {LARGEST >> 20} MiB")
