"""What a stored run's files must be: their SHA-256, in a manifest that can be written in one way only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Set
from contextlib import suppress
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic_core import from_json

from vitlib.dumped import agrees, identity
from vitlib.spec import RunSpec, SpecError

MANIFEST = "manifest.json"
BROKEN = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO, errno.ESTALE}  # no file to read, or no disk
Taken = TypeVar("Taken")


class StoreError(RuntimeError):
    """The store cannot be written, or an archive cannot be accepted."""


class DamagedError(StoreError):
    """A stored run whose bytes are not what was written."""


def verified(folder: Path, unread: Set[str] = frozenset()) -> dict[str, bytes]:
    """The files of a run by name, after comparing every byte with the manifest; `unread` ones are compared, but not kept.

    Raises:
        DamagedError: naming the files that changed.
        KeyError: if it is not there, or was taken away meanwhile.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        if error.errno not in BROKEN:
            raise
        raise KeyError(folder.name) from None
    read = {name: content_of(folder / name) for name in names - unread}
    found = {name: content for name, content in read.items() if content is not None}
    digests = dict.fromkeys(names - {MANIFEST}, "") | digests_of(found)
    digests |= {name: taken_from(folder / name, digest_of) or "" for name in unread & names}
    manifest = found.pop(MANIFEST, b"")
    digests.pop(MANIFEST, None)
    if manifest != manifest_of(digests) or not all(digests.values()):
        if not folder.is_dir():
            raise KeyError(folder.name)
        raise DamagedError(f"{folder.name}: {what_changed(digests, manifest)}")
    return found


def content_of(path: Path | str) -> bytes | None:
    """The bytes of a file; see `taken_from`."""
    return taken_from(path, lambda stream: stream.read())


def taken_from(path: Path | str, take: Callable[[BinaryIO], Taken]) -> Taken | None:
    """What `take` makes of a file; None where no file is, or the disk cannot read it.

    Raises:
        StoreError: where the file may be whole and something else is in the way, such as rights, or too many open files.
    """
    try:
        with open(path, "rb", 0, opener=_without_waiting) as stream:  # sooner than a Path or a buffer, and there are many
            return take(stream)
    except OSError as error:
        if error.errno in BROKEN:
            return None
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None


def promised(manifest: bytes) -> dict[str, str] | None:
    """SHA-256 by name, as a manifest has them; None for bytes that `manifest_of` would not write."""
    found = json_table(manifest)
    plain = found is not None and all(isinstance(digest, str) for digest in found.values())
    return found if plain and manifest_of(found) == manifest else None


def is_whole(folder: Path) -> bool:
    try:
        return bool(verified(folder))
    except (DamagedError, KeyError, OSError):
        return False


def manifest_of(digests: dict[str, str]) -> bytes:
    """The one way to write the manifest of files with these digests: any other bytes are damage."""
    lines = [f" {_quoted(name)}: {_quoted(digest)}" for name, digest in sorted(digests.items())]  # as `json_bytes` does, twice as fast
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode() if lines else b"{}\n"


def digests_of(files: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def digest_of(stream: BinaryIO) -> str:
    """SHA-256 of what need not fit into memory."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def what_changed(digests: dict[str, str], manifest: bytes) -> str:
    promised = json_table(manifest)
    if promised is None:
        return f"{MANIFEST} cannot be read"
    names = sorted(name for name in promised.keys() | digests.keys() if promised.get(name) != digests.get(name))
    return f"{', '.join(names) or MANIFEST} changed since it was written"


def require_described(run_id: str, spec: Any, asked: RunSpec | None = None) -> None:
    """Refuse a run whose description is not the one that its identity follows from.

    Beside a run that was `asked` for, field by field, which takes microseconds; otherwise by its name alone: `identity` builds the run
    anew, for results that come from elsewhere.

    Raises:
        DamagedError: naming the run.
    """
    named = isinstance(spec, dict) and spec.get("id") == run_id
    if not named or not (asked is None or agrees(spec, asked) or _rebuilt(spec) == run_id):
        raise DamagedError(f"{run_id}: spec.json describes another run, whatever its checksums say")


def _rebuilt(spec: dict[str, Any]) -> str:
    try:
        return identity(spec)
    except SpecError:
        return ""


def json_table(content: bytes) -> dict[str, Any] | None:
    """A JSON object from bytes that nobody vouches for, or None."""
    for parse in (from_json, json.loads):  # the first takes half the time; of what it refuses the second has the last word
        with suppress(ValueError, RecursionError):
            parsed = parse(content)
            return parsed if isinstance(parsed, dict) else None
    return None


def json_bytes(content: Any) -> bytes:
    try:
        return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise SpecError(f"a result holds a number that is not finite: {content!r}") from error


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that lies where a file should be is empty, and nobody waits for what comes out of it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
