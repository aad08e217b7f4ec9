"""The name of the content of a set of files.

It is the same wherever the files lie and whenever they were copied, as results move between machines: SHA-256 over the name and
size of every file and over bytes, of all files where they take at most `WHOLE` bytes (CIFAR-10 as PNG does), of `SAMPLE` evenly
spaced ones in a larger set, of which those above `LARGE` bytes (shards of ImageNet) give their beginning, middle and end. What this
cannot see, a file outside the sample replaced by one of equal size, `records` sees.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitlib.inputs.pictures import DataError

WHOLE = 2**28  # bytes on disk, a second or two to read
BLOCK = 2**12  # bytes that the smallest file takes
SAMPLE = 256
LARGE = 2**26  # bytes of a file
PIECE = 2**20  # bytes of each of three pieces of a large one
READING = 2  # how files become pixels; raised with every change of that, as results on them are others then


@dataclass(frozen=True)
class Files:
    """Files below `root` by name, with `sizes` (bytes) and `times` of writing (ns), both int64 (N,)."""

    root: Path
    names: list[str]
    sizes: np.ndarray
    times: np.ndarray

    @classmethod
    def below(cls, root: Path, names: list[str]) -> Files:
        try:
            status = [os.stat(f"{root}/{name}") for name in names]  # half the time of Path.stat, which counts for a million
        except OSError as error:
            raise DataError(f"data folder {root}: {error.filename} cannot be read ({error.strerror})") from None
        sizes, times = np.array([(each.st_size, each.st_mtime_ns) for each in status], dtype=np.int64).reshape(-1, 2).T
        return cls(root, names, sizes, times)

    @property
    def whole(self) -> bool:
        """Whether the fingerprint reads all bytes."""
        return int(np.maximum(self.sizes, BLOCK).sum()) <= WHOLE

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"reading {READING}\n".encode())
        for name, size in zip(self.names, self.sizes, strict=True):
            digest.update(os.fsencode(f"{name} {size}\n"))
        step = 1 if self.whole else max(1, len(self.names) // SAMPLE)
        for name, size in zip(self.names[::step], self.sizes[::step].tolist(), strict=True):
            digest.update(self._content(name) if self.whole or size <= LARGE else self._pieces(name, size))
        return digest.hexdigest()

    def _pieces(self, name: str, size: int) -> bytes:
        try:
            with (self.root / name).open("rb") as stream:
                return b"".join(_piece(stream, start) for start in (0, (size - PIECE) // 2, size - PIECE))
        except OSError as error:
            raise DataError(f"data folder {self.root}: {name} cannot be read ({error.strerror})") from None

    def sha256(self, name: str) -> str:
        """Of one file's bytes."""
        return hashlib.sha256(self._content(name)).hexdigest()

    def _content(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise DataError(f"data folder {self.root}: {name} cannot be read ({error.strerror})") from None


def _piece(stream: BinaryIO, start: int) -> bytes:
    stream.seek(start)
    return stream.read(PIECE)
