"""Where the images of tar files lie: read once from the headers, and kept beside the tar files.

With it an image is read by its place as from a folder, so that every epoch has its own order, an interrupted one goes on where it was,
and each process reads its part alone. webdataset itself, and timm's reader on it, read tar files from their beginnings: that mixes an
image with some thousand after it, cannot go on within an epoch, and gives processes equal numbers of images by leaving out or repeating.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
from pathlib import Path

import numpy as np

from vitlib.inputs.pictures import DataError

PICTURES = ("jpg", "jpeg", "png", "webp")  # ends of names, of which a sample has one
LABEL = "cls"
log = logging.getLogger("vitlib")


def index_of(root: Path, names: list[str]) -> np.ndarray:
    """For each image of the tar files, in their order: number of the file, first byte, bytes, label; int64 (N, 4).

    Raises:
        DataError: for a file that is no tar file, or an image without label.
    """
    kept = root / ".cache" / f"vitlib-{_version(root, names)}.npy"
    if kept.exists():
        return np.load(kept)
    if len(names) > 20:
        log.warning("%s: reading the headers of %d tar files once", root, len(names))
    rows = [(number, *sample) for number, name in enumerate(names) for sample in _samples(root / name)]
    index = np.array(rows, dtype=np.int64).reshape(-1, 4)
    _keep(index, kept)
    return index


def _version(root: Path, names: list[str]) -> str:
    """Of the files as they are now."""
    status = [(name, os.stat(root / name)) for name in names]
    told = repr([(name, each.st_size, each.st_mtime_ns) for name, each in status])
    return hashlib.sha256(os.fsencode(told)).hexdigest()[:16]


def _samples(path: Path) -> list[tuple[int, int, int]]:
    """First byte, bytes and label of each image of a tar file; what belongs together has one name up to the first dot."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path) as shard:
            for member in shard:
                folder, _, file = member.name.rpartition("/")
                key, _, kind = file.partition(".")
                if kind.lower() in PICTURES and member.isfile():
                    images[f"{folder}/{key}"] = member.offset_data, member.size
                elif kind == LABEL:
                    labels[f"{folder}/{key}"] = int(shard.extractfile(member).read())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"data file {path}: cannot be read as webdataset's tar file ({error}); replace or remove it") from None
    if without := sorted(images.keys() - labels.keys()):
        raise DataError(f"data file {path}: image {without[0].lstrip('/')} has no label; allowed: a number in NAME.{LABEL} beside it")
    return [(*place, labels[key]) for key, place in images.items()]


def _keep(index: np.ndarray, path: Path) -> None:
    """Written beside and renamed; where the folder cannot be written, it is read again another time."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(exist_ok=True)
        with partial.open("wb") as stream:
            np.save(stream, index)
        partial.replace(path)
    except OSError as error:
        log.warning("%s: not kept (%s)", path, error.strerror)
