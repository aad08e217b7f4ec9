"""scikit-learn's handwritten digits, 8 px and sixteen grey levels, in a split kept beside this module. Start from `digits`."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vitlib.inputs.pictures import DataError

SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
SPLIT = Path(__file__).with_name("digits_split.csv")


def digits(split: str) -> tuple[Callable[[int], Image.Image], np.ndarray]:
    """The pictures of a split by place, and their labels int64 (N,)."""
    table = pd.read_csv(SPLIT)
    rows = table.loc[table["split"] == split, "index"].to_numpy()
    values = pd.read_csv(_file(), header=None).to_numpy(np.float64)[rows]  # as `load_digits` does, without a second to import scikit-learn
    images = (values[:, :64].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)  # sixteen grey levels
    return lambda index: Image.fromarray(images[index]), values[:, 64].astype(np.int64)


def digits_fingerprint() -> str:
    """SHA-256 of scikit-learn's file.

    Raises:
        DataError: if it is another file than the one known here.
    """
    path = _file()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise DataError(f"digits: {path.name} of scikit-learn has sha256 {found}, expected {SHA256}; reinstall scikit-learn")
    return found


def _file() -> Path:
    return Path(importlib.util.find_spec("sklearn").submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
