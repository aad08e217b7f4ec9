"""What a stored run's files must be: their SHA-256, in a manifest that can be written in one way only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any, BinaryIO

from vitlib.dumped import agrees, identity
from vitlib.spec import RunSpec, SpecError

MANIFEST = "manifest.json"


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
        paths = {path.name: path for path in folder.iterdir()}
        found = {name: b"" if path.is_dir() else path.read_bytes() for name, path in paths.items() if name not in unread}
        digests = {name: _digest_on_disk(paths[name]) for name in unread & paths.keys()}
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_dir():
            raise DamagedError(f"{folder.name}: {Path(error.filename).name} was taken away while it was read") from None
        raise KeyError(folder.name) from None
    manifest = found.pop(MANIFEST, b"")
    digests |= digests_of(found)
    if manifest != manifest_of(digests):
        raise DamagedError(f"{folder.name}: {what_changed(digests, manifest)}")
    return found


def is_whole(folder: Path) -> bool:
    try:
        return bool(verified(folder))
    except (DamagedError, KeyError, OSError):
        return False


def manifest_of(digests: dict[str, str]) -> bytes:
    """The one way to write the manifest of files with these digests: any other bytes are damage."""
    return json_bytes(digests)


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
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def json_bytes(content: Any) -> bytes:
    try:
        return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise SpecError(f"a result holds a number that is not finite: {content!r}") from error


def _digest_on_disk(path: Path) -> str:
    if path.is_dir():
        return ""
    with path.open("rb") as stream:
        return digest_of(stream)
