"""What the files of a large set were when results on them began, on this machine.

The fingerprint of such a set holds names and sizes and a sample of the bytes. A record keeps the time of writing of every file as
it was when the set was first met with its fingerprint; files written since are refused until their bytes were read. Sets whose
fingerprint reads all bytes need none. Start from `compare`.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import platform
from pathlib import Path

import numpy as np

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.fingerprints import Files

log = logging.getLogger("vitlib")


def compare(source: str, files: Files, fingerprint: str, folder: Path, *, verify: bool = False) -> None:
    """Refuse files of a large set that may hold other bytes than when they were first met; remember them if all is well.

    Args:
        folder: of the records, one CSV for each copy of a set and fingerprint.
        verify: read all bytes and keep their digests; otherwise only files written since are read, where a digest is known.

    Raises:
        DataError: naming a file whose bytes changed, or one that was written since and has no digest to compare with.
    """
    if files.whole:
        return
    path = folder / f"{_key(source, files, fingerprint)}.csv"
    times, digests = _read(path, files) if os.path.lexists(path) else (files.times, [""] * len(files.names))
    written = np.flatnonzero(times != files.times).tolist()
    _settle_unknown(source, [files.names[place] for place in written if not digests[place]], verify)
    places = range(len(files.names)) if verify else written
    found = {place: files.sha256(files.names[place]) for place in places}
    if changed := [files.names[place] for place, digest in found.items() if digests[place] not in ("", digest)]:
        raise DataError(
            f"data.source: {source}: {_some(changed)} replaced since results on it began, by other bytes of the same size; "
            "put them back, or move the new files to a folder of another name, for which results are computed anew"
        )
    if found or not path.exists():
        _write(path, files, [found.get(place, digest) for place, digest in enumerate(digests)])


def _settle_unknown(source: str, names: list[str], verify: bool) -> None:
    """Files written since of which no digest was kept: nobody can say whether their bytes changed."""
    if not names:
        return
    if not verify:
        raise DataError(
            f"data.source: {source}: {_some(names)} written since results on it began, the size being the same; put the earlier "
            "files back, or, if only the time changed, run with --verify-data, which reads all bytes and takes them as found"
        )
    log.warning("%s: %s written since results on it began; taken as found now", source, _some(names))


def _key(source: str, files: Files, fingerprint: str) -> str:
    """Of one copy on one machine: times of writing differ between them."""
    copy = f"{source}\n{platform.node()}\n{files.root.absolute()}\n{fingerprint}"
    return hashlib.sha256(os.fsencode(copy)).hexdigest()[:16]


def _some(names: list[str]) -> str:
    return f"{names[0]} was" if len(names) == 1 else f"{len(names)} files ({names[0]}, ...) were"


def _read(path: Path, files: Files) -> tuple[np.ndarray, list[str]]:
    """Times (N,) and digests, empty where unknown.

    Times of 0 and no digests where the record is damaged: every file counts as written since.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            rows = list(csv.DictReader(stream))
        if [row["name"] for row in rows] == files.names:
            return np.array([int(row["mtime_ns"]) for row in rows], dtype=np.int64), [row["sha256"] for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error):
        pass
    log.warning("%s: damaged, so that no file is known by it", path)
    return np.zeros(len(files.names), np.int64), [""] * len(files.names)


def _write(path: Path, files: Files, digests: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "mtime_ns", "sha256"])
        writer.writerows(zip(files.names, files.times.tolist(), digests, strict=True))
    os.replace(partial, path)
