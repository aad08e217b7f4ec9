"""Runs from one machine to another: one plain tar, believed only after every name and checksum in it was checked."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from vitlib.runs.store import FILES, MANIFEST, WEIGHTS, DamagedError, Store, StoreError, json_table, manifest_of, what_changed


def export(store: Store, run_ids: list[str], archive: Path, with_weights: bool = True) -> None:
    """One plain tar of whole runs; without weights their manifests say so by not naming them."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(archive.name + ".partial")
    with tarfile.open(partial, "w") as tar:
        for run_id in run_ids:
            files = store.files(run_id)
            if not with_weights:
                files.pop(WEIGHTS, None)
            for name, content in {**files, MANIFEST: manifest_of(files)}.items():
                member = tarfile.TarInfo(f"{run_id}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.replace(archive)


def import_(store: Store, archive: Path) -> list[str]:
    """Add the runs of an archive that are not stored yet, are damaged, or lack the weights it has; all is checked before any is written.

    Raises:
        StoreError: for a name that is not RUN/FILE, a link, a missing file or a wrong checksum.
    """
    runs = _read(archive)
    return [run_id for run_id, files in runs.items() if _added(store, run_id, files)]


def _added(store: Store, run_id: str, files: dict[str, bytes]) -> bool:
    with store.claim(run_id) as mine:
        if not mine or _has(store, run_id, files):
            return False
        store.install(run_id, files)
        return True


def _has(store: Store, run_id: str, files: dict[str, bytes]) -> bool:
    """Whether the store holds the run whole, with weights if `files` hold them."""
    try:
        return WEIGHTS in store.files(run_id) or WEIGHTS not in files
    except (KeyError, DamagedError):
        return False


def _read(archive: Path) -> dict[str, dict[str, bytes]]:
    runs: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                run_id, name = _run_and_file(archive, member)
                runs.setdefault(run_id, {})[name] = tar.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        raise StoreError(f"archive {archive}: cannot be read as a plain tar ({error})") from None
    for run_id, files in runs.items():
        manifest = files.pop(MANIFEST, b"")
        if manifest != manifest_of(files):
            raise StoreError(f"archive {archive}: {run_id}: {what_changed(files, manifest)}; nothing was imported")
        if (json_table(files.get("spec.json", b"")) or {}).get("id") != run_id:
            raise StoreError(f"archive {archive}: {run_id} does not hold the run of that name; nothing was imported")
    return runs


def _run_and_file(archive: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    run_id, _, name = member.name.partition("/")
    plain = run_id.replace("-", "").replace("_", "").isalnum()
    if not (member.isfile() and plain and name in FILES | {MANIFEST}):
        raise StoreError(f"archive {archive}: member {member.name!r} refused; allowed: regular files RUN/{{{', '.join(sorted(FILES))}}}")
    return run_id, name
