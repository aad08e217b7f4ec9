"""Which images a training is followed on, and its rate and budget chosen by. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vitlib.inputs.sets.folders import SPLITS


class Sourced(Protocol):
    source: str


def watched_split(data: Sourced, data_dir: Path) -> str:
    """`validation` where the source has such images beside its test images, otherwise `test`."""
    if data.source == "digits":
        return "validation"
    if not data.source.startswith("folder/"):
        return "test"
    root = data_dir / data.source.removeprefix("folder/")
    validation, test = (next((name for name in SPLITS[split] if (root / name).is_dir()), None) for split in ("validation", "test"))
    return "validation" if test and validation not in (None, test) else "test"
