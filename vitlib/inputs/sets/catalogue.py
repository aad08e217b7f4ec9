"""Named data sets of torchvision and how each is split; the files lie where torchvision looks for them below `data_dir/NAME`.

Caltech-101 and EuroSAT have no split of their own: a seeded one is drawn once and written to `data_dir/NAME.split.csv` (image,
split), which is read from then on. SUN397 uses its published partition 1, whose two lists belong into `data_dir/sun397`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vitlib.inputs.pictures import DataError, open_image
from vitlib.inputs.sets.folders import is_hidden

SUN397_LISTS = {"train": "Training_01.txt", "test": "Testing_01.txt"}


class Split:
    """Some images of a torchvision data set: length, (image, label) by place, `targets` and `classes`."""

    def __init__(self, dataset: Any, kept: np.ndarray | None = None):
        self._dataset = dataset
        labels = _labels(dataset)
        self._kept = np.arange(len(labels)) if kept is None else kept
        self.targets = labels[self._kept]
        self.classes = list(getattr(dataset, "classes", None) or dataset.categories)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        image, label = self._dataset[int(self._kept[place])]
        return image, int(label)


def named_split(name: str, split: str, root: Path) -> Split:
    """A split ('train' or 'test') of one of the sets of `CATALOGUE`, its files below `root`.

    Raises:
        DataError: for a split that the set does not have.
        RuntimeError, FileNotFoundError: from torchvision, if files are missing.
    """
    if split not in ("train", "test"):
        raise DataError(f"data split {split!r} of torchvision/{name}; allowed: train, test")
    return CATALOGUE[name](root, split)


def stratified(labels: np.ndarray, share: float | None = None, per_class: int | None = None, seed: int = 0) -> np.ndarray:
    """True for some images: of each class a `share` (rounded down, at least one) or `per_class` of them, drawn from `seed`."""
    drawn = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        drawn[members[: per_class or max(1, int(share * len(members) + 1e-9))]] = True
    return drawn


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of at most `count` images, one a class after the other until there are enough, drawn from `seed`."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def opened_as_folders(dataset: Any) -> Any:
    """The same set of torchvision, its files opened as a folder's are instead of converted to RGB as they come.

    Raises:
        DataError: for hidden files, which a folder is read without and this set would not be.
    """
    for path, _ in getattr(dataset, "samples", []):
        if any(map(is_hidden, Path(path).relative_to(dataset.root).parts)):
            raise DataError(f"image {path}: hidden, and torchvision's {type(dataset).__name__} would read it; remove it")
    if hasattr(dataset, "loader"):
        dataset.loader = partial(open_image, channels=3)
    return dataset


def _official(cls: str, train: str, test: str = "test") -> Callable[[Path, str], Split]:
    """A class of torchvision that knows its splits by these names."""

    def load(root: Path, split: str) -> Split:
        import torchvision.datasets

        return Split(opened_as_folders(getattr(torchvision.datasets, cls)(root, split={"train": train, "test": test}[split])))

    return load


def _drawn(cls: str, **rule: float | int) -> Callable[[Path, str], Split]:
    """A class of torchvision without splits, stratified by a rule and kept in a file beside its folder."""

    def load(root: Path, split: str) -> Split:
        import torchvision.datasets

        dataset = opened_as_folders(getattr(torchvision.datasets, cls)(root))
        return Split(dataset, _stored(root.with_suffix(".split.csv"), _labels(dataset), rule)[split])

    return load


def _stored(path: Path, labels: np.ndarray, rule: dict) -> dict[str, np.ndarray]:
    if not path.exists():
        names = np.where(stratified(labels, **rule), "train", "test")
        pd.DataFrame({"image": np.arange(len(labels)), "split": names}).to_csv(path, index=False)
    table = pd.read_csv(path)
    if sorted(table["image"]) != list(range(len(labels))):
        raise DataError(f"{path}: splits {len(table)} images, the set has {len(labels)}; remove the file to draw the split anew")
    return {name: rows["image"].to_numpy() for name, rows in table.groupby("split")}


def _pets(root: Path, split: str) -> Split:
    from torchvision.datasets import OxfordIIITPet

    class Pets(OxfordIIITPet):
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return open_image(self._images[index], channels=3), self._labels[index]

    return Split(Pets(root, split={"train": "trainval", "test": "test"}[split]))


def _sun397(root: Path, split: str) -> Split:
    import torchvision.datasets

    dataset = opened_as_folders(torchvision.datasets.SUN397(root))
    place = {path.relative_to(root / "SUN397").as_posix(): index for index, path in enumerate(dataset._image_files)}
    lines = (root / SUN397_LISTS[split]).read_text(encoding="utf-8").split()
    return Split(dataset, np.array([place[line.lstrip("/")] for line in lines]))


def _labels(dataset: Any) -> np.ndarray:
    for name in ("targets", "y", "_labels"):
        if hasattr(dataset, name):
            return np.array(getattr(dataset, name), dtype=np.int64)
    return np.array([label for _, label in dataset._samples], dtype=np.int64)


CATALOGUE: dict[str, Callable[[Path, str], Split]] = {
    "aircraft": _official("FGVCAircraft", "trainval"),
    "caltech101": _drawn("Caltech101", per_class=30),
    "cars": _official("StanfordCars", "train"),
    "dtd": _official("DTD", "train"),
    "eurosat": _drawn("EuroSAT", share=0.8),
    "pets": _pets,
    "sun397": _sun397,
}
