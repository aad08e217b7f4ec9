"""Photos as they come: a folder with or without splits, or a set by its name; linked below the store, never copied or moved.

A folder `<class>/*` is split once: of each class, the share of its photos whose names' SHA-256 with the seed come first are test photos. A
photo that is added later moves few others. The list lies beside the links, and the names of all files, each in its split, are part of
the identity of every run.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from vitlib import durable
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.fingerprints import Files
from vitlib.inputs.sets.folders import SUFFIXES, SplitFolder
from vitlib.inputs.sources import Data, class_names, fingerprint
from vitlib.messages import brief

NAMED = ("torchvision/", "hfds/", "torch/", "folder/")
LAYOUT = "allowed: train|test/<class>/* or <class>/*"


def placed(photos: str | os.PathLike, inputs: Path, data_dir: Path, *, test_share: float, seed: int) -> tuple[str, str]:
    """The source, as `vitlib.inputs.sources.Data` names it below `inputs`, and a sentence on where its test photos come from.

    Raises:
        DataError: nothing there, no photos, one class, a class with a single photo.
    """
    if not isinstance(photos, str | os.PathLike):
        raise DataError(f"photos: got {brief(photos)}; {LAYOUT}, or the name of a set")
    text = os.fspath(photos)
    if text == "digits":
        return text, "handwritten digits of scikit-learn, with their own split"
    if text.startswith(NAMED) and not Path(text).is_dir():
        return _named(text, inputs, data_dir)
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise DataError(f"photos: {folder} is {what}; {LAYOUT}, 'digits', or one of {', '.join(NAMED)} with a name")
    return _split(folder, inputs) if _has_splits(folder) else _unsplit(folder, inputs, test_share, seed)


def require_classes(data: Data, data_dir: Path) -> int:
    """Number of classes.

    Raises:
        DataError: for fewer than two.
    """
    names = class_names(data, data_dir)
    if len(names) < 2:
        raise DataError(f"photos: one class ({names[0]!r}) leaves nothing to tell apart; allowed: two class folders or more")
    return len(names)


def _named(source: str, inputs: Path, data_dir: Path) -> tuple[str, str]:
    """A set below data_dir, under its own name."""
    plain = Data.made(source=source, image_size=32).source
    fingerprint.cache_clear()
    fingerprint(plain, data_dir)
    kind, _, name = plain.partition("/")
    place = Path(name).name if kind == "hfds" else name
    _link(inputs / place, data_dir / place)
    return plain, f"{plain} with its own split"


def _has_splits(folder: Path) -> bool:
    return (folder / "train").is_dir() and any((folder / name).is_dir() for name in ("test", "val"))


def _split(folder: Path, inputs: Path) -> tuple[str, str]:
    splits = [SplitFolder.of(folder, name) for name in ("train", "test")]
    for split in splits:
        _require_photos(split)
    names = [f"{split.root.name}/{name}" for split in splits for name in split.names()]
    place = f"photos/{Files.below(folder, names).fingerprint()[:16]}"
    _link(inputs / place, folder)
    return f"folder/{place}", f"test photos are those of {splits[1].root}"


def _unsplit(folder: Path, inputs: Path, share: float, seed: int) -> tuple[str, str]:
    root = folder / "train" if (folder / "train").is_dir() else folder
    whole = SplitFolder(root)
    _require_photos(whole)
    names, labels = whole.pictures()
    by_class = [[name for name, label in zip(names, labels, strict=True) if label == wanted] for wanted in range(len(whole.classes))]
    if single := [name for name, photos in zip(whole.classes, by_class, strict=True) if len(photos) < 2]:
        raise DataError(f"photos: class {single[0]!r} of {root} has a single photo; allowed: two or more, one of them to test on")
    tested = {name for photos in by_class for name in _drawn(photos, share, seed)}
    splits = {name: "test" if name in tested else "train" for name in names}
    content = Files.below(root, names).fingerprint()
    place = f"photos/{hashlib.sha256(f'{content} {sorted(tested)}'.encode()).hexdigest()[:16]}"
    _lay_out(inputs / place, root, splits)
    listed = inputs / f"{place}.csv"
    return f"folder/{place}", f"{len(tested)} of {len(names)} photos, {share:.0%} of each class (seed {seed}), are test photos: {listed}"


def _require_photos(split: SplitFolder) -> None:
    folders = [path for path in split.root.iterdir() if path.is_dir()]
    if not folders or not split.names():
        raise DataError(f"photos: no class folder of {split.root} holds a photo; {LAYOUT}, of {', '.join(SUFFIXES)}")


def _drawn(photos: list[str], share: float, seed: int) -> list[str]:
    order = sorted(photos, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return order[: min(len(photos) - 1, max(1, round(share * len(photos))))]


def _lay_out(place: Path, root: Path, splits: dict[str, str]) -> None:
    """A folder of links, SPLIT/CLASS/FILE, and the list beside it; made aside and renamed, so that it is whole or not there."""
    first = next(iter(splits))
    if (link := place / splits[first] / first).is_symlink() and Path(os.readlink(link)) == root / first:
        return
    aside = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
    for name, split in splits.items():
        link = aside / split / name
        durable.make(link.parent)
        link.symlink_to(root / name)
    for folder in {(aside / split / name).parent for name, split in splits.items()}:
        durable.sync(folder)
    with durable.whole(place.with_name(f"{place.name}.csv")) as listed, listed.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("photo", "split"), *splits.items()])
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # another process was first
        aside.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def _link(place: Path, target: Path) -> None:
    if place.is_symlink() and Path(os.readlink(place)) == target:
        return
    durable.make(place.parent)
    aside = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
    aside.symlink_to(target, target_is_directory=True)
    aside.replace(place)
