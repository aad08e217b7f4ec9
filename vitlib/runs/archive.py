"""Runs from one machine to another: one tar, plain or in xz, believed only after every name and checksum in it was checked.

The same runs give the same bytes: members in the order of their names, without times and owners, one setting of xz.
"""

from __future__ import annotations

import io
import logging
import lzma
import tarfile
import zipfile
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from vitlib import durable
from vitlib.dumped import identity
from vitlib.messages import brief
from vitlib.runs.manifest import MANIFEST, DamagedError, StoreError, digest_of, digests_of, json_table, manifest_of, what_changed
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import FILES, Store, require_writable
from vitlib.spec import SpecError

Members = dict[str, tarfile.TarInfo]  # of a run, by file name
XZ = b"\xfd7zXZ\x00"
PRESET = 6
LARGEST = 2**29  # bytes that an archive in xz unpacks to; a plain tar is read file by file and may be of any size
MEMORY = 2**27  # bytes that unpacking may take beside them; PRESET takes 2**23
MOST = 2**21  # files in one archive, of some hundred thousand runs
LONGEST = 100  # letters of a run's name
SWOLLEN = 50  # times that arrays may grow where they unpack to more than LARGEST
UNREADABLE = (tarfile.TarError, lzma.LZMAError, OSError, ValueError, OverflowError, MemoryError, RecursionError)  # of headers, too
log = logging.getLogger("vitlib")


def export(store: Store, run_ids: Iterable[str], archive: Path, with_weights: bool | Container[str] = True) -> None:
    """One tar of whole runs, in xz where its name ends so; without weights their manifests say so by not naming them.

    Args:
        with_weights: of all runs, of none, or of those that are in it.

    Raises:
        StoreError: for an archive that cannot be written, or a damaged run; nothing of the archive is left then.
    """
    require_place(archive)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(archive.name + ".partial")
    try:
        with _new(partial, in_xz=archive.suffix == ".xz") as tar:
            for run_id in sorted(run_ids):
                _add(tar, store, run_id, with_weights if isinstance(with_weights, bool) else run_id in with_weights)
                if archive.suffix == ".xz" and tar.offset > LARGEST:
                    raise StoreError(f"archive {archive}: holds more than {LARGEST >> 20} MiB; allowed: a plain tar, for instance runs.tar")
        durable.sync(partial)
        partial.replace(archive)
        durable.sync(archive.parent)
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
    """Refuse what is no tar at all; `import_` checks what is in it."""
    with _readable(archive), _opened(archive):
        pass


def import_(store: Store, archive: Path) -> list[str]:
    """Add the runs of an archive that are not stored yet, are damaged, or lack the weights it has; all is checked before any is written.

    Runs that this version of the code does not compute are left out, and a line says so: nobody could say whether they are what they
    are called.

    Raises:
        StoreError: for a name that is not RUN/FILE, a link, a missing file, a wrong checksum, or a run that its spec does not describe.
    """
    with _checked(archive) as (tar, runs):
        unknown = {run_id: why for run_id, members in runs.items() if (why := _stranger(archive, tar, run_id, members))}
        for run_id, why in list(unknown.items())[:1]:
            log.warning("archive %s: %d of %d runs are left out, %s among them: %s", archive, len(unknown), len(runs), run_id, why)
        return [run_id for run_id, members in runs.items() if run_id not in unknown and _added(store, tar, run_id, members)]


def names(archive: Path) -> set[str]:
    """The runs of an archive, none of them checked; same errors as `import_`."""
    with _readable(archive), _opened(archive) as tar:
        return set(_runs(archive, tar))


def specs(archive: Path) -> list[dict[str, Any]]:
    """What the runs of an archive were described with, none of it checked; same errors as `import_`."""
    with _readable(archive), _opened(archive) as tar:
        found = [tar.extractfile(members["spec.json"]).read() for members in _runs(archive, tar).values() if "spec.json" in members]
    return [spec for spec in map(json_table, found) if spec]


def read(archive: Path) -> dict[str, dict[str, bytes]]:
    """The files of each run of an archive, by run and name, all checked; same errors as `import_`."""
    with _checked(archive) as (tar, runs):
        return {run_id: _contents(tar, members) for run_id, members in runs.items()}


@contextmanager
def _checked(archive: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, Members]]]:
    """An open archive and the runs in it, after every name and checksum was looked at."""
    with ExitStack() as stack:
        with _readable(archive):
            tar = stack.enter_context(_opened(archive))
            runs = _runs(archive, tar)
            for run_id, members in runs.items():
                _check(archive, tar, run_id, members)
        yield tar, runs


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise StoreError(f"archive {archive}: cannot be read as a plain tar or one in xz ({str(error) or type(error).__name__})") from None


def _new(path: Path, in_xz: bool) -> tarfile.TarFile:
    return tarfile.open(path, "w:xz", preset=PRESET) if in_xz else tarfile.open(path, "w")


