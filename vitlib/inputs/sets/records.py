"""What the files of a large set were when results on them began, on this machine.

The fingerprint of such a set reads a sample of its bytes. A record keeps size and time of writing of every file as they were
when it was first met with its fingerprint; files written since are refused until their bytes were read. Sets whose fingerprint
reads all bytes need none. Start from `compare`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.fingerprints import Files

COLUMNS = {"name": object, "size": "int64", "mtime_ns": "int64", "sha256": object}
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
    known = _read(path) if path.exists() else files.table.assign(sha256="")
    names, digests = files.table["name"].to_numpy(), known["sha256"].to_numpy(dtype=object, copy=True)
    written = (known["mtime_ns"] != files.table["mtime_ns"]).to_numpy()
    _settle_unknown(source, names[written & (digests == "")], verify)
    changed = []
    for place in np.arange(len(names)) if verify else np.flatnonzero(written):
        found = files.sha256(names[place])
        if digests[place] not in ("", found):
            changed.append(names[place])
        digests[place] = found
    if changed:
        raise DataError(
            f"data.source: {source}: {_some(changed)} replaced since results on it began, by other bytes of the same size; "
            "put them back, or move the new files to a folder of another name, for which results are computed anew"
        )
    if verify or written.any() or not path.exists():
        _write(path, files.table.assign(sha256=digests))


def _settle_unknown(source: str, names: np.ndarray, verify: bool) -> None:
    """Files written since of which no digest was kept: nobody can say whether their bytes changed."""
    if not len(names):
        return
    if not verify:
        raise DataError(
            f"data.source: {source}: {_some(names)} written since results on it began, the size being the same; put the earlier "
            "files back, or, if the bytes are the same, run with --verify-data, which reads all and takes them as they are"
        )
    log.warning("%s: %s written since results on it began; taken as they are now", source, _some(names))


def _key(source: str, files: Files, fingerprint: str) -> str:
    """Of one copy on one machine: times of writing differ between them."""
    copy = f"{source}\n{platform.node()}\n{files.root.absolute()}\n{fingerprint}"
    return hashlib.sha256(os.fsencode(copy)).hexdigest()[:16]


def _some(names: np.ndarray | list[str]) -> str:
    return f"{names[0]} was" if len(names) == 1 else f"{len(names)} files ({names[0]}, ...) were"


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, encoding_errors="surrogateescape")


def _write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    table.to_csv(partial, index=False, errors="surrogateescape")
    os.replace(partial, path)
