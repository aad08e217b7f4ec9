"""The weights that come with vitlib: half-precision safetensors and a manifest that says how each was made and what it measures.

Start from `manifest` and `read`. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from vitlib.inputs.checkpoints.reading import WeightsError
from vitlib.messages import nearest

WEIGHTS = Path(__file__).with_name("weights")


def manifest() -> dict[str, dict[str, Any]]:
    """Name of each shipped teacher to its entry: file, sha256, model, data, method, seed, commit, device, measured figures."""
    return json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))


def entry(name: str) -> dict[str, Any]:
    """One teacher's entry.

    Raises:
        WeightsError: for a name that is not in the manifest.
    """
    known = manifest()
    if name not in known:
        raise WeightsError(f"shipped: got {name!r}{nearest(name, list(known))}")
    return known[name]


def read(name: str, sha256: str) -> dict[str, np.ndarray]:
    """Weights by parameter name, half precision as float32.

    Raises:
        WeightsError: if the file is missing, or is not the one that a run was described with.
    """
    from safetensors.numpy import load

    weights = load(content(name, sha256))
    return {key: array.astype(np.float32) if array.dtype == np.float16 else array for key, array in weights.items()}


def content(name: str, sha256: str) -> bytes:
    """The bytes of a shipped file, once they are the expected ones."""
    return checked(WEIGHTS / entry(name)["file"], sha256, "reinstall vitlib, or `git checkout` the file")


def write(name: str, weights: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Store weights in half precision (running statistics and counters as they are) and enter them in the manifest."""
    from safetensors.numpy import save

    packed = save({key: _halved(key, array) for key, array in weights.items()})
    (WEIGHTS / f"{name}.safetensors").write_bytes(packed)
    made = {"file": f"{name}.safetensors", "sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}
    _renew({name: made | facts})


def amend(name: str, facts: dict[str, Any]) -> None:
    """Add facts to a teacher's entry."""
    _renew({name: entry(name) | facts})


def checked(path: Path, sha256: str, remedy: str) -> bytes:
    """The bytes of a file, once their SHA-256 is the expected one."""
    packed = content_of(path, remedy)
    found = sha256_of(packed)
    if found != sha256:
        raise WeightsError(f"weights {path}: sha256 is {found[:12]}, expected {sha256[:12]}: the file was changed or damaged; {remedy}")
    return packed


def content_of(path: Path, remedy: str) -> bytes:
    if path.is_dir():
        raise WeightsError(f"weights {path}: is a folder, not a file; {remedy}")
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; {remedy}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror}); {remedy}") from None


def sha256_of(packed: bytes) -> str:
    return hashlib.sha256(packed).hexdigest()


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    parameter = array.dtype == np.float32 and "running_" not in name
    return np.ascontiguousarray(array, dtype=np.float16 if parameter else None)


def _renew(entries: dict[str, dict[str, Any]]) -> None:
    known = manifest() if (WEIGHTS / "manifest.json").exists() else {}
    (WEIGHTS / "manifest.json").write_text(json.dumps(known | entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
