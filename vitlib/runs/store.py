"""The store: one folder a run, written aside and renamed into place, checksummed; read without torch.

`results/<id>/` holds spec.json, result.json, provenance.json, history.csv, arrays.npz, weights.safetensors (where a
child needs it) and manifest.json with the SHA-256 of the others. A folder that exists is complete; one whose bytes
changed is set aside on the next read. Nothing is pickled.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_safetensors

from vitlib import durable
from vitlib.computing import Result
from vitlib.dumped import dump
from vitlib.runs.claims.kinds import ASKED, claimed
from vitlib.runs.claims.leases import Lease
from vitlib.runs.manifest import (
    BROKEN,
    MANIFEST,
    DamagedError,
    StoreError,
    content_of,
    digests_of,
    is_whole,
    json_bytes,
    json_table,
    manifest_of,
    promised,
    require_described,
    verified,
)
from vitlib.runs.reading.stored import WEIGHTS, Stored
from vitlib.spec import RunSpec, SpecError

NUMPYS = frozenset({"file", "allow_pickle"})  # parameters of the writer of arrays
FORMER = "former"  # who wrote aside what is forced again: after all processes, which have numbers
log = logging.getLogger("vitlib")
FILES = {"spec.json", "result.json", "provenance.json", "history.csv", "arrays.npz", WEIGHTS}


class Store:
    """Results by identity under one folder.

    Raises:
        StoreError: if the folder cannot be created or written, unless `writable` is False.
    """

    def __init__(self, root: Path | str, writable: bool = True):
        self.root = Path(root).absolute()
        if writable:
            require_writable("results_dir", self.root, "choose a folder you may write to, or mode='read-only'")
            durable.make(self.root)

    def __contains__(self, run_id: str) -> bool:
        return (self.root / run_id / MANIFEST).is_file()

    def ids(self) -> list[str]:
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith(".") and os.path.isfile(f"{self.root}/{name}/{MANIFEST}"))

    def read(self, run_id: str, asked: RunSpec | None = None) -> Stored:
        """A run, the checksums of all its files verified, all but weights parsed, and that it is described as the one `asked` for.

        Raises:
            KeyError: if it is not stored.
            DamagedError: if any byte of it changed, or right checksums are over what is no run, or another one.
        """
        files = verified(self.root / run_id, unread={WEIGHTS})
        require_described(run_id, json_table(files.get("spec.json", b"")), asked)
        stored = self.open(run_id, asked)
        stored.parse()
        return stored

    def open(self, run_id: str, asked: RunSpec | None = None) -> Stored:
        """A run whose files are all there by name; the bytes of each are compared when it is read, and its description with `asked` before.

        Raises:
            KeyError: if it is not stored.
            DamagedError: if the manifest cannot be read, or other files lie there than it names.
        """
        folder = f"{self.root}/{run_id}"
        try:
            names = set(os.listdir(folder))
        except OSError as error:
            if error.errno not in BROKEN:
                raise
            raise KeyError(run_id) from None
        if MANIFEST not in names or (digests := promised(content_of(f"{folder}/{MANIFEST}") or b"")) is None:
            raise DamagedError(f"{run_id}: {MANIFEST} cannot be read")
        if odd := names ^ {*digests, MANIFEST}:
            raise DamagedError(f"{run_id}: {', '.join(sorted(odd))} changed since it was written")
        return Stored(self.root, run_id, digests, asked)

    def files(self, run_id: str, unread: Set[str] = frozenset()) -> dict[str, bytes]:
        """The files of a run by name, all verified, but for `unread` ones; same errors as `read`."""
        return verified(self.root / run_id, unread)

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
        durable.sync(target.parent)
        return target

    def set_aside_damaged(self, run_id: str, asked: RunSpec | None = None) -> Path | None:
        """The same once nobody else holds it and it is damaged still; None where another process mended or removed it, or is at it."""
        with self.claim(run_id) as mine:
            try:
                if mine:
                    self.read(run_id, asked)
            except DamagedError:
                with suppress(FileNotFoundError):  # removed meanwhile by somebody who asks for no claim
                    return self.set_aside(run_id)
            except KeyError:
                pass
        return None

    @contextmanager
    def claim(self, run_id: str) -> Iterator[Lease | bool]:
        """Try to claim a run, see `vitlib.runs.claims.kinds`: false if another live process holds it; freed when the holder dies."""
        with claimed(self.root, run_id) as mine:
            if mine:
                self._sweep_partial(run_id)
                if not self.scratch(run_id).is_dir():
                    _remove(self.scratch(run_id))
            yield mine

    def scratch(self, run_id: str) -> Path:
        """Folder for the mid-run checkpoint of a claimed run."""
        return self.root / ".scratch" / run_id

    def clear_scratch(self, run_id: str) -> None:
        shutil.rmtree(self.scratch(run_id), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes left behind for runs that nobody holds and that are stored, if they are not to be computed again.

        And what drivers that are dead asked for.
        """
        leftovers = [*self.root.glob(".partial/*"), *self.root.glob(".scratch/*"), *self.root.glob(".claims/*")]
        for name in {path.name.partition("~")[0] for path in leftovers}:
            with self.claim(name) as mine:
                if mine and name in self and not self.failure(name):
                    self.clear_scratch(name)
                for note in (name, f".{name}") if mine else ():
                    _remove(self.root / ASKED / note)

    def record_failure(self, run_id: str, reason: str, trace: str = "") -> None:
        """Keep why a run failed, and, for whoever looks, where: `.failed/RUN.log`; on a full disk it is told and not kept."""
        folder = self.root / ".failed"
        try:
            durable.make(folder)
            for kind, text in (("log", trace), ("txt", reason)):
                if text:
                    with durable.whole(folder / f"{run_id}.{kind}") as aside:
                        aside.write_text(text, encoding="utf-8")
        except OSError as error:
            log.warning("%s: why it failed is not kept in %s (%s): %s", run_id, folder, error.strerror, reason)
            self.forget_failure(run_id)

    def failure(self, run_id: str) -> str | None:
        content = content_of(self.root / ".failed" / f"{run_id}.txt")
        return None if content is None else content.decode(errors="replace")

    def forget_failure(self, run_id: str) -> None:
        for kind in ("txt", "log"):
            _remove(self.root / ".failed" / f"{run_id}.{kind}")

    def install(self, run_id: str, files: dict[str, bytes]) -> None:
        """Write these files aside with their manifest, and rename them into place as one; what was there leaves only then."""
        target, aside = self.root / run_id, self._written_aside(run_id, files)
        before = self._aside(run_id, FORMER)
        if target.is_symlink() or not target.is_dir():
            self._clear(run_id)
        else:  # forced again
            self._make_certain_of(aside)
            target.rename(before)
        self._put_in_place(aside)
        _remove(before)

    def mend(self, run_id: str, files: dict[str, bytes]) -> Path:
        """As `install`, in the place of a damaged run, which is kept for inspection: where it lies."""
        aside = self._written_aside(run_id, files)
        self._make_certain_of(aside)
        kept = self.set_aside(run_id)
        self._put_in_place(aside)
        return kept

    def _written_aside(self, run_id: str, files: dict[str, bytes]) -> Path:
        aside = self._aside(run_id, str(os.getpid()))
        try:
            aside.mkdir(parents=True)
            for name, content in {**files, MANIFEST: manifest_of(digests_of(files))}.items():
                durable.write(aside / name, content)
            durable.sync(aside)
        except OSError:
            _remove(aside)  # on a full disk it takes room
            raise
        return aside

    def _aside(self, run_id: str, by: str) -> Path:
        return self.root / ".partial" / f"{run_id}~{by}-{uuid.uuid4().hex[:8]}"

    def _clear(self, run_id: str) -> None:
        """Set aside what lies in a run's place and is none: a folder without a manifest, a file, a link."""
        if os.path.lexists(self.root / run_id):
            self.set_aside(run_id)

    def _make_certain_of(self, aside: Path) -> None:
        """Before what it replaces leaves."""
        durable.sync(aside.parent)
        durable.sync(self.root)

    def _put_in_place(self, aside: Path) -> None:
        aside.rename(self.root / aside.name.partition("~")[0])
        durable.sync(self.root)

    def _sweep_partial(self, run_id: str) -> None:
        """Of what killed writers of a claimed run left, put a whole result, a new one first, where none is, and remove the rest."""
        for path in sorted(self.root.glob(f".partial/{run_id}~*")):
            if run_id not in self and is_whole(path):
                self._clear(run_id)
                self._put_in_place(path)
            else:
                _remove(path)


def require_writable(name: str, folder: Path, remedy: str) -> None:
    """Refuse a folder that cannot be written, or made where it is missing; nothing is left behind.

    Raises:
        StoreError: naming the place, the reason and the remedy.
    """
    try:
        there = next(place for place in [folder, *folder.parents] if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StoreError(f"{name}: {folder} cannot be written ({error.strerror}); {remedy}") from None


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise SpecError(f"arrays: {', '.join(objects)} hold Python objects; allowed: numbers, booleans and text")
    if taken := NUMPYS.intersection(arrays):
        raise SpecError(f"arrays: got the names {', '.join(sorted(taken))}, which numpy's writer has for itself; allowed: any other")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _safetensors(weights: dict[str, np.ndarray]) -> bytes:
    """safetensors writes the memory of a transposed array in its own order without a word: hence the copy in C order."""
    return save_safetensors({name: np.asarray(array, order="C") for name, array in weights.items()})


def _remove(path: Path) -> None:
    """A folder with all that is in it, a file or a link; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
