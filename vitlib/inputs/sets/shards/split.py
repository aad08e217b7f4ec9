"""A split of a set in tar files: its files by `_info.json`, as timm writes it, or by the split's name in theirs."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from PIL import Image

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.folders import tree
from vitlib.inputs.sets.hub import SPLITS
from vitlib.inputs.sets.shards.index import index_of

INFO = "_info.json"


class ShardSplit:
    """Images in tar files: length, (image, label) by place, `targets` (N,) and `classes`, which are numbers."""

    def __init__(self, root: Path, names: list[str], classes: int):
        index = index_of(root, names)
        self._root, self._names = root, names
        self._places, self.targets = index[:, :3], index[:, 3].copy()
        self.classes = [str(label) for label in range(classes or 1 + int(self.targets.max(initial=-1)))]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        number, first, size = self._places[place].tolist()
        with open(self._root / self._names[number], "rb") as shard:
            shard.seek(first)
            return Image.open(io.BytesIO(shard.read(size))), int(self.targets[place])


def shard_split(split: str, root: Path) -> ShardSplit:
    """A split of the tar files below `root`; its classes are those of the training split.

    Raises:
        DataError: if there are no tar files of that split, or no images in them.
    """
    every = ShardSplit(root, _named(split, root), 0 if split == "train" else _classes(root))
    if not len(every):
        raise DataError(f"data folder {root}: no images in the tar files of {split}")
    return every


def _classes(root: Path) -> int:
    """Of the training split, if there is one."""
    try:
        return len(ShardSplit(root, _named("train", root), 0).classes)
    except DataError:
        return 0


def _named(split: str, root: Path) -> list[str]:
    """Tar files of a split in their order."""
    known = _described(root)
    for name in SPLITS[split]:
        if name in known:
            return known[name]
    shards = [name for name in tree(root).files if name.endswith(".tar")]
    for name in SPLITS[split]:
        if found := [shard for shard in shards if re.search(rf"(^|[^a-z]){name}([^a-z]|$)", shard)]:
            return found
    raise DataError(
        f"data split {split!r}: no tar files named {' or '.join(SPLITS[split])} in {root}; there are {len(shards)}; "
        f"allowed: NAME-{split}-0000.tar, {split}/0000.tar, or a list in {INFO}"
    )


def _described(root: Path) -> dict[str, list[str]]:
    path = root / INFO
    if not path.exists():
        return {}
    try:
        return {name: list(about["filenames"]) for name, about in json.loads(path.read_text(encoding="utf-8"))["splits"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"data file {path}: no splits with filenames in it ({error!r}); correct or remove it") from None
