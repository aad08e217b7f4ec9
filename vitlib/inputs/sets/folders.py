"""Which files of a folder are its pictures: the one answer that reading, labels, counting and the fingerprint share.

What torchvision's ImageFolder reads is read, in its order: files of its suffixes below SPLIT/CLASS, at any depth, links followed.
Hidden files and folders are not, which ImageFolder would take. Start from `SplitFolder`.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vitlib.inputs.pictures import DataError, check_header, open_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's IMG_EXTENSIONS
SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test", "val")}
SPLIT_FOLDERS = sorted({name for names in SPLITS.values() for name in names})
NEITHER = "neither file nor folder"  # a link that leads nowhere, a pipe
LAYOUT = "allowed layout: train|val|test/CLASS/*"
_HIDDEN = {"@eaDir", "__MACOSX"}  # previews of a Synology station, resource forks of a Mac's archive
_PREVIEWS = (".ipynb_checkpoints", ".thumbnails", ".Trash", ".trashed", ".picasaoriginals")  # hold pictures, and are no class
_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers, in any folder
_Folder = tuple[int, int]  # device and inode


@dataclass
class Tree:
    """Files below a folder, paths relative to it, sorted by folder and then by name; beside them what is hidden, and what is neither."""

    files: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    neither: list[str] = field(default_factory=list)


def tree(root: Path, within: dict[_Folder, str] | None = None) -> Tree:
    """All files below `root`, links followed, hidden ones aside.

    Args:
        within: folders above `root` that no link may lead back to, with their names.

    Raises:
        DataError: a link in a circle, a folder that cannot be read.
    """
    found = Tree()
    _visit(str(root), "", _deeper(within or {}, str(root)), found)
    found.files.sort(key=os.path.split)
    return found


@dataclass(frozen=True)
class SplitFolder:
    """One split of a folder: its classes by label, and their pictures.

    Args:
        root: the split's own folder, for instance data_dir/NAME/train.
    """

    root: Path

    @classmethod
    def of(cls, root: Path, split: str) -> SplitFolder:
        """A split below `root`; one that is absent falls back as torchvision users expect (test -> val)."""
        for name in SPLITS[split]:
            if (root / name).is_dir():
                return cls(root / name)
        raise DataError(f"data split {split!r}: none of {', '.join(SPLITS[split])} in {root}; {LAYOUT}")

    @cached_property
    def classes(self) -> list[str]:
        """Names in the order of their labels."""
        names = [entry.name for entry in _entries(str(self.root)) if not is_hidden(entry.name) and _is_folder(entry)]
        if not names:
            raise DataError(f"data folder {self.root}: no class folders in it; {LAYOUT}")
        if {*names} == {str(number) for number in range(len(names))}:  # ImageNet-V2 names its folders 0..999
            return sorted(names, key=int)
        return sorted(names)

    @cached_property
    def trees(self) -> dict[str, Tree]:
        """What lies below each class folder."""
        self._refuse_hidden_classes()
        within = {_folder(self.root.parent): str(self.root.parent), _folder(self.root): str(self.root)}
        return {name: tree(self.root / name, within) for name in self.classes}

    def names(self) -> list[str]:
        """Pictures as CLASS/.../FILE, class after class, an empty class having none."""
        return [f"{name}/{file}" for name, below in self.trees.items() for file in below.files if is_picture(file)]

    def pictures(self) -> tuple[list[str], np.ndarray]:
        """Pictures as CLASS/.../FILE in the order of ImageFolder, and the position of their class, int64 (N,).

        Raises:
            DataError: for a class without pictures.
        """
        names = self.names()
        position = {name: label for label, name in enumerate(self.classes)}
        labels = np.array([position[name.partition("/")[0]] for name in names], dtype=np.int64)
        if empty := sorted({*range(len(self.classes))} - {*labels.tolist()}):
            first = self.root / self.classes[empty[0]]
            raise DataError(f"class folder {first}: no images in it; allowed suffixes: {', '.join(sorted(SUFFIXES))}")
        return names, labels

    def left_out(self) -> dict[str, list[str]]:
        """Files and hidden folders that are not read, by kind."""
        kinds: dict[str, list[str]] = defaultdict(list)
        for entry in _entries(str(self.root)):
            if is_hidden(entry.name):
                kinds["hidden"].append(entry.name)
            elif not _is_folder(entry):
                kinds["outside class folders" if entry.is_file() else NEITHER].append(entry.name)
        for name, below in self.trees.items():
            for file in below.files:
                if not is_picture(file):
                    kinds[os.path.splitext(file)[1].lower() or "without suffix"].append(f"{name}/{file}")
            kinds["hidden"] += [f"{name}/{file}" for file in below.hidden]
            kinds[NEITHER] += [f"{name}/{file}" for file in below.neither]
        without_system = {kind: [name for name in names if os.path.basename(name) not in _SYSTEM] for kind, names in kinds.items()}
        return {kind: names for kind, names in sorted(without_system.items()) if names}

    def _refuse_hidden_classes(self) -> None:
        """A folder such as `.net` beside the classes is a class or a program's own: whoever made it has to say."""
        for entry in _entries(str(self.root)):
            if not entry.name.startswith(".") or entry.name.startswith(_PREVIEWS) or not _is_folder(entry):
                continue
            if any(is_picture(inner.name) for inner in _entries(entry.path)):
                raise DataError(
                    f"class folder {self.root / entry.name}: hidden by the dot in its name, yet it holds pictures; "
                    "rename it if it is a class, remove it otherwise"
                )


