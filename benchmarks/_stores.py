"""Stores of any size: the runs of a study with many seeds, with the files that DeiT's smoke study left at the same points of its grid.

Each run has a description, identity, manifest and files of its own; only weights, which nothing here reads, are links to one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from vitlib.dumped import dump
from vitlib.runs.manifest import MANIFEST, digests_of, json_bytes, manifest_of
from vitlib.spec import RunSpec
from vitlib.studies.loading import load_study
from vitlib.studies.study import Study

DOCUMENT, PROFILE = "deit", "smoke"
WEIGHTS = "weights.safetensors"


def study(seeds: int, results: Path) -> Study:
    return load_study(DOCUMENT, PROFILE, overrides=overrides(seeds), results_dir=str(results), device="cpu")


def overrides(seeds: int) -> dict[str, list[int]]:
    return {"seeds": list(range(seeds))}


def seeds_for(runs: int, results: Path) -> int:
    """Seeds of the smallest study that has so many runs, those that others start from among them."""
    one, two = (len(_family(study(seeds, results))) for seeds in (1, 2))
    return max(1, 1 + -(-(runs - one) // (two - one)))


def grow(large: Study, small: Study, runs: int) -> None:
    """Store the first `runs` of the large study, parents first, as the small one (fewer seeds, computed) stored its own."""
    root, kept = large.place.results_dir, _Kept(small.place.results_dir)
    root.mkdir(parents=True)
    for (spec, like), _ in zip(_pairs(large, small), range(runs), strict=False):
        kept.copy(like.id, spec, root / spec.id)


class _Kept:
    """The files of computed runs, each read once."""

    def __init__(self, root: Path):
        self.root, self._read = root, {}

    def copy(self, like: str, spec: RunSpec, folder: Path) -> None:
        if like not in self._read:
            files = {path.name: path.read_bytes() for path in (self.root / like).iterdir() if path.name not in ("spec.json", MANIFEST)}
            self._read[like] = {name: content for name, content in files.items() if name != WEIGHTS}, digests_of(files)
        files, digests = self._read[like]
        files = files | {"spec.json": json_bytes({"id": spec.id, **dump(spec)})}
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if WEIGHTS in digests:
            os.link(self.root / like / WEIGHTS, folder / WEIGHTS)
        (folder / MANIFEST).write_bytes(manifest_of(digests | digests_of(files)))


def _pairs(large: Study, small: Study) -> Iterator[tuple[RunSpec, RunSpec]]:
    """Each run of the large study once, parents first, beside the one of the small study that differs in the seed alone."""
    seeds, seen = len(small.settings.seeds), set()
    at = {_point(cell): cell.spec for cell in small.cells}
    for cell in large.cells:
        point = cell.point | ({"seed": cell.point["seed"] % seeds} if "seed" in cell.point else {})
        like = at[json.dumps([cell.table, point], sort_keys=True)]
        for spec, other in zip(cell.spec.family(), like.family(), strict=True):
            if spec.id not in seen:
                seen.add(spec.id)
                yield spec, other


def _point(cell) -> str:
    return json.dumps([cell.table, cell.point], sort_keys=True)


def _family(large: Study) -> set[str]:
    return {member.id for spec in large.specs.values() for member in spec.family()}
