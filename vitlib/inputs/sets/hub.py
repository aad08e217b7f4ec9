"""Sets of the Hugging Face hub, read from a downloaded copy of their repository; nothing is fetched.

A set has columns `image` and `label`; those that differ are described in `LAYOUTS`. Its splits may be called `valid` or `val`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitlib.inputs.pictures import DataError

log = logging.getLogger("vitlib")
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test", "validation", "valid", "val")}


@dataclass(frozen=True)
class Layout:
    """How a repository keeps its images and labels.

    Args:
        label: column of the label: a class, or a list of classes.
        only: of images with lists of classes, those with exactly one, which is one of these; they are the classes then.
        identity: column that names an image; one that came earlier in its own split, or is in the training split, is left out.
        subject: column that names what an image shows; of the other splits, images of a subject that the training split shows are
            left out. A copy without that column is split by images, with a warning.
    """

    label: str = "label"
    only: tuple[str, ...] = ()
    identity: str = ""
    subject: str = ""


LAYOUTS = {
    "marmal88/skin_cancer": Layout(  # HAM10000, ISIC 2018's task 3: 13,354 rows of 10,015 images of 7,470 lesions
        label="dx", identity="image_id", subject="lesion_id"
    ),
    "chehablab/NIHChestXR": Layout(  # the seven single-label classes of BSCD-FSL's ChestX
        label="labels",
        only=("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax"),
    ),
}


class HubSplit:
    """Some rows of a split: length, (image, label) by place, `targets` (N,) and `classes`."""

    def __init__(self, rows: Any, kept: np.ndarray, targets: np.ndarray, classes: list[str]):
        self._rows, self._kept = rows, kept
        self.targets, self.classes = targets, classes

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        return self._rows[int(self._kept[place])]["image"], int(self.targets[place])


def hub_split(repository: str, split: str, root: Path) -> HubSplit:
    """A split of the repository whose copy lies in `root`.

    Raises:
        DataError: `datasets` is not installed, or the copy lacks the split, a column, or labels.
    """
    layout = LAYOUTS.get(repository, Layout())
    splits = _splits(root)
    rows = _named(splits, split, root)
    if missing := {"image", layout.label, layout.identity} - {"", *rows.column_names}:
        raise DataError(f"data folder {root}: no column {', '.join(sorted(missing))}; there are {', '.join(rows.column_names)}")
    kept = np.arange(len(rows))
    if layout.identity:
        kept = first_seen(rows[layout.identity])
        if split != "train":
            kept = kept[_unseen(rows, _named(splits, "train", root), layout, root)[kept]]
    names = _class_names(rows, layout, splits)
    targets = np.array([_target(value, names, layout) for value in rows[layout.label]], dtype=np.int64)[kept]
    return HubSplit(rows, kept[targets >= 0], targets[targets >= 0], list(layout.only or names))


def first_seen(names: list[str]) -> np.ndarray:
    """Places of the names that did not come earlier."""
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    return np.array(sorted(first.values()), dtype=np.int64)


def _unseen(rows: Any, training: Any, layout: Layout, root: Path) -> np.ndarray:
    """True for rows whose image and subject the training split does not hold; (N,)."""
    columns = [name for name in (layout.identity, layout.subject) if name in rows.column_names and name in training.column_names]
    if layout.subject not in columns:
        _say(f"{root}: no column {layout.subject}; images are kept apart by {layout.identity} alone, and both splits may show one subject")
    unseen = np.ones(len(rows), dtype=bool)
    for column in columns:
        known = {value for value in training[column] if value is not None}
        unseen &= [value not in known for value in rows[column]]
    return unseen


@cache
def _say(message: str) -> None:
    """A warning, once a process."""
    log.warning(message)


def _splits(root: Path) -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(f"data folder {root}: sets of the hub are read by the package datasets; pip install 'datasets>=4'") from None
    return load_dataset(str(root), cache_dir=str(root / ".cache"))


def _named(splits: Any, split: str, root: Path) -> Any:
    for name in SPLITS[split]:
        if name in splits:
            return splits[name]
    raise DataError(f"data split {split!r}: none of {', '.join(SPLITS[split])} in {root}; there are {', '.join(splits)}")


def _class_names(rows: Any, layout: Layout, splits: Any) -> list[str]:
    """The names that the labels count, or the sorted labels of all splits where they are names themselves."""
    feature = rows.features[layout.label]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return names or sorted({value for split in splits.values() for value in split[layout.label]})


def _target(value: Any, names: list[str], layout: Layout) -> int:
    """The place of a label among the classes, or -1 for an image to leave out."""
    if layout.only:
        single = names[value[0]] if len(value) == 1 else ""
        return layout.only.index(single) if single in layout.only else -1
    return names.index(value) if isinstance(value, str) else value
