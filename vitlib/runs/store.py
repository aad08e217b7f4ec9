"""The store: one folder a run, written aside and renamed into place, checksummed; read without torch.

`results/<id>/` holds spec.json, result.json, provenance.json, history.csv, arrays.npz, weights.safetensors (where a
child needs it) and manifest.json with the SHA-256 of the others. A folder that exists is complete; one whose bytes
changed is set aside on the next read. Nothing is pickled.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from vitlib.computing import Result
from vitlib.runs.manifest import (
    MANIFEST,
    DamagedError,
    StoreError,
    digests_of,
    is_whole,
    json_bytes,
    json_table,
    manifest_of,
    require_described,
    verified,
)
from vitlib.spec import RunSpec, SpecError, dump

WEIGHTS = "weights.safetensors"
FILES = {"spec.json", "result.json", "provenance.json", "history.csv", "arrays.npz", WEIGHTS}


@dataclass(frozen=True)
class Stored:
    """A run read from the store, every file of it checked; weights stay on disk until they are asked for."""

    folder: Path
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    spec: dict[str, Any]
    history: pd.DataFrame | None
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, folder: Path, files: dict[str, bytes]) -> Self:
        """From the checked files of a run."""
        with_arrays = np.load(io.BytesIO(files["arrays.npz"]), allow_pickle=False) if "arrays.npz" in files else {}
        arrays = {name: with_arrays[name] for name in with_arrays}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"arrays.npz: {odd[0]!r} is no array")
        return cls(
            folder=folder,
            metrics=json.loads(files["result.json"]),
            provenance=json.loads(files["provenance.json"]),
            spec=json.loads(files["spec.json"]),
            history=pd.read_csv(io.BytesIO(files["history.csv"])) if "history.csv" in files else None,
            arrays=arrays,
        )

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def weights(self) -> dict[str, np.ndarray] | None:
        """By parameter name, checked once more; None if the run kept none.

        Raises:
            DamagedError: if any byte of the run changed since it was read.
        """
        files = verified(self.folder)
        return load_safetensors(files[WEIGHTS]) if WEIGHTS in files else None


class Store:
    """Results by identity under one folder.

    Raises:
        StoreError: if the folder cannot be created or written, unless `writable` is False.
    """

    def __init__(self, root: Path | str, writable: bool = True):
        self.root = Path(root).absolute()
        if writable:
            require_writable("results_dir", self.root, "choose a folder you may write to, or mode='read-only'")
            self.root.mkdir(parents=True, exist_ok=True)

    def __contains__(self, run_id: str) -> bool:
        return (self.root / run_id / MANIFEST).is_file()

    def ids(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{MANIFEST}"))

    def read(self, run_id: str, asked: RunSpec | None = None) -> Stored:
        """A run, the checksums of all its files verified, and that it is described as the one `asked` for.

        Raises:
            KeyError: if it is not stored.
            DamagedError: if any byte of it changed, or right checksums are over what is no run, or another one.
        """
        folder = self._folder(run_id)
        files = verified(folder, unread={WEIGHTS})
        try:
            stored = Stored.of(folder, files)
        except Exception as error:  # whoever wrote it was not `put`
            raise DamagedError(f"{run_id}: holds what is no run ({type(error).__name__}: {error})") from None
        require_described(run_id, stored.spec, asked)
        return stored

    def files(self, run_id: str, unread: Set[str] = frozenset()) -> dict[str, bytes]:
        """The files of a run by name, all verified, but for `unread` ones; same errors as `read`."""
        return verified(self._folder(run_id), unread)

    def put(self, spec: RunSpec, result: Result, provenance: dict[str, Any]) -> None:
        """Write a run aside and rename it into place; what was there before stays until the new one is whole."""
        files = {
            "spec.json": json_bytes({"id": spec.id, **dump(spec)}),
            "result.json": json_bytes(result.metrics),
            "provenance.json": json_bytes(provenance | {"measured": result.measured}),
            "history.csv": None if result.history is None else result.history.to_csv(index=False).encode(),
            "arrays.npz": _npz(result.arrays) if result.arrays else None,
            WEIGHTS: None if result.weights is None else _safetensors(result.weights),
        }
        self.install(spec.id, {name: content for name, content in files.items() if content is not None})

    def set_aside(self, run_id: str) -> Path:
        """Move a damaged run out of the way, keeping it for inspection."""
        target = self.root / ".damaged" / f"{run_id}-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        target.parent.mkdir(exist_ok=True)
        (self.root / run_id).rename(target)
        return target

    @contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Try to claim a run for this process: False if another live process holds it; freed when the holder dies."""
        path = self.root / ".claims" / run_id
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path)
        if handle is None:
            yield False
            return
        try:
            self._sweep_partial(run_id)
            yield True
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    def scratch(self, run_id: str) -> Path:
        """Folder for the mid-run checkpoint of a claimed run."""
        return self.root / ".scratch" / run_id

    def clear_scratch(self, run_id: str) -> None:
        shutil.rmtree(self.scratch(run_id), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes left behind for runs that nobody holds and that are stored, if they are not to be computed again."""
        leftovers = [*self.root.glob(".partial/*"), *self.root.glob(".scratch/*"), *self.root.glob(".claims/*")]
        for run_id in {path.name.partition("~")[0] for path in leftovers}:
            with self.claim(run_id) as mine:
                if mine and run_id in self and not self.failure(run_id):
                    self.clear_scratch(run_id)

    def record_failure(self, run_id: str, reason: str, trace: str = "") -> None:
        """Keep why a run failed, and, for whoever looks, where: `.failed/RUN.log`."""
        folder = self.root / ".failed"
        folder.mkdir(exist_ok=True)
        (folder / f"{run_id}.txt").write_text(reason, encoding="utf-8")
        if trace:
            (folder / f"{run_id}.log").write_text(trace, encoding="utf-8")

    def failure(self, run_id: str) -> str | None:
        path = self.root / ".failed" / f"{run_id}.txt"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def forget_failure(self, run_id: str) -> None:
        for path in self.root.glob(f".failed/{run_id}.*"):
            path.unlink(missing_ok=True)

    def known(self, field: str, value: str, wanted: str) -> str | None:
        """`wanted` beside a field of that value in the newest stored run that has it, for machines that hold results but no data: the
        fingerprint of a data source, or the SHA-256 of a file of weights.
        """
        paths = sorted(self.root.glob("[!.]*/spec.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        found = (beside(json_table(path.read_bytes()), field, value, wanted) for path in paths)
        return next((value for value in found if value), None)

    def install(self, run_id: str, files: dict[str, bytes]) -> None:
        """Write these files aside with their manifest, and rename them into place as one."""
        aside = self.root / ".partial" / f"{run_id}~{os.getpid()}-{uuid.uuid4().hex[:8]}"
        aside.mkdir(parents=True)
        for name, content in {**files, MANIFEST: manifest_of(digests_of(files))}.items():
            _write_synced(aside / name, content)
        _sync_folder(aside)
        target = self.root / run_id
        old = self.set_aside(run_id) if target.exists() else None  # forced again: the old result leaves only now
        aside.rename(target)
        _sync_folder(self.root)
        if old:
            shutil.rmtree(old)

    def _folder(self, run_id: str) -> Path:
        folder = self.root / run_id
        if not folder.is_dir():
            raise KeyError(run_id)
        return folder

    def _sweep_partial(self, run_id: str) -> None:
        """Of what killed writers of a claimed run left, put a whole result into an empty place and remove the rest."""
        for path in self.root.glob(f".partial/{run_id}~*"):
            if not (self.root / run_id).exists() and is_whole(path):
                path.rename(self.root / run_id)
            else:
                shutil.rmtree(path, ignore_errors=True)


def require_writable(name: str, folder: Path, remedy: str) -> None:
    """Refuse a folder that cannot be written, or made where it is missing; nothing is left behind.

    Raises:
        StoreError: naming the place, the reason and the remedy.
    """
    try:
        there = next(place for place in [folder, *folder.parents] if place.exists())
        probe = there / f".probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"{name}: {folder} cannot be written ({error.strerror}); {remedy}") from None


def beside(spec: Any, field: str, value: str, wanted: str) -> str | None:
    """`wanted` beside a field of that value, anywhere in what a run was described with."""
    if isinstance(spec, dict):
        if spec.get(field) == value and spec.get(wanted):
            return spec[wanted]
        return next((found for inner in spec.values() if (found := beside(inner, field, value, wanted))), None)
    return None


def _lock(path: Path) -> int | None:
    """An exclusive lock on the file at `path`, or None while another process holds it.

    The holder removes the file before it unlocks; so after locking, the path must still lead to the locked file.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        try:
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise SpecError(f"arrays: {', '.join(objects)} hold Python objects; allowed: numbers, booleans and text")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _safetensors(weights: dict[str, np.ndarray]) -> bytes:
    """safetensors writes the memory of a transposed array in its own order without a word: hence the copy in C order."""
    return save_safetensors({name: np.asarray(array, order="C") for name, array in weights.items()})


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
