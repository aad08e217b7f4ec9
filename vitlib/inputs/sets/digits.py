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
    from sklearn.datasets import load_digits  # 1 s to import

    table = pd.read_csv(SPLIT)
    rows = table.loc[table["split"] == split, "index"].to_numpy()
    bunch = load_digits()
    images = (bunch.images[rows] * (255 / 16)).round().astype(np.uint8)  # sixteen grey levels
    return lambda index: Image.fromarray(images[index]), bunch.target[rows].astype(np.int64)


def digits_fingerprint() -> str:
    """SHA-256 of scikit-learn's file.

    Raises:
        DataError: if it is another file than the one known here.
    """
    path = Path(importlib.util.find_spec("sklearn").submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise DataError(f"digits: {path.name} of scikit-learn has sha256 {found}, expected {SHA256}; reinstall scikit-learn")
    return found
