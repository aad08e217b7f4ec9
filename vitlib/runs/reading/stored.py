"""A run as it lies in the store: a file is read when it is asked for, and compared with the manifest before anything in it is believed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import pandas as pd
from safetensors.numpy import load as load_safetensors

from vitlib.runs.manifest import MANIFEST, DamagedError, content_of, json_table, promised, require_described
from vitlib.spec import RunSpec

WEIGHTS = "weights.safetensors"
Parsed = TypeVar("Parsed")


class Stored:
    """A run that was found in a store.

    Every attribute raises a DamagedError where the bytes that it is read from are not those that were written, unless something stands in.

    Args:
        digests: SHA-256 of its files by name, as the manifest had them when it was found.
        asked: the run that it has to be; before anything of it is believed, its description is compared.

    Attributes:
        otherwise: called with the run's id and the error where a file is damaged or gone; it gives a run that stands in, or raises.
        instead: what it gave, or the error that it raised; None while nothing turned out to be damaged.
    """

    def __init__(self, root: Path, run_id: str, digests: dict[str, str], asked: RunSpec | None = None):
        self.root, self.id, self._promised, self._asked = root, run_id, digests, asked
        self.otherwise: Callable[[str, DamagedError], Stored] = _refuse
        self.instead: Stored | DamagedError | None = None

    @property
    def folder(self) -> Path:
        return self.root / self.id

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self._parsed("result.json", json.loads)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return self._parsed("provenance.json", json.loads)

    @cached_property
    def spec(self) -> dict[str, Any]:
        return self._parsed("spec.json", json.loads)

    @cached_property
    def history(self) -> pd.DataFrame | None:
        return self._parsed("history.csv", lambda content: pd.read_csv(io.BytesIO(content)))

    @cached_property
    def history_text(self) -> bytes | None:
        """The history as it lies there: histories of many runs are sooner parsed together."""
        return self._content("history.csv")

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """By name; each is unpacked when it is asked for."""
        return self._parsed("arrays.npz", partial(Arrays, self.id)) or {}

    @property
    def weights(self) -> dict[str, np.ndarray] | None:
        """By parameter name, read anew each time; None if the run kept none."""
        return self._parsed(WEIGHTS, load_safetensors)

    def parse(self) -> None:
        """All that is parsed when it is asked for otherwise, but for weights: whoever wrote the files may have meant something else."""
        for name in ("metrics", "provenance", "spec"):
            if not isinstance(getattr(self, name), dict):
                raise DamagedError(f"{self.id}: its {name} are no table")
        for values in (self.history, *self.arrays.values()):
            np.shape(values)

    def _parsed(self, name: str, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        content = self._content(name)
        try:
            return None if content is None else parse(content)
        except Exception as error:  # whoever wrote it was not `Store.put`
            raise DamagedError(f"{self.id}: {name} holds what is no run ({type(error).__name__}: {error})") from None

    def _content(self, name: str) -> bytes | None:
        """The checked bytes of a file, of the stand-in's where there is one; None if the run has no such file."""
        if self.instead is None:
            try:
                self._require_described()
                return self._checked(name)
            except DamagedError as error:
                self.instead = self._stand_in(error)
        if isinstance(self.instead, DamagedError):
            raise self.instead
        return self.instead._content(name)

    def _require_described(self) -> None:
        """Once."""
        if self._asked is not None:
            require_described(self.id, json_table(self._checked("spec.json") or b""), self._asked)
            self._asked = None

    def _stand_in(self, error: DamagedError) -> Stored | DamagedError:
        try:
            return self.otherwise(self.id, error)
        except DamagedError as final:
            return final

    def _checked(self, name: str) -> bytes | None:
        if (digest := self._promised.get(name)) is None:
            return None
        content = content_of(f"{self.root}/{self.id}/{name}")
        if content is not None and hashlib.sha256(content).hexdigest() == digest:
            return content
        now = promised(content_of(f"{self.root}/{self.id}/{MANIFEST}") or b"")
        if now is None:
            raise DamagedError(f"{self.id}: not in {self.root} any more")
        if now == self._promised or name not in now:
            raise DamagedError(f"{self.id}: {name} changed since it was written")
        self._promised = now  # computed anew since it was found
        return self._checked(name)


class Arrays(Mapping):
    """The arrays of a npz file, whose bytes were checked."""

    def __init__(self, run_id: str, content: bytes):
        self._run_id = run_id
        self._packed = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(self._packed, np.lib.npyio.NpzFile):
            raise ValueError("no npz file")
        self._unpacked: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._unpacked:
            self._unpacked[name] = self._array(name)
        return self._unpacked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed.files)

    def __len__(self) -> int:
        return len(self._packed.files)

    def _array(self, name: str) -> np.ndarray:
        try:
            array = self._packed[name]
        except KeyError:
            raise
        except Exception as error:  # whoever wrote it was not `Store.put`
            raise DamagedError(f"{self._run_id}: {name!r} of arrays.npz cannot be unpacked ({type(error).__name__}: {error})") from None
        if not isinstance(array, np.ndarray):
            raise DamagedError(f"{self._run_id}: {name!r} of arrays.npz is no array")
        return array


def _refuse(_: str, error: DamagedError) -> NoReturn:
    raise error