def _opened(archive: Path) -> tarfile.TarFile:
    if archive.exists() and not archive.is_file():
        raise tarfile.ReadError("it is no file")
    with archive.open("rb") as stream:
        if stream.read(len(XZ)) != XZ:
            return tarfile.open(archive, "r:")
    return tarfile.open(fileobj=io.BytesIO(_unpacked(archive)), mode="r:")


def _unpacked(archive: Path) -> bytes:
    """What an archive in xz holds, read to the checksum at its end, before anything looks at it."""
    large = StoreError(f"archive {archive}: unpacks to more than {LARGEST >> 20} MiB; allowed: less, or a plain tar")
    if archive.stat().st_size > LARGEST:
        raise large
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    content = decompressor.decompress(archive.read_bytes(), max_length=LARGEST + 1)
    if len(content) > LARGEST:
        raise large
    if not decompressor.eof or decompressor.unused_data:
        raise lzma.LZMAError("cut short" if not decompressor.eof else "something follows its end")
    return content


def _add(tar: tarfile.TarFile, store: Store, run_id: str, with_weights: bool) -> None:
    files = store.files(run_id, set() if with_weights else {WEIGHTS})
    for name, content in sorted({**files, MANIFEST: manifest_of(digests_of(files))}.items()):
        member = tarfile.TarInfo(f"{run_id}/{name}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _added(store: Store, tar: tarfile.TarFile, run_id: str, members: Members) -> bool:
    with store.claim(run_id) as mine:
        if not mine or _has(store, run_id, WEIGHTS in members):
            return False
        store.install(run_id, _contents(tar, members))
        store.forget_failure(run_id)
        return True


def _contents(tar: tarfile.TarFile, members: Members) -> dict[str, bytes]:
    return {name: tar.extractfile(member).read() for name, member in members.items() if name != MANIFEST}


def _has(store: Store, run_id: str, with_weights: bool) -> bool:
    """Whether the store holds the run whole, with weights if they are asked for."""
    try:
        return WEIGHTS in store.files(run_id) or not with_weights
    except (KeyError, DamagedError):
        return False


def _runs(archive: Path, tar: tarfile.TarFile) -> dict[str, Members]:
    runs: dict[str, Members] = {}
    for count, member in enumerate(tar, 1):
        run_id, name = _run_and_file(archive, member)
        if name in runs.setdefault(run_id, {}):
            raise StoreError(f"archive {archive}: member {brief(member.name)} is there twice; allowed: each file once")
        if count > MOST:
            raise StoreError(f"archive {archive}: holds more than {MOST} files; allowed: several archives")
        runs[run_id][name] = member
    return runs


def _check(archive: Path, tar: tarfile.TarFile, run_id: str, members: Members) -> None:
    """Compare every byte of a run with its manifest, one file in memory at a time."""
    digests = {name: digest_of(tar.extractfile(member)) for name, member in members.items() if name != MANIFEST}
    manifest, spec = (tar.extractfile(members[name]).read() if name in members else b"" for name in (MANIFEST, "spec.json"))
    if manifest != manifest_of(digests):
        raise StoreError(f"archive {archive}: {run_id}: {what_changed(digests, manifest)}; nothing of it was taken")
    if (json_table(spec) or {}).get("id") != run_id:
        raise StoreError(f"archive {archive}: {run_id} does not hold the run of that name; nothing of it was taken")
    if "arrays.npz" in members:
        _require_small(archive, run_id, tar.extractfile(members["arrays.npz"]), members["arrays.npz"].size)


def _stranger(archive: Path, tar: tarfile.TarFile, run_id: str, members: Members) -> str:
    """Why nobody can compute here what a run's identity should be; empty where it is what it should be.

    Raises:
        StoreError: where it is another one.
    """
    spec = json_table(tar.extractfile(members["spec.json"]).read()) or {}
    try:
        found = identity(spec)
    except SpecError as error:
        return str(error).splitlines()[0]
    if found != run_id:
        raise StoreError(f"archive {archive}: the spec.json of {run_id} describes {found}; nothing of it was taken")
    return ""


def _require_small(archive: Path, run_id: str, packed: IO[bytes], size: int) -> None:
    """Arrays are compressed once more inside the archive."""
    try:
        unpacked = sum(member.file_size for member in zipfile.ZipFile(packed).infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise StoreError(f"archive {archive}: the arrays.npz of {run_id} cannot be read ({error}); nothing of it was taken") from None
    if unpacked > max(LARGEST, SWOLLEN * size):
        raise StoreError(f"archive {archive}: the arrays.npz of {run_id} unpack to {unpacked >> 20} MiB; allowed: {LARGEST >> 20}")


def _run_and_file(archive: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    run_id, _, name = member.name.partition("/")
    plain = run_id.isascii() and run_id.replace("-", "").replace("_", "").isalnum() and len(run_id) <= LONGEST
    if not (member.isfile() and member.sparse is None and plain and name in FILES | {MANIFEST}):
        raise StoreError(
            f"archive {archive}: member {brief(member.name)} refused; allowed: regular files RUN/{{{', '.join(sorted(FILES))}}}"
        )
    return run_id, name