def check_folder(root: Path, channels: int, splits: tuple[str, ...], headers: int = 20_000) -> None:
    """Refuse a folder whose splits have other classes, or a picture that cannot be read; of many pictures some `headers` are looked at.

    Raises:
        DataError: naming the classes, or the file.
    """
    folders = [SplitFolder.of(root, split) for split in splits]
    first, *others = ({*folder.classes} for folder in folders)
    if odd := sorted({name for other in others for name in first ^ other}):
        which = f"classes differ between {' and '.join(splits)}: {', '.join(odd[:5])}"
        raise DataError(f"data folder {root}: {which}; allowed: the same in both")
    paths = [folder.root / name for folder in folders for name in folder.pictures()[0]]
    whole = len(paths) <= 2_000  # decode small sets wholly, read the headers of large ones
    for path in paths[:: max(1, len(paths) // headers)]:
        open_image(path, channels) if whole else check_header(path)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is passed over."""
    return name.startswith(".") or name in _HIDDEN


def is_picture(name: str) -> bool:
    """Whether ImageFolder would read a file of that name."""
    return name.lower().endswith(SUFFIXES)


def report(source: str, splits: Iterable[SplitFolder]) -> str:
    """What is left out of a folder's splits, in a line: how many files of each kind, and one of them; empty if nothing is."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for split in splits:
        for kind, names in split.left_out().items():
            kinds[kind] += [f"{split.root.name}/{name}" for name in names]
    if not kinds:
        return ""
    counted = ", ".join(f"{len(names)} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})" for kind, names in sorted(kinds.items()))
    return f"{source}: left out: {counted}; read are {', '.join(sorted(SUFFIXES))}, as torchvision's ImageFolder does"


def _visit(folder: str, inside: str, above: dict[_Folder, str], found: Tree) -> None:
    for entry in _entries(folder):
        name = f"{inside}{entry.name}"
        if is_hidden(entry.name):
            found.hidden.append(name)
        elif _is_folder(entry):
            _visit(entry.path, f"{name}/", _deeper(above, entry.path), found)
        elif entry.is_file():
            found.files.append(name)
        elif is_picture(name) and entry.is_symlink():
            raise DataError(f"data link {entry.path}: leads nowhere; bring back {os.readlink(entry.path)} or remove the link")
        else:
            found.neither.append(name)


def _deeper(above: dict[_Folder, str], folder: str) -> dict[_Folder, str]:
    """The folders above and this one, which may not be among them."""
    own = _folder(Path(folder))
    if own in above:
        link = next((path for path in [Path(folder), *Path(folder).parents] if path.is_symlink()), folder)
        raise DataError(f"data link {link}: leads back to {above[own]}, which it lies in; remove the link")
    return {**above, own: folder}


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"data folder {folder}: cannot be read ({error.strerror})") from None


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        why = "leads back to itself" if error.errno == errno.ELOOP else f"cannot be followed ({error.strerror})"
        raise DataError(f"data link {entry.path}: {why}; remove the link") from None


def _folder(path: Path) -> _Folder:
    status = path.stat()
    return status.st_dev, status.st_ino
