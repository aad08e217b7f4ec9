"""What a loan takes along and brings home: image folders out of archives, results in parts that a machine gives back."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

PART = 15 * 2**20  # bytes of a file that comes back; 16 MiB are allowed
FILES = 8  # that come back, one of them the log
SPLITS = {"train", "test", "val"}


class Refused(Exception):
    """A request that cannot be done; the message says what is allowed."""


def unpacked(archive: Path, data_dir: Path, named: dict[str, str]) -> list[str]:
    """The sets of an archive, now folders of `data_dir`; what was there before stays.

    Args:
        named: names that folders get in place of their own. An archive of train|test/CLASS alone is one set, which has the archive's name
            up to its first '-' or '.'.

    Raises:
        Refused: for what is no archive of images.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        done = subprocess.run(["tar", "xf", archive, "-C", folder], capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"archive {archive}: cannot be unpacked ({done.stderr.strip()[:200]})")
        sets = _sets(Path(folder), re.split(r"[-.]", archive.name)[0])
        if not sets:
            raise Refused(f"archive {archive}: no images in it; allowed: NAME/train|test/CLASS/FILE, or train|test/CLASS/FILE")
        for name, root in sets.items():
            if not (target := data_dir / named.get(name, name)).exists():
                root.rename(target)
    return sorted(named.get(name, name) for name in sets)


def _sets(folder: Path, alone: str) -> dict[str, Path]:
    """Folders with splits in them, by name; of one without a folder of its own, `alone` is the name."""
    if any((folder / split).is_dir() for split in SPLITS):
        (inner := folder / "alone").mkdir()
        for path in [path for path in folder.iterdir() if path != inner]:
            path.rename(inner / path.name)
        return {alone: inner}
    return {path.name: path for path in folder.iterdir() if any((path / split).is_dir() for split in SPLITS)}


def going_home(archive: Path) -> list[Path]:
    """The archive in files that are small enough: itself, or ARCHIVE.part-00 and so on in its place."""
    if archive.stat().st_size <= PART:
        return [archive]
    parts = []
    with archive.open("rb") as stream:
        while content := stream.read(PART):
            parts.append(archive.with_name(f"{archive.name}.part-{len(parts):02d}"))
            parts[-1].write_bytes(content)
    archive.unlink()
    return parts


def taken_in(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The archives of results among some files, whole again in a folder.

    Raises:
        Refused: if a part is missing.
    """
    archives: dict[str, list[Path]] = {}
    for path in sorted(paths):
        if ".results." in path.name:
            archives.setdefault(re.sub(r"\.part-\d+$", "", path.name), []).append(path)
    for name, parts in archives.items():
        numbers = [int(path.name.rpartition("-")[2]) for path in parts if ".part-" in path.name]
        if numbers != list(range(len(numbers))):
            raise Refused(f"{name}: its parts {numbers} are here; allowed: all of them from 0 on")
        (folder / name).write_bytes(b"".join(path.read_bytes() for path in parts))
    return [folder / name for name in archives]
