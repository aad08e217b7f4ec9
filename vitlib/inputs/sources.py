"""Where images come from: the embedded digits, image folders, torchvision's and timm's data sets by name.

`Data` says which images; `check` refuses what cannot be read before anything is computed; `load` gives arrays,
`pictures` reads one after the other of sets too large to hold. Imports no torch, so that a bad name is refused in a second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

import numpy as np
from PIL import Image
from pydantic import Field, field_validator, model_validator

from vitlib.inputs.pictures import AbsentError, DataError, FilePictures, RowPictures, Shift, shifted_pictures, square
from vitlib.inputs.sets import records
from vitlib.inputs.sets.catalogue import CATALOGUE, named_split, opened_as_folders, stratified
from vitlib.inputs.sets.digits import digits, digits_fingerprint
from vitlib.inputs.sets.fingerprints import Files
from vitlib.inputs.sets.folders import SPLIT_FOLDERS, SplitFolder, check_folder, report, tree
from vitlib.inputs.sets.hub import hub_split
from vitlib.inputs.sets.shards.split import shard_split
from vitlib.spec import Part

KINDS = ("digits", "folder/NAME", "torch/NAME", "hfds/OWNER/NAME", "wds/NAME")
STREAMED = ("folder/", "hfds/", "wds/")
ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".xz")
OF_SPLIT_FOLDERS = ("/imagenet", "/image_folder", "/folder")  # sets of timm that read train/ and val/ themselves
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KEPT_BYTES = 2**30  # of decoded images, from one run of a process to the next
Picture = Callable[[int], Image.Image]  # one picture of a split by its place: a set of large ones is never held whole
_RECENT: OrderedDict[tuple[Data, str, Path], tuple[np.ndarray, np.ndarray]] = OrderedDict()


class Data(Part):
    """Which images, at which size.

    Args:
        source: `digits`, `folder/NAME` (data_dir/NAME/train|val|test/CLASS/*), `torchvision/NAME` of `vitlib.inputs.sets.catalogue`,
            `hfds/OWNER/NAME` (a copy of that repository of the Hugging Face hub), `wds/NAME` (webdataset's tar files), or `torch/NAME`
            of `timm.data.create_dataset`; the files lie under data_dir/NAME. NAME of a folder may be a path, `folder/raw/pets`.
        image_size: pixels, square.
        fraction: share of the training set, stratified; `per_class` (images a class) instead of it.
        mean, std: that images are normalised with, by channel; None is the teacher's own where there is one, and otherwise ImageNet's.
        resident: hold all images on the device as uint8; False streams them from disk.
        crop_share: share of the resized side that the centre crop keeps; None is 1 for resident images, 0.875 for streamed ones.
        shift: a shifted test set in place of the test set.
        fingerprint: SHA-256 of the files, filled in by `pinned`.
    """

    source: str
    image_size: Annotated[int, Field(ge=4, le=1024)]
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    per_class: Annotated[int, Field(ge=1)] | None = None
    subset_seed: Annotated[int, Field(ge=0)] = 0
    mean: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    resident: bool = True
    crop_share: Annotated[float, Field(gt=0, le=1)] | None = None
    shift: Shift | None = None
    fingerprint: str = ""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, name = source.partition("/")
        parts = PurePosixPath(name).parts
        external = (kind in {"folder", "torch", "wds"} and parts) or (kind == "hfds" and len(parts) == 2)
        external = external and ".." not in parts and not name.startswith("/")
        plain = "/".join([kind, *parts])  # a trailing slash means nothing
        if plain != "digits" and not external and not (kind == "torchvision" and "/".join(parts) in CATALOGUE):
            raise ValueError(f"allowed: {', '.join(map(repr, KINDS))}, 'torchvision/' + {', '.join(CATALOGUE)}")
        return plain

    @model_validator(mode="after")
    def _one_subset(self) -> Self:
        if self.per_class is not None and self.fraction != 1.0:
            raise ValueError(f"per_class={self.per_class} and fraction={self.fraction} exclude each other; give one")
        counts = [len(values or ()) for values in (self.mean, self.std)]
        if counts[0] != counts[1]:
            raise ValueError(f"mean has {counts[0]} channels and std {counts[1]}; they must agree")
        if not self.resident and not self.source.startswith(STREAMED):
            raise ValueError(f"resident=False with source={self.source!r}, which cannot be streamed; allowed: {', '.join(STREAMED)}")
        if self.shift and not self.resident:
            raise ValueError("shift is drawn on resident images; set resident=True or leave shift out")
        return self

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation by channel."""
        return (IMAGENET_MEAN, IMAGENET_STD) if self.mean is None else (self.mean, self.std)

    @property
    def channels(self) -> int:
        return len(self.normalisation[0])

    def pinned(self, data_dir: Path) -> Data:
        """The same data with its fingerprint, which becomes part of every run's identity."""
        return self.changed(fingerprint=fingerprint(self.source, data_dir))


def check(data: Data, data_dir: Path, splits: tuple[str, ...] = ("train", "test")) -> None:
    """Refuse data that training would stumble over; `splits` are those that will be read.

    Raises:
        DataError: missing folder, class without images, unreadable image, classes that differ between splits, fewer
            images in a class than `per_class`, or a fingerprint that is not the one the run was described with.
    """
    _require_described(data, data_dir)
    if data.source.startswith("folder/"):
        check_folder(_root(data.source, data_dir), data.channels, splits)
    if data.source.startswith(("torchvision/", "hfds/", "wds/")):
        for split in splits:
            _dataset(data, split, data_dir)
    if data.per_class and "train" in splits:
        subset(_training_labels(data, data_dir), data)


def compare(sources: Iterable[str], data_dir: Path, recorded: Path, *, verify: bool = False) -> None:
    """Refuse sources whose files were written since results on them began, see `vitlib.inputs.sets.records`; the digits never are."""
    for source in (source for source in dict.fromkeys(sources) if source != "digits"):
        records.compare(source, files(source, data_dir), fingerprint(source, data_dir), recorded, verify=verify)


def left_out(sources: Iterable[str], data_dir: Path) -> list[str]:
    """A line for each folder with files that are not read."""
    folders = [source for source in dict.fromkeys(sources) if source.startswith("folder/")]
    lines = [report(source, _split_folders(_root(source, data_dir))) for source in folders]
    return [line for line in lines if line]


def class_names(data: Data, data_dir: Path) -> list[str]:
    """Names of the classes in the order of their labels."""
    if data.source == "digits":
        return [str(digit) for digit in range(10)]
    if data.source.startswith("folder/"):
        root = _root(data.source, data_dir)
        split = "train" if (root / "train").is_dir() else "test"  # of a set that is only evaluated
        return SplitFolder.of(root, split).classes
    dataset = _dataset(data, "train", data_dir)
    names = getattr(getattr(dataset, "dataset", dataset), "classes", None) or sorted(set(_labels(dataset)))
    return [str(name) for name in names]


def load(data: Data, split: str, data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of one split, not to be written to: this process keeps the latest of them.

    Raises:
        DataError: if the files are not those that the fingerprint was taken of, as when they were replaced while a study runs.
    """
    key = (data, split, data_dir)
    if key not in _RECENT:
        if data.fingerprint:
            fingerprint.cache_clear()
            _require_described(data, data_dir)
        _RECENT[key] = _decoded(data, split, data_dir)
    _RECENT.move_to_end(key)
    while len(_RECENT) > 1 and sum(images.nbytes for images, _ in _RECENT.values()) > KEPT_BYTES:
        _RECENT.popitem(last=False)
    return _RECENT[key]


def _decoded(data: Data, split: str, data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    picture, labels = pictures(data, split, data_dir)
    every = (picture(place) for place in range(len(labels)))
    if split == "test" and data.shift:
        every = shifted_pictures(every, data.shift)
    return np.stack([square(each, data.image_size, data.crop_share or 1.0) for each in every]), labels


def pictures(data: Data, split: str, data_dir: Path) -> tuple[Picture, np.ndarray]:
    """The pictures of a split by their place, each read when it is asked for, and their labels int64 (N,)."""
    if data.source.startswith("folder/"):
        paths, labels = listing(data, split, data_dir)
        return FilePictures(paths, data.channels), labels
    every, labels = digits(split) if data.source == "digits" else _dataset_pictures(data, split, data_dir)
    keep = subset(labels, data) if split == "train" else np.arange(len(labels))
    return RowPictures(every, keep, data.channels, f"{split} of {data.source}"), labels[keep]


def listing(data: Data, split: str, data_dir: Path) -> tuple[list[Path], np.ndarray]:
    """Paths and labels of a folder's split, in the order of torchvision's ImageFolder; an absent test split is `val`."""
    folder = SplitFolder.of(_root(data.source, data_dir), split)
    names, labels = folder.pictures()
    keep = subset(labels, data) if split == "train" else np.arange(len(labels))
    return [folder.root / names[index] for index in keep], labels[keep]


def require_batch(batch_size: int, images: int, source: str) -> None:
    if images < batch_size:
        raise DataError(f"batch_size: got {batch_size}, but {source} has {images} training images; allowed: at most that")


def subset(labels: np.ndarray, data: Data) -> np.ndarray:
    """Sorted indices of a stratified few-shot subset: `per_class` images a class, or `fraction` of each (rounded down, at least one)."""
    if data.per_class is None and data.fraction == 1.0:
        return np.arange(len(labels))
    for label, images in zip(*np.unique(labels, return_counts=True), strict=True):
        if data.per_class and data.per_class > images:
            raise DataError(
                f"data.per_class: got {data.per_class}, class {label} of {data.source} has {images} images; allowed: at most that"
            )
    return np.flatnonzero(stratified(labels, data.fraction, data.per_class, data.subset_seed))


def training_count(data: Data, data_dir: Path, held_out: float = 0.0) -> int:
    """Number of training images, those of the subset but for a stratified share that is held out."""
    every = _training_labels(data, data_dir)
    labels = every[subset(every, data)]
    return len(labels) - int(held_out and stratified(labels, held_out).sum())


@lru_cache(maxsize=32)
def fingerprint(source: str, data_dir: Path) -> str:
    """SHA-256 of the source's files, see `vitlib.inputs.sets.fingerprints`; kept until `load_study` or a run's start asks anew."""
    return digits_fingerprint() if source == "digits" else files(source, data_dir).fingerprint()


def files(source: str, data_dir: Path) -> Files:
    """What a source's fingerprint is of: a folder's pictures; of other sets all files but archives and hidden ones.

    Raises:
        DataError: if there are none.
    """
    root = _root(source, data_dir)
    if source.startswith("folder/"):
        names = [f"{split.root.name}/{name}" for split in _split_folders(root) for name in split.names()]
    else:
        every = [name for name in tree(root).files if source.startswith("wds/") or not name.endswith(ARCHIVES)]
        beside = [name for name in every if name.partition("/")[0] not in SPLIT_FOLDERS]  # a set in both layouts may lie in one folder
        names = every if source.endswith(OF_SPLIT_FOLDERS) else beside or every
    if not names:
        raise AbsentError(_absent(source, root, "it holds no files"))
    return Files.below(root, names)


def _split_folders(root: Path) -> list[SplitFolder]:
    """Those with classes: an empty one is refused where a run reads it."""
    folders = [root / name for name in SPLIT_FOLDERS if (root / name).is_dir()]
    return [SplitFolder(folder) for folder in folders if any(each.is_dir() for each in folder.iterdir())]


def _require_described(data: Data, data_dir: Path) -> None:
    found = fingerprint(data.source, data_dir)
    if data.fingerprint and data.fingerprint != found:
        raise DataError(
            f"data.fingerprint: {data.source} under {data_dir} has {found[:12]}, the run was described with "
            f"{data.fingerprint[:12]}; describe the study again to use the files as they are now"
        )


def _root(source: str, data_dir: Path) -> Path:
    kind, _, name = source.partition("/")
    root = data_dir / (PurePosixPath(name).name if kind == "hfds" else name)
    if not root.is_dir():
        raise AbsentError(_absent(source, root, "the folder does not exist"))
    return root


def _absent(source: str, root: Path, why: str) -> str:
    kind, _, name = source.partition("/")
    remedy = {
        "folder": "Put train|val|test/CLASS/*.jpg there",
        "wds": "Put its tar files there",
        "hfds": f"Get them by `hf download {name} --repo-type dataset --local-dir {root}`",
    }.get(kind, f"Put the files of {source!r}, laid out as its loader expects, there")
    return (
        f"data.source: {source!r} was looked for in {root}: {why}. {remedy}, or set data_dir "
        "(notebook parameter, --data-dir, VITLIB_DATA). The profiles smoke and quick need no files."
    )


def _training_labels(data: Data, data_dir: Path) -> np.ndarray:
    if data.source == "digits":
        return digits("train")[1]
    if data.source.startswith("folder/"):
        return listing(data.changed(per_class=None, fraction=1.0), "train", data_dir)[1]
    return np.array(_labels(_dataset(data, "train", data_dir)), dtype=np.int64)


def _dataset_pictures(data: Data, split: str, data_dir: Path) -> tuple[Picture, np.ndarray]:
    dataset = _dataset(data, split, data_dir)
    return partial(_picture_of, dataset), np.array(_labels(dataset), dtype=np.int64)


def _picture_of(dataset, place: int) -> Image.Image:
    return dataset[place][0]


def _dataset(data: Data, split: str, data_dir: Path):
    from timm.data import create_dataset

    root = _root(data.source, data_dir)
    try:
        if data.source.startswith("torchvision/"):
            return named_split(data.source.partition("/")[2], split, root)
        if data.source.startswith("hfds/"):
            return hub_split(data.source.partition("/")[2], split, root)
        if data.source.startswith("wds/"):
            return shard_split(split, root)
        return opened_as_folders(create_dataset(data.source, root=str(root), split=split, download=False))
    except DataError:
        raise
    except (RuntimeError, ValueError, AssertionError, OSError, ImportError) as error:
        raise DataError(_absent(data.source, root, f"{type(error).__name__}: {error}")) from None


def _labels(dataset) -> list[int]:
    targets = getattr(getattr(dataset, "dataset", dataset), "targets", None)
    return list(targets) if targets is not None else [int(dataset[index][1]) for index in range(len(dataset))]
