"""Runs from one machine to another: one plain tar, believed only after every name and checksum in it was checked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vitlib.runs.manifest import MANIFEST, DamagedError, StoreError, digest_of, digests_of, json_table, manifest_of, what_changed
from vitlib.runs.store import FILES, WEIGHTS, Store, require_writable

Members = dict[str, tarfile.TarInfo]  # of a run, by file name


def export(store: Store, run_ids: list[str], archive: Path, with_weights: bool = True) -> None:
    """One plain tar of whole runs; without weights their manifests say so by not naming them.

    Raises:
        StoreError: for an archive that cannot be written, or a damaged run; nothing of the archive is left then.
    """
    require_place(archive)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(archive.name + ".partial")
    try:
        with tarfile.open(partial, "w") as tar:
            for run_id in run_ids:
                _add(tar, store, run_id, with_weights)
        partial.replace(archive)
    except OSError as error:
        raise StoreError(f"archive {archive}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)


def require_place(archive: Path) -> None:
    """Refuse to write an archive where a folder is, or into a folder that cannot be written."""
    if archive.is_dir():
        raise StoreError(f"archive {archive}: is a folder; allowed: the path of a file, for instance runs.tar")
    require_writable("archive", archive.parent, "choose a folder you may write to")


def require_readable(archive: Path) -> None:
    """Refuse what is no plain tar at all; `import_` checks what is in it."""
    with _readable(archive), tarfile.open(archive, "r:"):
        pass


def import_(store: Store, archive: Path) -> list[str]:
    """Add the runs of an archive that are not stored yet, are damaged, or lack the weights it has; all is checked before any is written.

    Raises:
        StoreError: for a name that is not RUN/FILE, a link, a missing file or a wrong checksum.
    """
    with ExitStack() as stack:
        with _readable(archive):
            tar = stack.enter_context(tarfile.open(archive, "r:"))
            runs = _runs(archive, tar)
            for run_id, members in runs.items():
                _check(archive, tar, run_id, members)
        return [run_id for run_id, members in runs.items() if _added(store, tar, run_id, members)]


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError) as error:
        raise StoreError(f"archive {archive}: cannot be read as a plain tar ({error})") from None


def _add(tar: tarfile.TarFile, store: Store, run_id: str, with_weights: bool) -> None:
    files = store.files(run_id)
    if not with_weights:
        files.pop(WEIGHTS, None)
    for name, content in {**files, MANIFEST: manifest_of(digests_of(files))}.items():
        member = tarfile.TarInfo(f"{run_id}/{name}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _added(store: Store, tar: tarfile.TarFile, run_id: str, members: Members) -> bool:
    with store.claim(run_id) as mine:
        if not mine or _has(store, run_id, WEIGHTS in members):
            return False
        files = {name: tar.extractfile(member).read() for name, member in members.items() if name != MANIFEST}
        store.install(run_id, files)
        return True


def _has(store: Store, run_id: str, with_weights: bool) -> bool:
    """Whether the store holds the run whole, with weights if they are asked for."""
    try:
        return WEIGHTS in store.files(run_id) or not with_weights
    except (KeyError, DamagedError):
        return False


def _runs(archive: Path, tar: tarfile.TarFile) -> dict[str, Members]:
    runs: dict[str, Members] = {}
    for member in tar:
        run_id, name = _run_and_file(archive, member)
        runs.setdefault(run_id, {})[name] = member
    return runs


def _check(archive: Path, tar: tarfile.TarFile, run_id: str, members: Members) -> None:
    """Compare every byte of a run with its manifest, one file in memory at a time."""
    digests = {name: digest_of(tar.extractfile(member)) for name, member in members.items() if name != MANIFEST}
    manifest, spec = (tar.extractfile(members[name]).read() if name in members else b"" for name in (MANIFEST, "spec.json"))
    if manifest != manifest_of(digests):
        raise StoreError(f"archive {archive}: {run_id}: {what_changed(digests, manifest)}; nothing was imported")
    if (json_table(spec) or {}).get("id") != run_id:
        raise StoreError(f"archive {archive}: {run_id} does not hold the run of that name; nothing was imported")


def _run_and_file(archive: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    run_id, _, name = member.name.partition("/")
    plain = run_id.replace("-", "").replace("_", "").isalnum()
    if not (member.isfile() and plain and name in FILES | {MANIFEST}):
        raise StoreError(f"archive {archive}: member {member.name!r} refused; allowed: regular files RUN/{{{', '.join(sorted(FILES))}}}")
    return run_id, name
